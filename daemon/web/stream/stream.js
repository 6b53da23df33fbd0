// One stream, large: its picture to point at, its numbers, prompts and tracks.

import { addObject, refineObject, removeObject } from "../api.js";
import { element, icon, mark, reconcile, say } from "../parts/dom.js";
import { Figures } from "./figures.js";
import { notify } from "../parts/notices.js";
import { Overlay } from "./overlay.js";
import { Player } from "../pictures/player.js";
import { Pointing } from "./pointing.js";
import { Prompts } from "./prompts.js";
import { status, veil } from "../parts/status.js";
import { Tracks } from "./tracks.js";

const PATIENCE = 20_000; // ms for a track that was added by hand to show up
const TOUCH = matchMedia("(pointer: coarse)");

export class Stream {
  #stream = null;
  #selected = null;
  #expected = 0; // until when the selected track may still be missing, ms
  #hovered = null;
  #adding = false;
  #leaving = new Set();
  #canvas = element("canvas", { role: "img" });
  #overlay = new Overlay();
  #pointing;
  #player;
  #figures = new Figures();
  #prompts;
  #tracks = new Tracks({
    select: (id) => this.#select(id === this.#selected ? null : id),
    remove: (id) => this.#remove(id),
    hover: (id) => ((this.#hovered = id), this.#frame()),
  });
  #title = element("h1");
  #status = element("span", { class: "status" });
  #source = element("span", { class: "source" });
  #veil = element("div", { class: "veil", hidden: true });
  #picture = element("div", { class: "picture" }, this.#canvas, this.#overlay.node, this.#veil);
  #hint = element("p", { class: "hint", role: "status" });
  #outside = element("input", { type: "checkbox", role: "switch" });
  #prompt = element("select", { "aria-label": "Follow it as" });
  #asPrompt = element("label", { class: "inline" }, "as ", this.#prompt);
  #refining = element(
    "span",
    { class: "inline", hidden: true },
    element("label", { class: "switch" }, this.#outside, element("span", {}, "Cut away")),
    element("button", { class: "button", type: "button", onclick: () => this.#select(null) }, "Done"),
  );
  node;

  /** `on.changed(stream)` gets what a change answers; `on.remove(name)` asks to end the stream. */
  constructor(name, on) {
    this.name = name;
    this.#player = new Player(this.#canvas, name, () => mark(this.#picture, { "data-shown": true }));
    this.#prompts = new Prompts(name, on.changed);
    this.#pointing = new Pointing(this.#overlay.node, {
      point: (point) => this.#point(point),
      box: (box) => this.#box(box),
      leave: () => this.#select(null),
    });
    this.#outside.addEventListener("change", () => this.#guide());
    say(this.#title, name);
    mark(this.#canvas, { "aria-label": `The annotated picture of ${name}` });
    mark(this.#overlay.node, { "aria-label": `Point at the picture of ${name}: arrow keys move, Enter sets a point, Shift with Enter cuts away, Escape ends` });
    this.node = this.#layout(() => on.remove(name));
  }

  #layout(remove) {
    const end = element("button", { class: "button quiet", type: "button", onclick: remove }, icon("bin"), "Remove stream");
    const facts = element("div", { class: "facts" }, this.#title, this.#status, this.#source);
    const tools = element("div", { class: "tools" }, this.#hint, this.#asPrompt, this.#refining);
    return element(
      "article",
      { class: "stream" },
      element("header", { class: "heading" }, facts, end),
      element("div", { class: "stage" }, this.#picture, tools),
      this.#figures.node,
      element("div", { class: "panel" }, this.#prompts.node, this.#tracks.node),
    );
  }

  /** `seen`: the page is looked at and the daemon answers. */
  update(stream, seen) {
    this.#stream = stream;
    this.#player.set(seen && stream.frame !== null, stream.state === "up");
    this.#pointing.resize(stream.width || 16, stream.height || 9);
    this.#picture.style.setProperty("--ratio", (stream.width || 16) / (stream.height || 9));
    status(this.#status, stream);
    veil(this.#veil, stream);
    say(this.#source, [stream.width ? `${stream.width} × ${stream.height}` : "", stream.source].filter(Boolean).join("  ·  "));
    mark(this.#source, { title: stream.source });
    this.#follow(stream);
    this.#figures.update(stream);
    this.#prompts.update(stream);
    this.#options(stream.prompts);
    this.#refresh();
  }

  close() {
    this.#player.set(false, false);
  }

  #follow(stream) {
    const ids = new Set(stream.tracks.map((track) => track.id));
    for (const id of this.#leaving) if (!ids.has(id)) this.#leaving.delete(id);
    if (ids.has(this.#selected)) this.#expected = 0;
    else if (this.#selected !== null && Date.now() > this.#expected) this.#select(null);
  }

  #options(prompts) {
    const update = (option, prompt) => say(option, prompt || "by hand");
    reconcile(this.#prompt, ["", ...prompts], String, (prompt) => element("option", { value: prompt }), update);
  }

  #select(id) {
    this.#selected = id;
    this.#outside.checked = false;
    this.#refresh();
  }

  #refresh() {
    this.#tracks.update(this.#stream, this.#selected, this.#leaving);
    this.#frame();
    this.#guide();
  }

  #frame() {
    const id = this.#hovered ?? this.#selected;
    this.#overlay.frame(this.#stream.tracks.find((track) => track.id === id) ?? null);
  }

  #guide() {
    const refining = this.#selected !== null;
    const click = TOUCH.matches ? "Tap" : "Click";
    this.#refining.hidden = !refining;
    this.#asPrompt.hidden = refining || this.#adding || this.#stream.state !== "up" || !this.#stream.prompts.length;
    mark(this.#picture, { "data-cut": refining && this.#outside.checked });
    if (this.#stream.state !== "up") say(this.#hint, "Objects can be added while the stream is up.");
    else if (this.#adding) say(this.#hint, "Starting a track…");
    else if (!refining) say(this.#hint, `${click} an object to follow it${TOUCH.matches ? "" : ", or draw a box around it,"}`);
    else if (this.#outside.checked) say(this.#hint, `#${this.#selected}: ${click.toLowerCase()} what does not belong to it.`);
    else say(this.#hint, `#${this.#selected}: ${click.toLowerCase()} what belongs to it.`);
  }

  #point({ x, y, outside }) {
    if (this.#adding || this.#stream.state !== "up") return;
    const inside = this.#outside.checked === outside; // the key turns round what the switch says
    const points = [{ x, y, inside }];
    if (this.#selected === null) this.#add({ points: [{ x, y, inside: true }] }, { x, y });
    else this.#try({ x, y }, inside, () => refineObject(this.name, this.#selected, points));
  }

  #box(box) {
    if (this.#adding || this.#stream.state !== "up") return;
    this.#add({ box }, { x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2 });
  }

  async #add(object, at) {
    const prompt = this.#prompt.value;
    this.#adding = true;
    this.#guide();
    const added = await this.#try(at, true, () => addObject(this.name, prompt ? { ...object, prompt } : object));
    this.#adding = false;
    if (added) this.#expected = Date.now() + PATIENCE;
    this.#select(added ? added.id : this.#selected);
  }

  async #remove(id) {
    this.#leaving.add(id);
    this.#refresh();
    try {
      await removeObject(this.name, id);
      if (this.#selected === id) this.#select(null);
    } catch (error) {
      this.#leaving.delete(id);
      notify(error.message);
      this.#refresh();
    }
  }

  /** Shows the point while the daemon is at it; null when it refused, which is told. */
  async #try(at, inside, change) {
    const scale = this.#overlay.node.getScreenCTM()?.a || 1;
    const done = this.#overlay.point(at, inside, scale);
    try {
      return await change();
    } catch (error) {
      notify(error.message);
      return null;
    } finally {
      done();
    }
  }
}
