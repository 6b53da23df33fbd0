// From a finger, a mouse or the arrow keys to picture pixels: a point, or a box that was drawn.

import { drawing } from "../parts/dom.js";

const DRAWN = 8; // CSS pixels that a pointer must travel to draw a box
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pointing {
  #overlay;
  #size = [0, 0];
  #start = null;
  #band = drawing("rect", { class: "band", visibility: "hidden" });
  #cross = drawing("path", { class: "cross", visibility: "hidden" });
  #at = null;
  #on;

  /** `overlay`: an SVG over the picture. `on.point({x, y, outside})`, `on.box([x0, y0, x1, y1])`, `on.leave()`. */
  constructor(overlay, on) {
    this.#overlay = overlay;
    this.#on = on;
    overlay.append(this.#band, this.#cross);
    overlay.addEventListener("pointerdown", (event) => this.#down(event));
    overlay.addEventListener("pointermove", (event) => this.#move(event));
    overlay.addEventListener("pointerup", (event) => this.#up(event));
    overlay.addEventListener("pointercancel", () => this.#forget());
    overlay.addEventListener("keydown", (event) => this.#key(event));
    overlay.addEventListener("blur", () => this.#showCross(null));
  }

  /** The picture's pixels; the overlay's units from now on. */
  resize(width, height) {
    if (width === this.#size[0] && height === this.#size[1]) return;
    this.#size = [width, height];
    this.#at = null;
    this.#overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  /** Where on the picture the event is, or null beside it. The picture is centred and whole, at any scale. */
  #pixel(event, inside = true) {
    const [width, height] = this.#size;
    const frame = this.#overlay.getBoundingClientRect();
    const scale = Math.min(frame.width / width, frame.height / height);
    const x = (event.clientX - frame.left - (frame.width - width * scale) / 2) / scale;
    const y = (event.clientY - frame.top - (frame.height - height * scale) / 2) / scale;
    if (inside && !(x >= 0 && y >= 0 && x < width && y < height)) return null;
    return { x: within(x, width), y: within(y, height) };
  }

  #down(event) {
    const pixel = event.isPrimary && event.button === 0 ? this.#pixel(event) : null;
    this.#start = pixel && { pixel, x: event.clientX, y: event.clientY, drawing: false };
    // A finger that travels scrolls the page.
    if (pixel && event.pointerType !== "touch") this.#overlay.setPointerCapture(event.pointerId);
  }

  #move(event) {
    if (!this.#start || event.pointerType === "touch") return;
    const travelled = Math.hypot(event.clientX - this.#start.x, event.clientY - this.#start.y);
    if (travelled < DRAWN && !this.#start.drawing) return;
    this.#start.drawing = true;
    const [x0, y0, x1, y1] = spanned(this.#start.pixel, this.#pixel(event, false));
    attributes(this.#band, { x: x0, y: y0, width: x1 - x0, height: y1 - y0, visibility: "visible" });
  }

  #up(event) {
    const start = this.#start;
    this.#forget();
    if (!start || !event.isPrimary) return;
    if (!start.drawing) return this.#on.point({ ...start.pixel, outside: event.altKey || event.shiftKey });
    const box = spanned(start.pixel, this.#pixel(event, false));
    if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) this.#on.box(box);
  }

  #forget() {
    this.#start = null;
    this.#band.setAttribute("visibility", "hidden");
  }

  #key(event) {
    if (event.key === "Escape") return this.#on.leave();
    const step = STEPS[event.key];
    if (!step && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const [width, height] = this.#size;
    const { x, y } = this.#at ?? { x: width / 2, y: height / 2 };
    if (!step) return this.#on.point({ x, y, outside: event.altKey || event.shiftKey });
    const stride = Math.max(1, Math.max(width, height) * (event.shiftKey ? 0.05 : 0.01));
    this.#showCross({ x: within(x + step[0] * stride, width), y: within(y + step[1] * stride, height) });
  }

  #showCross(at) {
    this.#at = at ?? this.#at;
    this.#cross.setAttribute("visibility", at ? "visible" : "hidden");
    if (!at) return;
    const [width, height] = this.#size;
    this.#cross.setAttribute("d", `M${at.x} 0V${height}M0 ${at.y}H${width}`);
  }
}

const within = (value, side) => Math.min(Math.max(value, 0), side - 1);

const spanned = (a, b) => [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];

function attributes(node, values) {
  for (const [name, value] of Object.entries(values)) node.setAttribute(name, value);
}
