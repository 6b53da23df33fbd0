// The three dialogs: add a stream, confirm its removal, and enter the token.

import { addStream, removeStream } from "./api.js";
import { setAttributes, setText } from "./parts/dom.js";
import { splitPrompts } from "./stream/prompts.js";

const TEST_SOURCE = {
  source: "testsrc://shapes?seed=12&live=1&fps=5",
  name: "shapes",
  prompts: "red circle, blue square, yellow triangle",
};

/** Shows `dialog` until `submit(fields)` succeeds or the user cancels; resolves to its result, or to null. */
function openDialog(dialog, submit, why = "") {
  const form = dialog.querySelector("form");
  const problemNode = form.querySelector(".wrong");
  const showError = (problem) => ((problemNode.hidden = !problem), setText(problemNode, problem));
  form.reset();
  showError(why);
  dialog.showModal();
  return new Promise((resolve) => {
    const done = (result) => {
      form.onsubmit = dialog.onclose = null;
      dialog.close();
      resolve(result);
    };
    dialog.onclose = () => dialog.open || done(null); // if it is open, the event is a late one of the previous time
    dialog.querySelector("[data-close]").onclick = () => done(null);
    form.onsubmit = async (event) => {
      event.preventDefault();
      if (form.hasAttribute("aria-busy")) return;
      setAttributes(form, { "aria-busy": "true" });
      showError("");
      try {
        done(await submit(Object.fromEntries(new FormData(form))));
      } catch (error) {
        showError(error.message);
      } finally {
        setAttributes(form, { "aria-busy": null });
      }
    };
  });
}

const get = (id) => document.getElementById(id);

/** Asks for a new stream and adds it; resolves to the stream, or to null. */
export function askForStream() {
  const fields = get("add-form").elements;
  get("use-test-source").onclick = () => {
    for (const [name, value] of Object.entries(TEST_SOURCE)) fields[name].value = value;
  };
  fields.source.onchange = () => (fields.name.value ||= suggestedName(fields.source.value));
  return openDialog(get("add-dialog"), ({ name, source, prompts }) =>
    addStream({ name: name.trim(), source: source.trim(), prompts: splitPrompts(prompts) }),
  );
}

/** Asks for confirmation and removes the stream; resolves to true, or to null. */
export function askToRemove(name) {
  setText(get("remove-title"), `Remove “${name}”?`);
  return openDialog(get("remove-dialog"), async () => {
    await removeStream(name);
    return true;
  });
}

/** Asks for the token; resolves to it, or to null. */
export function askForToken(why) {
  return openDialog(get("token-dialog"), ({ token }) => token.trim(), why);
}

/** A name for the stream: the host or the file's stem, as the daemon names sources. */
function suggestedName(source) {
  const url = /^[a-z0-9]+:\/\/(?:[^/@]*@)?([^/:?]*)/i.exec(source);
  const stem = url ? url[1] : source.split("/").pop().replace(/\.[^.]*$/, "");
  return stem.replace(/[^\w.-]+/g, "-").replace(/^[.-]+/, "").slice(0, 64);
}
