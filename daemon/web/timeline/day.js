// A day's bar: how much of each prompt was seen in every quarter of an hour, and a slider that goes to a time.

import { element, reconcile, setAttributes, setText, svgElement } from "../parts/dom.js";
import { count } from "../parts/format.js";
import { date, hour, minute } from "./words.js";

export const STEP = 900; // seconds; every zone's midnight is a multiple of it
const HOURS_BETWEEN_MARKS = 3;
const GO_AFTER = 250; // ms after the last key

export class DayBar {
  #plot = svgElement("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
  #cursor = element("i", { class: "cursor", "aria-hidden": "true" });
  #tip = element("output", { class: "tip", "aria-hidden": "true", hidden: true });
  #slider = element("input", { type: "range", min: 0, step: 1 });
  #bar = element("div", { class: "bar" }, this.#plot, this.#cursor, this.#slider, this.#tip);
  #hours = element("div", { class: "hours", "aria-hidden": "true" });
  #legend = element("ul", { class: "legend" });
  #colours;
  #day = { start: 0, end: STEP };
  #buckets = new Map(); // number of the quarter -> [[prompt, count], ...]
  #timer = 0;
  node = element("section", { class: "card day-bar", "aria-label": "What was seen on this day", hidden: true }, this.#bar, this.#hours, this.#legend);

  /** `go(seconds)` is called with the end of the quarter of an hour that the viewer picks. */
  constructor(colours, go) {
    this.#colours = colours;
    const end = (bucket) => Math.min(this.#day.start + (bucket + 1) * STEP, this.#day.end);
    this.#bar.addEventListener("click", (event) => go(end(this.#bucketAt(event))));
    this.#bar.addEventListener("pointermove", (event) => this.#showTip(this.#bucketAt(event)));
    this.#bar.addEventListener("pointerleave", () => this.#showTip(null));
    this.#slider.addEventListener("blur", () => this.#showTip(null));
    this.#slider.addEventListener("input", () => {
      const bucket = Number(this.#slider.value);
      this.#showTip(bucket);
      this.#nameValue();
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => go(end(bucket)), GO_AFTER);
    });
  }

  /** `day`: start and end; `counts`: as the API returns them for it; `to`: the time that the list starts at, or null. */
  update(day, counts, to) {
    this.#day = day;
    this.#buckets = this.#byBucket(counts);
    this.node.hidden = !counts.length;
    const last = Math.ceil((day.end - day.start) / STEP) - 1;
    const at = to ?? Math.min(Date.now() / 1000, day.end);
    this.#cursor.hidden = to === null;
    this.#cursor.style.setProperty("--at", this.#share(at));
    setAttributes(this.#slider, { max: last, "aria-label": `Time on ${date(day.start)}` });
    if (document.activeElement !== this.#slider) this.#slider.value = Math.min(last, Math.max(0, this.#bucketOf(at - 1)));
    this.#nameValue();
    this.#draw(last + 1);
    this.#mark();
    this.#nameColours(counts);
  }

  close() {
    clearTimeout(this.#timer);
  }

  #byBucket(counts) {
    const buckets = new Map();
    for (const { time, prompt, count: number } of inOrder(counts)) {
      const bucket = this.#bucketOf(time);
      buckets.set(bucket, [...(buckets.get(bucket) ?? []), [prompt, number]]);
    }
    return buckets;
  }

  #bucketOf(seconds) {
    return Math.floor((seconds - this.#day.start) / STEP);
  }

  #share(seconds) {
    return (seconds - this.#day.start) / (this.#day.end - this.#day.start);
  }

  #bucketAt(event) {
    const { left, width } = this.#bar.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - left) / width, 0), 0.9999);
    return this.#bucketOf(this.#day.start + share * (this.#day.end - this.#day.start));
  }

  #draw(length) {
    const total = (parts) => parts.reduce((sum, [, number]) => sum + number, 0);
    const top = Math.max(...[...this.#buckets.values()].map(total), 1);
    const rects = [];
    for (const [bucket, parts] of this.#buckets) {
      let y = 100;
      for (const [prompt, number] of parts) {
        const height = Math.max((96 * number) / top, 4);
        y -= height;
        rects.push(svgElement("rect", { x: bucket + 0.08, y, width: 0.84, height, fill: this.#colours.of(prompt) }));
      }
    }
    setAttributes(this.#plot, { viewBox: `0 0 ${length} 100` });
    this.#plot.replaceChildren(...rects);
  }

  #mark() {
    const midnight = new Date(this.#day.start * 1000);
    const hours = Array.from({ length: 24 / HOURS_BETWEEN_MARKS }, (_, mark) => mark * HOURS_BETWEEN_MARKS);
    const time = (past) => new Date(midnight.getFullYear(), midnight.getMonth(), midnight.getDate(), past).getTime() / 1000;
    const update = (node, past) => {
      setText(node, hour(time(past)));
      node.style.setProperty("--at", this.#share(time(past)));
    };
    reconcile(this.#hours, hours, String, () => element("span"), update);
  }

  #nameColours(counts) {
    const totals = new Map();
    for (const { prompt, count: number } of inOrder(counts)) totals.set(prompt, (totals.get(prompt) ?? 0) + number);
    const update = (node, [prompt, number]) => {
      node.firstChild.style.setProperty("--colour", this.#colours.of(prompt));
      setText(node.lastChild, `${prompt ?? "without a prompt"} ${count(number)}`);
    };
    const create = () => element("li", {}, element("i", { class: "dot", "aria-hidden": "true" }), element("span"));
    reconcile(this.#legend, [...totals], ([prompt]) => prompt ?? "", create, update);
  }

  #nameValue() {
    setAttributes(this.#slider, { "aria-valuetext": this.#words(Number(this.#slider.value)) });
  }

  #showTip(bucket) {
    this.#tip.hidden = bucket === null;
    if (bucket === null) return;
    setText(this.#tip, this.#words(bucket));
    this.#tip.style.setProperty("--at", this.#share(this.#day.start + (bucket + 0.5) * STEP));
  }

  /** 14:15: 3 car, 1 person */
  #words(bucket) {
    const parts = this.#buckets.get(bucket) ?? [];
    const what = parts.map(([prompt, number]) => `${count(number)} ${prompt ?? "without a prompt"}`);
    return `${minute(this.#day.start + bucket * STEP)}: ${what.join(", ") || "nothing"}`;
  }
}

/** By prompt; what has none comes first. */
function inOrder(counts) {
  const key = ({ prompt }) => prompt ?? "";
  return [...counts].sort((one, other) => (key(one) < key(other) ? -1 : 1));
}
