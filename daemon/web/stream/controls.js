// How the picture is shown: the opacity of its masks, and full screen.

import { element, icon, setAttributes } from "../parts/dom.js";
import { isFull, onFull, setFull } from "../parts/fullscreen.js";
import { opacity, setOpacity } from "../parts/opacity.js";

export class Controls {
  #slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, "aria-label": "Opacity of the masks" });
  #full = element("button", { class: "round plain", type: "button", onclick: () => setFull(!isFull()) });
  #forget = onFull(() => this.#update());
  node = element("div", { class: "controls" }, element("label", { class: "inline" }, "Masks", this.#slider), this.#full);

  constructor() {
    this.#slider.value = opacity();
    this.#slider.addEventListener("input", () => setOpacity(this.#slider.valueAsNumber));
    this.#update();
  }

  close() {
    this.#forget();
    setFull(false);
  }

  #update() {
    const name = isFull() ? "Leave full screen" : "Full screen";
    this.#full.replaceChildren(icon(isFull() ? "shrink" : "expand"));
    setAttributes(this.#full, { "aria-label": name, title: name });
  }
}
