// Where the labels of objects stand: above their objects, inside the picture, and beside each other.

const GAP = 1; // pixels between two labels

/** Moves each of `boxes` ({x, y, width, height}) into `width` x `height` and down, until none lies on another. */
export function place(boxes, width, height) {
  const placed = [];
  for (const box of boxes) {
    box.x = Math.max(0, Math.min(box.x, width - box.width));
    box.y = Math.max(0, Math.min(box.y, height - box.height));
  }
  for (const box of [...boxes].sort((a, b) => a.y - b.y)) {
    const from = box.y;
    for (let other; (other = placed.find((one) => overlap(one, box))); ) box.y = other.y + other.height + GAP;
    if (box.y + box.height > height) box.y = from; // there is no room
    placed.push(box);
  }
}

const overlap = (a, b) =>
  a.x < b.x + b.width + GAP && b.x < a.x + a.width + GAP && a.y < b.y + b.height && b.y < a.y + a.height;
