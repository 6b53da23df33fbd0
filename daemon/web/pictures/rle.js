// COCO's run-length encoding of masks: runs of 0 and 1 in turn, column by column, starting with 0.

/** The run lengths of `counts`, COCO's compressed string; a list of plain integers is returned as it is. */
export function runLengths(counts) {
  if (typeof counts !== "string") return counts;
  const runs = [];
  // Each character holds five bits of a number, low bits first; its sixth bit is set when more bits follow.
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    let bits;
    do {
      bits = counts.charCodeAt(at++) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
    } while (bits & 32);
    if (bits & 16) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs.at(-2) : value);
  }
  return runs;
}
