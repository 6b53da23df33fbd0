// The list of events: days, and below each its events with thumbnail, subject, type, stream and time.

import { eventPath } from "../api.js";
import { element, reconcile, setAttributes, setText } from "../parts/dom.js";
import { Thumbnails } from "./thumbnails.js";
import { clock, dayName, dayOf, happening, moment, subject } from "./words.js";

export class EventList {
  #thumbnails = new Thumbnails();
  #colours;
  #choose;
  node = element("ul", { class: "events" });

  /** `choose(event)` is called for the event that the viewer picks. */
  constructor(colours, choose) {
    this.#colours = colours;
    this.#choose = choose;
  }

  update(events, selected) {
    reconcile(
      this.node,
      withDays(events),
      (item) => item.key ?? item.id,
      (item) => (item.key ? element("li", { class: "day" }, element("h3")) : this.#row()),
      (node, item) => (item.key ? setText(node.firstChild, item.name) : this.#updateRow(node, item, item.id === selected)),
    );
  }

  /** Moves the keyboard's focus to the event with this id, if it is still listed. */
  focus(id) {
    this.node.querySelector(`[data-key="${id}"] button`)?.focus();
  }

  close() {
    this.#thumbnails.close();
  }

  #row() {
    const words = [
      element("span", { class: "row" }, element("i", { class: "dot", "aria-hidden": "true" }), element("span", { class: "name" }), element("time")),
      element("span", { class: "row" }, element("span", { class: "what" }), element("span", { class: "where" })),
    ];
    const thumbnail = element("span", { class: "thumbnail" }, element("img", { alt: "" }));
    const row = element("li", {}, element("button", { class: "event", type: "button" }, thumbnail, ...words));
    row.firstChild.addEventListener("click", () => this.#choose(row.event));
    return row;
  }

  #updateRow(row, event, selected) {
    if (row.event === event && row.selected === selected) return; // the usual case, with many rows
    Object.assign(row, { event, selected });
    const find = (name) => row.querySelector(name);
    setAttributes(row, { class: selected ? "selected" : null });
    setAttributes(row.firstChild, { "aria-pressed": String(selected), "aria-label": label(event) });
    setText(find(".name"), subject(event));
    setText(find(".what"), happening(event));
    setText(find(".where"), event.stream);
    setText(find("time"), clock(event.time));
    setAttributes(find("time"), { datetime: new Date(event.time * 1000).toISOString() });
    find(".dot").style.setProperty("--colour", this.#colours.of(event.prompt));
    if (event.snapshot) this.#thumbnails.watch(find("img"), eventPath(event.id, "snapshot.jpg"));
  }
}

/** The events with an item `{key, name}` before the first one of each day. */
function withDays(events) {
  const items = [];
  let day = null;
  for (const event of events) {
    const { start } = dayOf(event.time);
    if (start !== day) items.push({ key: `day ${start}`, name: dayName(event.time) });
    day = start;
    items.push(event);
  }
  return items;
}

function label(event) {
  const parts = [subject(event), happening(event), event.stream, moment(event.time), event.clip ? "play its clip" : "no clip"];
  return parts.filter(Boolean).join(", ");
}
