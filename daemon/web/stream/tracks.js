// The list of a stream's tracks.

import { element, icon, mark, reconcile, say } from "../parts/dom.js";
import { age, colour, plural, share } from "../parts/format.js";

export class Tracks {
  #list = element("ul", { class: "tracks" });
  #total = element("span", { class: "total" });
  #none = element("p", { class: "none" });
  #on;
  node = element(
    "section",
    { class: "card", "aria-labelledby": "tracks-title" },
    element("h2", { id: "tracks-title" }, "Tracks ", this.#total),
    this.#list,
    this.#none,
  );

  /** `on.select(id)`, `on.remove(id)`, `on.hover(id or null)`. */
  constructor(on) {
    this.#on = on;
  }

  /** `leaving`: ids that are being removed. */
  update(stream, selected, leaving) {
    const tracks = [...stream.tracks].sort((a, b) => a.id - b.id);
    say(this.#total, tracks.length ? String(tracks.length) : "");
    say(this.#none, tracks.length ? "" : nothing(stream));
    reconcile(
      this.#list,
      tracks,
      (track) => track.id,
      (track) => this.#row(track.id),
      (row, track) => refresh(row, track, track.id === selected, leaving.has(track.id)),
    );
  }

  #row(id) {
    const tag = element("span", { class: "tag" }, `#${id}`);
    tag.style.setProperty("--colour", colour(id));
    const main = element(
      "button",
      { class: "track", type: "button", onclick: () => this.#on.select(id) },
      tag,
      element("span", { class: "row" }, element("span", { class: "name" }), element("span", { class: "age" })),
      element("span", { class: "row" }, element("span", { class: "state" }), meter("score"), meter("presence")),
    );
    main.addEventListener("pointerenter", () => this.#on.hover(id));
    main.addEventListener("pointerleave", () => this.#on.hover(null));
    main.addEventListener("focus", () => this.#on.hover(id));
    main.addEventListener("blur", () => this.#on.hover(null));
    const remove = { class: "round", type: "button", "aria-label": `Remove track ${id}`, title: "Remove this track" };
    return element("li", {}, main, element("button", { ...remove, onclick: () => this.#on.remove(id) }, icon("cross")));
  }
}

function meter(name) {
  return element("span", { class: `meter ${name}` }, `${name} `, element("b"), element("i", { "aria-hidden": "true" }));
}

function refresh(row, track, selected, leaving) {
  const main = row.firstElementChild;
  const by = (name) => main.querySelector(name);
  mark(row, { class: `${track.state}${selected ? " selected" : ""}${leaving ? " leaving" : ""}` });
  mark(main, { "aria-pressed": String(selected), "aria-label": described(track) });
  mark(row.lastElementChild, { disabled: leaving });
  say(by(".name"), track.prompt ?? "by hand");
  say(by(".age"), age(track.age));
  say(by(".state"), leaving ? "ending" : track.state);
  for (const name of ["score", "presence"]) {
    say(by(`.${name} b`), share(track[name]));
    by(`.${name} i`).style.setProperty("--share", track[name]);
  }
}

function described(track) {
  const numbers = `score ${share(track.score)}, presence ${share(track.presence)}`;
  return `Track ${track.id}, ${track.prompt ?? "added by hand"}, ${track.state}, ${age(track.age)} old, ${numbers}`;
}

function nothing(stream) {
  if (stream.state === "loading" || stream.frame === null) return "Tracks appear with the first frame.";
  if (stream.state !== "up") return `None: the stream is ${stream.state}.`;
  const sought = plural(stream.prompts.length, "prompt");
  return `Nothing in sight for ${sought}. Click an object in the picture to follow it anyway.`;
}
