// COCO run lengths to pixels: runs of 0 and 1 in turn, down one column after the other, the first of 0.

// `mask` as in the header -> Uint8Array of 0 and 1, row by row; the pixel (x, y) is at y * width + x.
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

// The compressed string: 5 bits a character, low ones first, the sixth says that more follow, the fifth of the last is
// the sign; from the fourth run on only the difference to the run before last is stored.
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
