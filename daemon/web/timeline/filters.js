// What the viewer chooses: a stream, a type of event, a prompt, and a day.

import { element, reconcile, setAttributes, setText } from "../parts/dom.js";
import { TYPES, capitalised, dayOf } from "./words.js";

export class Filters {
  #stream = element("select");
  #type = element("select");
  #prompt = element("select");
  #date = element("input", { type: "date", "aria-label": "Day", required: true });
  #before = element("button", { class: "button", type: "button", "aria-label": "The day before" }, "‹");
  #after = element("button", { class: "button", type: "button", "aria-label": "The day after" }, "›");
  #newest = element("button", { class: "button quiet", type: "button" }, "Newest");
  #choices = element("div", { class: "choices" });
  node = element("div", { class: "filters", role: "search", "aria-label": "Events" }, this.#choices);

  /** `change(part)` is called with the part of the query that the viewer changes. */
  constructor(change) {
    for (const [select, name, label] of [[this.#type, "type", "Show"], [this.#prompt, "prompt", "Prompt"], [this.#stream, "stream", "Stream"]]) {
      select.addEventListener("change", () => change({ [name]: select.value }));
      this.#choices.append(element("label", { class: "inline" }, label, select));
    }
    this.node.append(element("div", { class: "days", role: "group", "aria-label": "Day" }, this.#before, this.#date, this.#after, this.#newest));
    this.#date.addEventListener("change", () => this.#date.value && change({ to: endOf(noonOf(this.#date.value)) }));
    for (const [button, offset] of [[this.#before, -1], [this.#after, 1]]) {
      button.addEventListener("click", () => change({ to: endOf(noonOf(this.#date.value), offset) }));
    }
    this.#newest.addEventListener("click", () => change({ to: null }));
  }

  /** `day`: start and end of the day that is shown. */
  update(query, day, streams, prompts) {
    options(this.#type, [["", "Everything"], ...Object.entries(TYPES).map(([type, word]) => [type, capitalised(word)])], query.type);
    options(this.#prompt, [["", "All prompts"], ...prompts.map((prompt) => [prompt, prompt])], query.prompt);
    options(this.#stream, [["", "All streams"], ...streams.map((stream) => [stream, stream])], query.stream);
    const today = dayOf(Date.now() / 1000);
    if (document.activeElement !== this.#date) this.#date.value = dateValue(day.start);
    setAttributes(this.#date, { max: dateValue(today.start) });
    setAttributes(this.#after, { disabled: day.start >= today.start });
    this.#newest.hidden = query.to === null;
  }
}

function options(select, all, chosen) {
  const items = all.some(([value]) => value === chosen) ? all : [...all, [chosen, chosen]];
  reconcile(select, items, ([value]) => value, ([value]) => element("option", { value }), (node, [, name]) => setText(node, name));
  if (select.value !== chosen) select.value = chosen;
}

/** The end of the day `offset` days from the one around `seconds`; null if that is today or later: then the newest is shown. */
function endOf(seconds, offset = 0) {
  const { end } = dayOf(seconds, offset);
  return end > Date.now() / 1000 ? null : end;
}

const noonOf = (value) => new Date(`${value}T12:00`).getTime() / 1000;

/** 2026-11-28, as <input type="date"> wants it, in the viewer's zone. */
function dateValue(seconds) {
  const then = new Date(seconds * 1000);
  const padded = (number, digits) => String(number).padStart(digits, "0");
  return [padded(then.getFullYear(), 4), padded(then.getMonth() + 1, 2), padded(then.getDate(), 2)].join("-");
}
