// The three questions: which stream, really, and which token.

import { addStream, removeStream } from "./api.js";
import { mark, say } from "./parts/dom.js";
import { listed } from "./stream/prompts.js";

const TEST_SOURCE = {
  source: "testsrc://shapes?seed=12&live=1&fps=5",
  name: "shapes",
  prompts: "red circle, blue square, yellow triangle",
};

/** Shows `dialog` until `submit(fields)` went well or the person declined; resolves to its result or null. */
function ask(dialog, submit, why = "") {
  const form = dialog.querySelector("form");
  const wrong = form.querySelector(".wrong");
  const tell = (problem) => ((wrong.hidden = !problem), say(wrong, problem));
  form.reset();
  tell(why);
  dialog.showModal();
  return new Promise((resolve) => {
    const done = (result) => {
      form.onsubmit = dialog.onclose = null;
      dialog.close();
      resolve(result);
    };
    dialog.onclose = () => dialog.open || done(null); // open: the event is late and tells of the time before
    dialog.querySelector("[data-close]").onclick = () => done(null);
    form.onsubmit = async (event) => {
      event.preventDefault();
      if (form.hasAttribute("aria-busy")) return;
      mark(form, { "aria-busy": "true" });
      tell("");
      try {
        done(await submit(Object.fromEntries(new FormData(form))));
      } catch (error) {
        tell(error.message);
      } finally {
        mark(form, { "aria-busy": null });
      }
    };
  });
}

const get = (id) => document.getElementById(id);

/** The stream that was added, or null. */
export function askForStream() {
  const fields = get("add-form").elements;
  get("use-test-source").onclick = () => {
    for (const [name, value] of Object.entries(TEST_SOURCE)) fields[name].value = value;
  };
  fields.source.onchange = () => (fields.name.value ||= named(fields.source.value));
  return ask(get("add-dialog"), ({ name, source, prompts }) =>
    addStream({ name: name.trim(), source: source.trim(), prompts: listed(prompts) }),
  );
}

/** True once the stream is gone. */
export function askToRemove(name) {
  say(get("remove-title"), `Remove “${name}”?`);
  return ask(get("remove-dialog"), async () => {
    await removeStream(name);
    return true;
  });
}

/** The token, or null. */
export function askForToken(why) {
  return ask(get("token-dialog"), ({ token }) => token.trim(), why);
}

/** The host or the file's stem, as the daemon names sources too. */
function named(source) {
  const url = /^[a-z0-9]+:\/\/(?:[^/@]*@)?([^/:?]*)/i.exec(source);
  const stem = url ? url[1] : source.split("/").pop().replace(/\.[^.]*$/, "");
  return stem.replace(/[^\w.-]+/g, "-").replace(/^[.-]+/, "").slice(0, 64);
}
