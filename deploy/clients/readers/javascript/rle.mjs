// Decodes COCO run lengths: alternating runs of 0 and 1, column by column, starting with 0.

// Decodes `mask` of a header to a Uint8Array of 0 and 1, row by row: pixel (x, y) is at y * width + x.
export function decode({ size: [height, width], counts }) {
  const runs = typeof counts === "string" ? parse(counts) : counts;
  const pixels = new Uint8Array(height * width);
  let at = 0;
  runs.forEach((run, index) => {
    for (const end = at + run; at < end; at++) pixels[(at % height) * width + Math.floor(at / height)] = index % 2;
  });
  if (at !== pixels.length) throw new Error(`a mask's runs fill ${at} of its ${pixels.length} pixels`);
  return pixels;
}

// The compressed string: each character holds 5 bits of a number, low bits first. Bit 6 is set when more characters of
// the number follow; bit 5 of its last character is the sign. From the fourth run on, the difference to the run two
// before is stored.
function parse(text) {
  const runs = [];
  for (let at = 0; at < text.length; ) {
    let value = 0, shift = 0, code;
    do {
      code = text.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value -= 2 ** shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}
