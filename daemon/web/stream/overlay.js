// The SVG over the picture: corners around the selected track, and the points that the user has set.

import { svgElement } from "../parts/dom.js";
import { colour } from "../parts/format.js";

const POINT_SHOWN_FOR = 1800; // ms

export class Overlay {
  node = svgElement("svg", { class: "overlay", tabindex: "0", role: "application", preserveAspectRatio: "xMidYMid meet" });
  #corners = svgElement("path", { class: "corners", visibility: "hidden" });
  #shade = svgElement("path", { class: "corners shade", visibility: "hidden" });
  #points = svgElement("g");

  constructor() {
    this.node.append(this.#shade, this.#corners, this.#points);
  }

  /** Draws corners around `object`, an entry of a `masks` header that has pixels; hides them for null. */
  showCorners(object) {
    const shown = Boolean(object);
    for (const path of [this.#shade, this.#corners]) {
      path.setAttribute("visibility", shown ? "visible" : "hidden");
      if (shown) path.setAttribute("d", cornersPath(object.box));
    }
    if (shown) this.#corners.setAttribute("stroke", colour(object.id));
  }

  /** Draws a plus (`inside`) or a minus at a point. Returns a function that lets the sign fade out. */
  showPoint({ x, y }, inside, scale) {
    const r = 9 / scale;
    const arm = r * 0.5;
    const sign = `M${x - arm} ${y}h${2 * arm}` + (inside ? `M${x} ${y - arm}v${2 * arm}` : "");
    const group = svgElement(
      "g",
      { class: `point ${inside ? "inside" : "outside"} waiting` },
      svgElement("circle", { cx: x, cy: y, r }),
      svgElement("path", { d: sign }),
    );
    this.#points.append(group);
    return () => {
      group.classList.remove("waiting");
      setTimeout(() => group.remove(), POINT_SHOWN_FOR);
    };
  }
}

function cornersPath([x0, y0, x1, y1]) {
  const length = Math.min(x1 - x0, y1 - y0) * 0.28;
  const corner = (x, y, dx, dy) => `M${x + dx} ${y}H${x}V${y + dy}`;
  return [
    corner(x0, y0, length, length),
    corner(x1, y0, -length, length),
    corner(x1, y1, -length, -length),
    corner(x0, y1, length, -length),
  ].join("");
}
