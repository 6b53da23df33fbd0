// Turns touch, mouse and keyboard input into points and boxes in pixels of the picture.

import { svgElement } from "../parts/dom.js";

const DRAG_THRESHOLD = 8; // CSS pixels from which a movement draws a box
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pointing {
  #overlay;
  #size = [0, 0];
  #start = null;
  #band = svgElement("rect", { class: "band", visibility: "hidden" });
  #cross = svgElement("path", { class: "cross", visibility: "hidden" });
  #cursor = null;
  #on;

  /** `overlay`: an SVG over the picture. `on.begin()` before any, `on.point({x, y, outside})`, `on.box([x0, y0, x1, y1])`, `on.leave()`. */
  constructor(overlay, on) {
    this.#overlay = overlay;
    this.#on = on;
    overlay.append(this.#band, this.#cross);
    overlay.addEventListener("pointerdown", (event) => this.#down(event));
    overlay.addEventListener("pointermove", (event) => this.#move(event));
    overlay.addEventListener("pointerup", (event) => this.#up(event));
    overlay.addEventListener("pointercancel", () => this.#cancel());
    overlay.addEventListener("keydown", (event) => this.#key(event));
    overlay.addEventListener("blur", () => this.#showCross(null));
  }

  /** Sets the picture's size in pixels, which become the units of the overlay. */
  resize(width, height) {
    if (width === this.#size[0] && height === this.#size[1]) return;
    this.#size = [width, height];
    this.#cursor = null;
    this.#overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  /** The picture's pixel at the event. Outside: null, or clamped if not `inside`. The picture is centred and fits the frame. */
  #pixel(event, inside = true) {
    const [width, height] = this.#size;
    const frame = this.#overlay.getBoundingClientRect();
    const scale = Math.min(frame.width / width, frame.height / height);
    const x = (event.clientX - frame.left - (frame.width - width * scale) / 2) / scale;
    const y = (event.clientY - frame.top - (frame.height - height * scale) / 2) / scale;
    if (inside && !(x >= 0 && y >= 0 && x < width && y < height)) return null;
    return { x: clampToPicture(x, width), y: clampToPicture(y, height) };
  }

  #down(event) {
    const pixel = event.isPrimary && event.button === 0 ? this.#pixel(event) : null;
    if (pixel) this.#on.begin();
    this.#start = pixel && { pixel, x: event.clientX, y: event.clientY, drawing: false };
    // Moving a finger scrolls the page.
    if (pixel && event.pointerType !== "touch") this.#overlay.setPointerCapture(event.pointerId);
  }

  #move(event) {
    if (!this.#start || event.pointerType === "touch") return;
    const distance = Math.hypot(event.clientX - this.#start.x, event.clientY - this.#start.y);
    if (distance < DRAG_THRESHOLD && !this.#start.drawing) return;
    this.#start.drawing = true;
    const [x0, y0, x1, y1] = boxBetween(this.#start.pixel, this.#pixel(event, false));
    setSvgAttributes(this.#band, { x: x0, y: y0, width: x1 - x0, height: y1 - y0, visibility: "visible" });
  }

  #up(event) {
    const start = this.#start;
    this.#cancel();
    if (!start || !event.isPrimary) return;
    if (!start.drawing) return this.#on.point({ ...start.pixel, outside: event.altKey || event.shiftKey });
    const box = boxBetween(start.pixel, this.#pixel(event, false));
    if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) this.#on.box(box);
  }

  #cancel() {
    this.#start = null;
    this.#band.setAttribute("visibility", "hidden");
  }

  #key(event) {
    if (event.key === "Escape") return this.#on.leave();
    const step = STEPS[event.key];
    if (!step && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const [width, height] = this.#size;
    const { x, y } = this.#cursor ?? { x: width / 2, y: height / 2 };
    if (!step) this.#on.begin();
    if (!step) return this.#on.point({ x, y, outside: event.altKey || event.shiftKey });
    const stride = Math.max(1, Math.max(width, height) * (event.shiftKey ? 0.05 : 0.01));
    this.#showCross({ x: clampToPicture(x + step[0] * stride, width), y: clampToPicture(y + step[1] * stride, height) });
  }

  #showCross(at) {
    this.#cursor = at ?? this.#cursor;
    this.#cross.setAttribute("visibility", at ? "visible" : "hidden");
    if (!at) return;
    const [width, height] = this.#size;
    this.#cross.setAttribute("d", `M${at.x} 0V${height}M0 ${at.y}H${width}`);
  }
}

const clampToPicture = (value, side) => Math.min(Math.max(value, 0), side - 1);

const boxBetween = (a, b) => [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];

function setSvgAttributes(node, values) {
  for (const [name, value] of Object.entries(values)) node.setAttribute(name, value);
}
