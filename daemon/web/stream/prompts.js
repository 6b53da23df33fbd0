// The prompts of a stream, as chips to remove and a field to add more.

import { setPrompts } from "../api.js";
import { element, icon, reconcile, setAttributes, setText } from "../parts/dom.js";
import { twoDecimals } from "../parts/format.js";

const SILENT_AFTER = 30_000; // ms without a track

export class Prompts {
  #name;
  #prompts = [];
  #foundAt = new Map(); // by prompt: when it last had a track, or else was first looked for; ms
  #busy = false;
  #changed;
  #list = element("ul", { class: "chips" });
  #input = element("input", {
    name: "prompt",
    "aria-label": "Another prompt",
    placeholder: "Add what to look for",
    autocomplete: "off",
    autocapitalize: "none",
    enterkeyhint: "done",
  });
  #silent = element("p", { class: "silence", role: "status", hidden: true });
  #problem = element("p", { class: "wrong", role: "alert", hidden: true });
  #form = element(
    "form",
    { class: "add-prompt", onsubmit: (event) => this.#add(event) },
    this.#input,
    element("button", { class: "button", type: "submit" }, "Add"),
  );
  node = element(
    "section",
    { class: "card", "aria-labelledby": "prompts-title" },
    element("h2", { id: "prompts-title" }, "Prompts"),
    this.#list,
    this.#silent,
    this.#form,
    this.#problem,
    element("p", { class: "hint" }, "A change takes effect at the next keyframe; the other tracks go on."),
  );

  /** `changed(stream)` is called with the stream that the daemon returns. */
  constructor(name, changed) {
    this.#name = name;
    this.#changed = changed;
  }

  update(stream) {
    this.#prompts = stream.prompts;
    const tracked = (prompt) => stream.tracks.filter((track) => track.prompt === prompt).length;
    const silent = this.#silentPrompts(stream);
    this.#silent.hidden = !silent.length;
    if (silent.length) setText(this.#silent, silenceText(silent));
    reconcile(
      this.#list,
      stream.prompts,
      (prompt) => prompt,
      (prompt) => this.#chip(prompt),
      (chip, prompt) => {
        const threshold = stream.thresholds[prompt];
        setText(chip.querySelector(".tracked"), tracked(prompt) ? String(tracked(prompt)) : "");
        setAttributes(chip, { class: silent.includes(prompt) ? "chip silent" : "chip" });
        setAttributes(chip, { title: threshold === undefined ? null : `Found from a score of ${twoDecimals(threshold)}` });
      },
    );
  }

  /** The prompts for which nothing has been found for a while, as far as this page has seen. */
  #silentPrompts(stream) {
    const now = Date.now();
    const found = new Set(stream.tracks.map((track) => track.prompt));
    const looking = stream.state === "up" && stream.frame !== null;
    const since = (prompt) => (looking && !found.has(prompt) ? (this.#foundAt.get(prompt) ?? now) : now);
    this.#foundAt = new Map(stream.prompts.map((prompt) => [prompt, since(prompt)]));
    return stream.prompts.filter((prompt) => now - this.#foundAt.get(prompt) >= SILENT_AFTER);
  }

  #chip(prompt) {
    const remove = { class: "round small", type: "button", "aria-label": `Stop looking for ${prompt}`, title: "Remove this prompt" };
    return element(
      "li",
      { class: "chip" },
      element("span", {}, prompt),
      element("span", { class: "tracked", "aria-label": "tracks" }),
      element("button", { ...remove, onclick: () => this.#setPrompts(this.#prompts.filter((other) => other !== prompt)) }, icon("cross")),
    );
  }

  async #add(event) {
    event.preventDefault();
    const more = splitPrompts(this.#input.value).filter((prompt) => !this.#prompts.includes(prompt));
    if (!more.length) this.#input.value = "";
    else if (await this.#setPrompts([...this.#prompts, ...more])) this.#input.value = "";
    this.#input.focus();
  }

  async #setPrompts(prompts) {
    if (this.#busy) return false;
    this.#setBusy(true);
    try {
      this.#changed(await setPrompts(this.#name, prompts));
      this.#showError("");
      return true;
    } catch (error) {
      this.#showError(error.message);
      return false;
    } finally {
      this.#setBusy(false);
    }
  }

  #setBusy(busy) {
    this.#busy = busy;
    setAttributes(this.node, { "aria-busy": busy ? "true" : null });
  }

  #showError(problem) {
    this.#problem.hidden = !problem;
    setText(this.#problem, problem);
  }
}

function silenceText(prompts) {
  const quoted = prompts.map((prompt) => `“${prompt}”`).join(", ");
  return `Nothing found for a while: ${quoted}. Other or plainer words may help, or a lower detection.box_threshold.`;
}

/** "a, b" -> ["a", "b"]. */
export const splitPrompts = (text) => text.split(",").map((piece) => piece.trim()).filter(Boolean);
