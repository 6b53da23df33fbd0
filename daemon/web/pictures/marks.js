// Masks, outlines and labels of one frame, drawn over its picture at the screen's own resolution.

import { element } from "../parts/dom.js";
import { colour, twoDecimals } from "../parts/format.js";
import { DEFAULT, opacity } from "../parts/opacity.js";
import { place } from "./labels.js";
import { outline } from "./outline.js";

const [DARK, LIGHT] = ["#101018", "#fafafa"];
const OUTLINE = 1 / 300; // of the picture's shorter side
const PADDING = 4; // CSS pixels around a text

export class Marks {
  node = element("canvas", { class: "marks", "aria-hidden": "true" });
  #header = null;
  #shapes = []; // {object, path, colour} of what is seen, the largest first
  #classes = []; // the latest of the whole frame: they are found on some frames only

  /** Draws what `header`, that of a `masks` message, says of its frame. */
  show(header) {
    if (header.session !== this.#header?.session || header.epoch !== this.#header?.epoch) this.#classes = [];
    if (header.classes.length) this.#classes = header.classes;
    this.#header = header;
    this.#shapes = header.objects
      .filter((object) => object.area > 0)
      .sort((a, b) => b.area - a.area)
      .map((object) => ({ object, path: outline(object.mask, object.box), colour: colour(object.id) }));
    this.draw();
  }

  /** Draws the same again, for another size or opacity. */
  draw() {
    if (!this.#header) return;
    const { clientWidth, clientHeight } = this.node;
    const density = devicePixelRatio;
    const [width, height] = [Math.round(clientWidth * density), Math.round(clientHeight * density)];
    if (this.node.width !== width) this.node.width = width;
    if (this.node.height !== height) this.node.height = height;
    const context = this.node.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    // The picture is whole and centred in its frame.
    const scale = Math.min(width / this.#header.width, height / this.#header.height);
    const [left, top] = [(width - this.#header.width * scale) / 2, (height - this.#header.height * scale) / 2];
    context.setTransform(scale, 0, 0, scale, left, top);
    this.#drawShapes(context, Math.max(1.5 * density, Math.min(this.#header.width, this.#header.height) * OUTLINE * scale) / scale);
    // Labels have the size of the page's text, whatever the picture's.
    context.setTransform(density, 0, 0, density, left, top);
    this.#drawLabels(context, scale / density);
  }

  #drawShapes(context, lineWidth) {
    context.globalAlpha = opacity();
    for (const { path, colour } of this.#shapes) {
      context.fillStyle = colour;
      context.fill(path, "evenodd");
    }
    context.globalAlpha = Math.min(1, opacity() / DEFAULT);
    context.lineWidth = lineWidth;
    context.lineJoin = "round";
    for (const { path, colour } of this.#shapes) {
      context.strokeStyle = colour;
      context.stroke(path);
    }
    context.globalAlpha = 1;
  }

  /** `scale`: CSS pixels for a pixel of the picture. */
  #drawLabels(context, scale) {
    const style = getComputedStyle(this.node);
    const size = Number.parseFloat(style.fontSize);
    context.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    context.textBaseline = "middle";
    const height = Math.round(size * 1.5);
    const box = (text, x, y) => ({ text, x: Math.round(x), y: Math.round(y), width: Math.ceil(context.measureText(text).width) + 2 * PADDING, height });
    const labels = this.#shapes.map(({ object, colour }) => ({
      ...box(labelText(object, this.#classes), object.box[0] * scale, object.box[1] * scale - height),
      colour,
    }));
    place(labels, this.#header.width * scale, this.#header.height * scale);
    for (const label of labels) drawLabel(context, label, label.colour, DARK);
    let bottom = this.#header.height * scale;
    for (const { label, score } of this.#classes.filter((one) => one.id === undefined).reverse()) {
      bottom -= height;
      drawLabel(context, box(`${label} ${twoDecimals(score)}`, 0, bottom), DARK, LIGHT);
    }
  }
}

/** As in stages/output/annotate.py. */
function labelText(object, classes) {
  const named = classes.filter((one) => one.id === object.id).map((one) => one.label);
  return [`#${object.id}`, ...(object.prompt ? [object.prompt] : []), twoDecimals(object.score), ...named].join(" ");
}

function drawLabel(context, { text, x, y, width, height }, ground, ink) {
  context.fillStyle = ground;
  context.fillRect(x, y, width, height);
  context.fillStyle = ink;
  context.fillText(text, x + PADDING, y + height / 2 + 0.5);
}
