// The list of a stream's tracks.

import { element, icon, reconcile, setAttributes, setText } from "../parts/dom.js";
import { age, colour, plural, twoDecimals } from "../parts/format.js";

const THUMBNAIL_EVERY = 1000; // ms
const THUMBNAIL_SIDE = 96; // pixels

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

  /** `removing`: ids that are being removed. */
  update(stream, selected, removing) {
    const tracks = [...stream.tracks].sort((a, b) => a.id - b.id);
    setText(this.#total, tracks.length ? String(tracks.length) : "");
    setText(this.#none, tracks.length ? "" : emptyText(stream));
    reconcile(
      this.#list,
      tracks,
      (track) => track.id,
      (track) => this.#row(track.id),
      (row, track) => updateRow(row, track, track.id === selected, removing.has(track.id)),
    );
  }

  /** Cuts the thumbnails out of what `screen` shows; of what is out of sight the last one stays. */
  pictureShown(screen) {
    const now = performance.now();
    for (const row of this.#list.children) {
      const object = screen.object(Number(row.dataset.key));
      const canvas = row.querySelector("canvas");
      if (!object || now < Number(canvas.dataset.until ?? 0)) continue;
      screen.cut(object.box, canvas);
      canvas.dataset.until = now + THUMBNAIL_EVERY;
    }
  }

  #row(id) {
    const cut = element("canvas", { width: THUMBNAIL_SIDE, height: THUMBNAIL_SIDE, "aria-hidden": "true" });
    const cutout = element("span", { class: "cutout" }, cut, element("span", { class: "tag" }, `#${id}`));
    cutout.style.setProperty("--colour", colour(id));
    const main = element(
      "button",
      { class: "track", type: "button", onclick: () => this.#on.select(id) },
      cutout,
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

function updateRow(row, track, selected, removing) {
  const main = row.firstElementChild;
  const find = (name) => main.querySelector(name);
  setAttributes(row, { class: `${track.state}${selected ? " selected" : ""}${removing ? " removing" : ""}` });
  setAttributes(main, { "aria-pressed": String(selected), "aria-label": label(track) });
  setAttributes(row.lastElementChild, { disabled: removing });
  setText(find(".name"), track.prompt ?? "by hand");
  setText(find(".age"), age(track.age));
  setText(find(".state"), removing ? "ending" : track.state);
  for (const name of ["score", "presence"]) {
    setText(find(`.${name} b`), twoDecimals(track[name]));
    find(`.${name} i`).style.setProperty("--share", track[name]);
  }
}

function label(track) {
  const numbers = `score ${twoDecimals(track.score)}, presence ${twoDecimals(track.presence)}`;
  return `Track ${track.id}, ${track.prompt ?? "added by hand"}, ${track.state}, ${age(track.age)} old, ${numbers}`;
}

function emptyText(stream) {
  if (stream.state === "loading" || stream.frame === null) return "Tracks appear with the first frame.";
  if (stream.state !== "up") return `None: the stream is ${stream.state}.`;
  return `Nothing in sight for ${plural(stream.prompts.length, "prompt")}.`;
}
