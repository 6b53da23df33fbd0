// What was changed here or over HTTP and is not as the configuration has it: a line that opens a dialog to go back.

import { changes as askForChanges, takeBack } from "./api.js";
import { element, reconcile, setAttributes, setText } from "./parts/dom.js";
import { plural } from "./parts/format.js";

const INTERVAL = 5000; // ms; others may change streams too
const UNDO = { added: "End it", removed: "Start it again", changed: "Go back" };
const get = (id) => document.getElementById(id);

export class Changes {
  /** `done` is called after something was taken back. */
  constructor(done) {
    this.done = done;
    this.asked = -INTERVAL;
    get("changes-open").addEventListener("click", () => this.open());
    get("changes-close").addEventListener("click", () => get("changes-dialog").close());
    get("changes-all").addEventListener("click", () => this.takeBack());
  }

  /** Asks the daemon, `now` or when the last answer is old. */
  async refresh(now = false) {
    if (!now && performance.now() - this.asked < INTERVAL) return;
    this.asked = performance.now();
    try {
      this.show(await askForChanges());
    } catch {
      this.asked = -INTERVAL; // the polling of the streams says why
    }
  }

  open() {
    this.fail("");
    get("changes-dialog").showModal();
    this.refresh(true);
  }

  show({ kept, problem, changes }) {
    get("changes").hidden = !changes.length;
    const differ = `${plural(changes.length, "stream differs", "streams differ")} from the configuration`;
    setText(get("changes-count"), differ);
    setText(get("changes-kept"), kept ? "This lasts, also after a restart." : `This lasts until the daemon ends: ${problem}.`);
    reconcile(get("changes-list"), changes, (change) => change.stream, (change) => this.row(change), updateRow);
    setAttributes(get("changes-all"), { disabled: !changes.length });
    if (!changes.length) get("changes-dialog").close();
  }

  row(change) {
    const button = element("button", { class: "button", type: "button", onclick: () => this.takeBack(change.stream) });
    const text = element("div", {}, element("h3", {}, change.stream), element("ul", { class: "values" }));
    return element("li", {}, text, button);
  }

  /** Of one stream, or of all. */
  async takeBack(stream) {
    const dialog = get("changes-dialog");
    if (dialog.hasAttribute("aria-busy")) return;
    setAttributes(dialog, { "aria-busy": "true" });
    this.fail("");
    try {
      await takeBack(stream);
    } catch (error) {
      this.fail(error.message);
    }
    await this.refresh(true);
    setAttributes(dialog, { "aria-busy": null });
    this.done();
  }

  fail(problem) {
    get("changes-wrong").hidden = !problem;
    setText(get("changes-wrong"), problem);
  }
}

function updateRow(node, change) {
  setText(node.querySelector("button"), UNDO[change.what]);
  const lines = change.what === "changed" ? differing(change) : [change.what, ...all(change.file ?? change.present)];
  reconcile(node.querySelector("ul"), lines, (line) => line, (line) => element("li", {}, line), () => {});
}

const differing = ({ file, present }) => Object.keys(file).map((key) => `${key}: ${text(file[key])} → ${text(present[key])}`);
const all = (values) => Object.entries(values).map(([key, value]) => `${key}: ${text(value)}`);

/** ["a", "b"] -> a, b; {"every": 7} -> every = 7; null: not set. */
function text(value) {
  if (value === null) return "not set";
  if (Array.isArray(value)) return value.join(", ") || "none";
  if (typeof value === "object") return Object.entries(value).map(([key, inner]) => `${key} = ${inner}`).join(", ");
  return String(value);
}
