// What a stream looks for, as chips.

import { setPrompts } from "../api.js";
import { element, icon, mark, reconcile, say } from "../parts/dom.js";
import { share } from "../parts/format.js";

export class Prompts {
  #name;
  #prompts = [];
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
  #wrong = element("p", { class: "wrong", role: "alert", hidden: true });
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
    this.#form,
    this.#wrong,
    element("p", { class: "hint" }, "A change takes effect at the next keyframe; the other tracks go on."),
  );

  /** `changed(stream)` gets what the daemon answers. */
  constructor(name, changed) {
    this.#name = name;
    this.#changed = changed;
  }

  update(stream) {
    this.#prompts = stream.prompts;
    const tracked = (prompt) => stream.tracks.filter((track) => track.prompt === prompt).length;
    reconcile(
      this.#list,
      stream.prompts,
      (prompt) => prompt,
      (prompt) => this.#chip(prompt),
      (chip, prompt) => {
        const least = stream.thresholds[prompt];
        say(chip.querySelector(".tracked"), tracked(prompt) ? String(tracked(prompt)) : "");
        mark(chip, { title: least === undefined ? null : `Found from a score of ${share(least)}` });
      },
    );
  }

  #chip(prompt) {
    const remove = { class: "round small", type: "button", "aria-label": `Stop looking for ${prompt}`, title: "Remove this prompt" };
    return element(
      "li",
      { class: "chip" },
      element("span", {}, prompt),
      element("span", { class: "tracked", "aria-label": "tracks" }),
      element("button", { ...remove, onclick: () => this.#put(this.#prompts.filter((other) => other !== prompt)) }, icon("cross")),
    );
  }

  async #add(event) {
    event.preventDefault();
    const more = listed(this.#input.value).filter((prompt) => !this.#prompts.includes(prompt));
    if (!more.length) this.#input.value = "";
    else if (await this.#put([...this.#prompts, ...more])) this.#input.value = "";
    this.#input.focus();
  }

  async #put(prompts) {
    if (this.#busy) return false;
    this.#setBusy(true);
    try {
      this.#changed(await setPrompts(this.#name, prompts));
      this.#tell("");
      return true;
    } catch (error) {
      this.#tell(error.message);
      return false;
    } finally {
      this.#setBusy(false);
    }
  }

  #setBusy(busy) {
    this.#busy = busy;
    mark(this.node, { "aria-busy": busy ? "true" : null });
  }

  #tell(problem) {
    this.#wrong.hidden = !problem;
    say(this.#wrong, problem);
  }
}

/** "a, b" as ["a", "b"]. */
export const listed = (text) => text.split(",").map((piece) => piece.trim()).filter(Boolean);
