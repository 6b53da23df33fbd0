// The view of one stream: its picture with input, its figures, prompts and tracks.

import { addObject, refineObject, removeObject } from "../api.js";
import { element, icon, reconcile, setAttributes, setText } from "../parts/dom.js";
import { Controls } from "./controls.js";
import { Figures } from "./figures.js";
import { notify } from "../parts/notices.js";
import { Overlay } from "./overlay.js";
import { Player } from "../pictures/player.js";
import { Pointing } from "./pointing.js";
import { Prompts } from "./prompts.js";
import { Screen } from "../pictures/screen.js";
import { updateCover, updateStatus } from "../parts/status.js";
import { Tracks } from "./tracks.js";

const ADDED_TIMEOUT = 20_000; // ms for a track added by hand to appear
const TOUCH = matchMedia("(pointer: coarse)");

export class Stream {
  #stream = null;
  #selected = null;
  #awaitedUntil = 0; // time in ms until which the selected track may be missing
  #hovered = null;
  #adding = false;
  #seen = {}; // the frame that was on the screen when the user began to point: it counts there
  #removing = new Set();
  #screen;
  #overlay = new Overlay();
  #pointing;
  #player;
  #controls = new Controls();
  #figures = new Figures();
  #prompts;
  #tracks = new Tracks({
    select: (id) => this.#select(id === this.#selected ? null : id),
    remove: (id) => this.#remove(id),
    hover: (id) => ((this.#hovered = id), this.#showCorners()),
  });
  #title = element("h1");
  #status = element("span", { class: "status" });
  #source = element("span", { class: "source" });
  #cover = element("div", { class: "cover", hidden: true });
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

  /** `on.changed(stream)` is called with the stream that a change returns; `on.remove(name)` asks to end the stream. */
  constructor(name, on) {
    this.name = name;
    this.#screen = new Screen(`The annotated picture of ${name}`);
    this.#screen.node.append(this.#overlay.node, this.#cover);
    this.#player = new Player(this.#screen, name, () => this.#pictureShown());
    this.#prompts = new Prompts(name, on.changed);
    this.#pointing = new Pointing(this.#overlay.node, {
      begin: () => (this.#seen = this.#shown()),
      point: (point) => this.#point(point),
      box: (box) => this.#box(box),
      leave: () => this.#select(null),
    });
    this.#outside.addEventListener("change", () => this.#updateHint());
    setText(this.#title, name);
    setAttributes(this.#overlay.node, { "aria-label": `Point at the picture of ${name}: arrow keys move, Enter sets a point, Shift with Enter cuts away, Escape ends` });
    this.node = this.#layout(() => on.remove(name));
  }

  #layout(remove) {
    const end = element("button", { class: "button quiet", type: "button", onclick: remove }, icon("bin"), "Remove stream");
    const facts = element("div", { class: "facts" }, this.#title, this.#status, this.#source);
    const tools = element("div", { class: "tools" }, this.#hint, this.#asPrompt, this.#refining, this.#controls.node);
    return element(
      "article",
      { class: "stream" },
      element("header", { class: "heading" }, facts, end),
      element("div", { class: "stage" }, this.#screen.node, tools),
      this.#figures.node,
      element("div", { class: "panel" }, this.#prompts.node, this.#tracks.node),
    );
  }

  /** `active`: the page is visible and the daemon answers. */
  update(stream, active) {
    this.#stream = stream;
    this.#player.set(active && stream.frame !== null, stream.state === "up");
    this.#pointing.resize(stream.width || 16, stream.height || 9);
    this.#screen.node.style.setProperty("--ratio", (stream.width || 16) / (stream.height || 9));
    updateStatus(this.#status, stream);
    updateCover(this.#cover, stream);
    setText(this.#source, [stream.width ? `${stream.width} × ${stream.height}` : "", stream.source].filter(Boolean).join("  ·  "));
    setAttributes(this.#source, { title: stream.source });
    this.#updateSelection(stream);
    this.#figures.update(stream);
    this.#prompts.update(stream);
    this.#updatePromptOptions(stream.prompts);
    this.#refresh();
  }

  close() {
    this.#player.set(false, false);
    this.#screen.close();
    this.#controls.close();
  }

  #updateSelection(stream) {
    const ids = new Set(stream.tracks.map((track) => track.id));
    for (const id of this.#removing) if (!ids.has(id)) this.#removing.delete(id);
    if (ids.has(this.#selected)) this.#awaitedUntil = 0;
    else if (this.#selected !== null && Date.now() > this.#awaitedUntil) this.#select(null);
  }

  #updatePromptOptions(prompts) {
    const update = (option, prompt) => setText(option, prompt || "by hand");
    reconcile(this.#prompt, ["", ...prompts], String, (prompt) => element("option", { value: prompt }), update);
  }

  #select(id) {
    this.#selected = id;
    this.#outside.checked = false;
    this.#refresh();
  }

  #refresh() {
    this.#tracks.update(this.#stream, this.#selected, this.#removing);
    this.#showCorners();
    this.#updateHint();
  }

  #pictureShown() {
    setAttributes(this.#screen.node, { "data-shown": true });
    this.#showCorners();
    this.#tracks.pictureShown(this.#screen);
  }

  /** Around the object where it is on the frame shown, which the list of tracks may be ahead of. */
  #showCorners() {
    this.#overlay.showCorners(this.#screen.object(this.#hovered ?? this.#selected));
  }

  #updateHint() {
    const refining = this.#selected !== null;
    const click = TOUCH.matches ? "Tap" : "Click";
    this.#refining.hidden = !refining;
    this.#asPrompt.hidden = refining || this.#adding || this.#stream.state !== "up" || !this.#stream.prompts.length;
    setAttributes(this.#screen.node, { "data-cut": refining && this.#outside.checked });
    if (this.#stream.state !== "up") setText(this.#hint, "Objects can be added while the stream is up.");
    else if (this.#adding) setText(this.#hint, "Starting a track…");
    else if (!refining) setText(this.#hint, `${click} an object to follow it${TOUCH.matches ? "" : ", or draw a box around it,"}`);
    else if (this.#outside.checked) setText(this.#hint, `#${this.#selected}: ${click.toLowerCase()} what does not belong to it.`);
    else setText(this.#hint, `#${this.#selected}: ${click.toLowerCase()} what belongs to it.`);
  }

  #shown() {
    const header = this.#player.shown;
    return header ? { frame: header.frame, session: header.session } : {};
  }

  #point({ x, y, outside }) {
    if (this.#adding || this.#stream.state !== "up") return;
    const inside = this.#outside.checked === outside; // the modifier key inverts the switch
    const points = [{ x, y, inside }];
    if (this.#selected === null) this.#add({ points: [{ x, y, inside: true }], ...this.#seen }, { x, y });
    else this.#request({ x, y }, inside, () => refineObject(this.name, this.#selected, { points, ...this.#seen }));
  }

  #box(box) {
    if (this.#adding || this.#stream.state !== "up") return;
    this.#add({ box, ...this.#shown() }, { x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2 });
  }

  async #add(object, position) {
    const prompt = this.#prompt.value;
    this.#adding = true;
    this.#updateHint();
    const added = await this.#request(position, true, () => addObject(this.name, prompt ? { ...object, prompt } : object));
    this.#adding = false;
    if (added) this.#awaitedUntil = Date.now() + ADDED_TIMEOUT;
    this.#select(added ? added.id : this.#selected);
  }

  async #remove(id) {
    this.#removing.add(id);
    this.#refresh();
    try {
      await removeObject(this.name, id);
      if (this.#selected === id) this.#select(null);
    } catch (error) {
      this.#removing.delete(id);
      notify(error.message);
      this.#refresh();
    }
  }

  /** Sends a change and shows its point meanwhile. On an error shows a notice and resolves to null. */
  async #request(position, inside, change) {
    const scale = this.#overlay.node.getScreenCTM()?.a || 1;
    const done = this.#overlay.showPoint(position, inside, scale);
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
