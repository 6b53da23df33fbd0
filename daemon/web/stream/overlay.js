// What the page draws over the picture: the corners around the selected track, and the points that were given.

import { drawing } from "../parts/dom.js";
import { colour } from "../parts/format.js";

const SHOWN = 1800; // ms that a point stays

export class Overlay {
  node = drawing("svg", { class: "overlay", tabindex: "0", role: "application", preserveAspectRatio: "xMidYMid meet" });
  #corners = drawing("path", { class: "corners", visibility: "hidden" });
  #shade = drawing("path", { class: "corners shade", visibility: "hidden" });
  #points = drawing("g");

  constructor() {
    this.node.append(this.#shade, this.#corners, this.#points);
  }

  /** `track` as the API gives it, or null. */
  frame(track) {
    const shown = track && track.box[2] > track.box[0];
    for (const path of [this.#shade, this.#corners]) {
      path.setAttribute("visibility", shown ? "visible" : "hidden");
      if (shown) path.setAttribute("d", corners(track.box));
    }
    if (shown) this.#corners.setAttribute("stroke", colour(track.id));
  }

  /** A sign where somebody pointed; `inside` false is a minus. The returned function takes it away in a while. */
  point({ x, y }, inside, scale) {
    const r = 9 / scale;
    const arm = r * 0.5;
    const sign = `M${x - arm} ${y}h${2 * arm}` + (inside ? `M${x} ${y - arm}v${2 * arm}` : "");
    const group = drawing(
      "g",
      { class: `point ${inside ? "inside" : "outside"} waiting` },
      drawing("circle", { cx: x, cy: y, r }),
      drawing("path", { d: sign }),
    );
    this.#points.append(group);
    return () => {
      group.classList.remove("waiting");
      setTimeout(() => group.remove(), SHOWN);
    };
  }
}

function corners([x0, y0, x1, y1]) {
  const length = Math.min(x1 - x0, y1 - y0) * 0.28;
  const corner = (x, y, dx, dy) => `M${x + dx} ${y}H${x}V${y + dy}`;
  return [
    corner(x0, y0, length, length),
    corner(x1, y0, -length, length),
    corner(x1, y1, -length, -length),
    corner(x0, y1, length, -length),
  ].join("");
}
