// The outline of a mask as a path in pixels of the picture, so that it is sharp at any size.

import { runLengths } from "./rle.js";

/** The pixels of a mask inside its box, with an empty border of one pixel around them, column by column. */
function crop(mask, [x0, y0, x1, y1]) {
  const height = mask.size[0];
  const rows = y1 - y0 + 2;
  const pixels = new Uint8Array((x1 - x0 + 2) * rows);
  const tops = []; // places of pixels whose upper neighbour is empty
  let at = 0;
  runLengths(mask.counts).forEach((length, index) => {
    const end = at + length;
    // A run may go on from the bottom of one column to the top of the next.
    for (let from = index % 2 ? at : end; from < end; ) {
      const row = from % height;
      const count = Math.min(end - from, height - row);
      const place = ((from - row) / height - x0 + 1) * rows + row - y0 + 1;
      pixels.fill(1, place, place + count);
      tops.push(place);
      from += count;
    }
    at = end;
  });
  return { pixels, rows, tops };
}

// Directions of a walk along the edges of pixels, with the mask at the right hand: right, down, left, up.
const MIDDLES = [[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]]; // of the edge of a pixel that is walked along
const WALKED = 2; // set in a pixel whose upper edge belongs to a loop that is drawn already

/** The path of `mask`, a code of the mask stream, whose pixels lie in `box`. To be filled by the rule "evenodd". */
export function outline(mask, box) {
  const path = new Path2D();
  if (!(box[2] > box[0] && box[3] > box[1])) return path;
  const { pixels, rows, tops } = crop(mask, box);
  const steps = [rows, 1, -rows, -1]; // to the next pixel in each direction
  for (const top of tops) if (!(pixels[top] & WALKED)) addLoop(top);
  return path;

  /** Adds the closed line through the middles of the edges around the mask that begins on top of the pixel at `start`. */
  function addLoop(start) {
    let [place, direction, straight] = [start, 0, false];
    path.moveTo(...middle(place, direction));
    do {
      if (direction === 0) pixels[place] |= WALKED;
      const ahead = place + steps[direction];
      const left = ahead + steps[(direction + 3) % 4];
      const before = [place, direction];
      if (pixels[left]) [place, direction] = [left, (direction + 3) % 4];
      else if (pixels[ahead]) place = ahead;
      else direction = (direction + 1) % 4;
      const turned = direction !== before[1];
      if (turned && straight) path.lineTo(...middle(...before));
      if (turned) path.lineTo(...middle(place, direction));
      straight = !turned;
    } while (place !== start || direction !== 0);
    path.closePath();
  }

  function middle(place, direction) {
    const row = place % rows;
    const [dx, dy] = MIDDLES[direction];
    return [(place - row) / rows - 1 + box[0] + dx, row - 1 + box[1] + dy];
  }
}
