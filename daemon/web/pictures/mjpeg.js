// multipart/x-mixed-replace, part by part.

const LONGEST_HEADER = 4096; // bytes

/** The JPEGs of `body`, a ReadableStream, as Uint8Arrays. Parts must say their Content-Length. */
export async function* jpegs(body) {
  const reader = body.getReader();
  let bytes = new Uint8Array(0);
  try {
    for (;;) {
      const part = firstPart(bytes);
      if (part) {
        yield bytes.slice(part.start, part.end);
        bytes = bytes.slice(part.end);
        continue;
      }
      const { done, value } = await reader.read();
      if (done) return;
      bytes = joined(bytes, value);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function joined(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

/** Where the first part's JPEG lies, or null while it is not whole. */
function firstPart(bytes) {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, LONGEST_HEADER));
  const header = /content-length:\s*(\d+)[^]*?\r\n\r\n/i.exec(text);
  if (!header) {
    if (bytes.length > LONGEST_HEADER) throw new Error("a part without Content-Length");
    return null;
  }
  const start = header.index + header[0].length;
  const end = start + Number(header[1]);
  return end <= bytes.length ? { start, end } : null;
}
