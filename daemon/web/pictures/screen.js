// A frame of a stream on the page: its picture, and over it what is known of it.

import { element } from "../parts/dom.js";
import { onOpacity } from "../parts/opacity.js";
import { Marks } from "./marks.js";

export class Screen {
  #picture = element("canvas", { class: "frame", role: "img" });
  #marks = new Marks();
  #resized = new ResizeObserver(() => this.#marks.draw());
  #forget = onOpacity(() => this.#marks.draw());
  header = null; // of the masks of the frame that is shown, as the mask stream has it; null before the first
  node = element("div", { class: "picture" }, this.#picture, this.#marks.node);

  /** `label`: what the picture is, for those who do not see it. */
  constructor(label) {
    this.#picture.setAttribute("aria-label", label);
    this.#resized.observe(this.node);
  }

  /** Shows the decoded picture of a frame with its masks. */
  show(picture, header) {
    const { width, height } = picture;
    if (this.#picture.width !== width) this.#picture.width = width;
    if (this.#picture.height !== height) this.#picture.height = height;
    this.#picture.getContext("2d").drawImage(picture, 0, 0);
    this.#marks.show(header);
    this.header = header;
    this.node.dataset.frame = header.frame;
  }

  /** The object of the frame shown with this id, an entry of its header that has pixels; null if there is none. */
  object(id) {
    return this.header?.objects.find((object) => object.id === id && object.area > 0) ?? null;
  }

  /** Draws the part of the picture around `box` on `canvas`, which is square; the sides are the longer side of the box. */
  cut([x0, y0, x1, y1], canvas) {
    const side = Math.max(x1 - x0, y1 - y0) * 1.2;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(this.#picture, (x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
  }

  close() {
    this.#resized.disconnect();
    this.#forget();
  }
}
