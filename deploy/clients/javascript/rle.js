// COCO run lengths to pixels: alternating runs of 0 and 1, column by column, starting with 0.

import { MessageError } from "./errors.js";

// The smallest rectangle that holds all pixels of `mask`, as in a header: { x, y, width, height, pixels }, `pixels` row
// by row, 0 or 1. An empty mask has a rectangle of no size at (0, 0). Throws MessageError for damaged run lengths.
export function cut({ size: [height, width], counts }) {
  const runs = typeof counts === "string" ? uncompressed(counts) : counts;
  if (!Array.isArray(runs) || !runs.every((run) => Number.isSafeInteger(run) && run >= 0)) throw damaged();
  if (runs.reduce((sum, run) => sum + run, 0) !== height * width) throw damaged();
  let left = Infinity, right = -1, top = Infinity, bottom = -1;
  ones(runs, (start, stop) => {
    left = Math.min(left, Math.floor(start / height));
    right = Math.max(right, Math.floor((stop - 1) / height));
    const whole = Math.floor(start / height) !== Math.floor((stop - 1) / height); // it goes on in the next column
    top = whole ? 0 : Math.min(top, start % height);
    bottom = whole ? height - 1 : Math.max(bottom, (stop - 1) % height);
  });
  if (right < 0) return { x: 0, y: 0, width: 0, height: 0, pixels: new Uint8Array(0) };
  const crop = { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
  const pixels = new Uint8Array(crop.width * crop.height);
  ones(runs, (start, stop) => {
    let column = Math.floor(start / height) - left;
    let row = (start % height) - top;
    for (let at = start; at < stop; at++) {
      pixels[row * crop.width + column] = 1;
      if (++row + top === height) [row, column] = [-top, column + 1];
    }
  });
  return { ...crop, pixels };
}

// Calls visit(start, stop) for each run of 1.
function ones(runs, visit) {
  let at = 0;
  runs.forEach((run, index) => {
    if (index % 2 && run) visit(at, at + run);
    at += run;
  });
}

// The run lengths of the compressed string: each character holds 5 bits of a number, low bits first. Bit 6 is set when
// more characters of the number follow; bit 5 of its last character is the sign. From the fourth run on, the difference
// to the run two before is stored.
function uncompressed(text) {
  const runs = [];
  for (let at = 0; at < text.length; ) {
    let value = 0, scale = 1, code;
    do {
      code = text.charCodeAt(at++) - 48;
      if (!(code >= 0 && code < 64) || scale > 2 ** 35) throw damaged();
      value += (code & 31) * scale;
      scale *= 32;
    } while (code & 32);
    if (code & 16) value -= scale;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

function damaged() {
  return new MessageError("a mask's runs do not fill its pixels: the message is damaged");
}
