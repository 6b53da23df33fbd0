// Parser of multipart/x-mixed-replace.

const MAX_HEADER = 4096; // bytes

/** The parts of `body`, a ReadableStream: {type, bytes}. Each part must have a Content-Length. */
export async function* parts(body) {
  const reader = body.getReader();
  let bytes = new Uint8Array(0);
  try {
    for (;;) {
      const part = firstPart(bytes);
      if (part) {
        yield { type: part.type, bytes: bytes.slice(part.start, part.end) };
        bytes = bytes.slice(part.end);
        continue;
      }
      const { done, value } = await reader.read();
      if (done) return;
      bytes = concatenate(bytes, value);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function concatenate(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

/** Type, start and end of the first part; null while it is incomplete. */
function firstPart(bytes) {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, MAX_HEADER));
  const header = /content-length:\s*\d+[^]*?\r\n\r\n/i.exec(text);
  if (!header) {
    if (bytes.length > MAX_HEADER) throw new Error("a part without Content-Length");
    return null;
  }
  const start = header.index + header[0].length;
  const field = (name) => new RegExp(`^${name}:\\s*(.*?)\r$`, "im").exec(text.slice(0, start))?.[1] ?? "";
  const end = start + Number(field("content-length"));
  return end <= bytes.length ? { type: field("content-type"), start, end } : null;
}
