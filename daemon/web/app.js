// Asks the daemon once a second how its streams are, and shows one of them or all.

import { Refused, Unreachable, onLocked, streams as askForStreams } from "./api.js";
import { askForStream, askForToken, askToRemove } from "./dialogs.js";
import { element, mark, reconcile, say } from "./parts/dom.js";
import { remember } from "./stream/figures.js";
import { plural } from "./parts/format.js";
import { Overview, address } from "./overview.js";
import { Stream } from "./stream/stream.js";

const EVERY = 1000; // ms
const get = (id) => document.getElementById(id);

let streams = null; // null before the first answer
let changes = 0; // an answer that was asked for before a change is old
let trouble = null; // why the daemon does not answer as it should
let view = null;
let route = "";
let wake = () => {};

function accept(newest) {
  streams = newest;
  changes += 1;
  render();
}

async function poll() {
  const asked = changes;
  try {
    const answer = await askForStreams();
    trouble = null;
    if (asked !== changes) return;
    remember(answer.streams);
    accept(answer.streams);
  } catch (error) {
    trouble = error;
    render();
    if (error instanceof Refused && error.status === 401) await waking(); // until somebody asks again
  }
}

function waking(milliseconds) {
  return new Promise((resolve) => {
    wake = resolve;
    if (milliseconds) setTimeout(resolve, milliseconds);
  });
}

async function keepAsking() {
  for (;;) {
    await poll();
    await waking(EVERY);
    while (document.hidden) await waking();
  }
}

function render() {
  const seen = !document.hidden && !trouble;
  banner();
  mark(document.body, { "data-lost": Boolean(trouble) && streams !== null });
  mark(get("add-stream"), { disabled: streams === null || Boolean(trouble) });
  const name = chosen();
  const locked = trouble instanceof Refused && trouble.status === 401;
  const stream = locked ? null : streams?.find((one) => one.name === name);
  document.title = name ? `${name} · maskcast` : "maskcast";
  summary();
  switcher(name);
  if (stream) {
    show(`stream ${name}`, () => new Stream(name, { changed, remove }));
    view.update(stream, seen);
  } else if (streams?.length && !name && !locked) {
    show("overview", () => new Overview());
    view.update(streams, seen);
  } else show(...blank(name, locked));
}

/** The stream to show large: the one in the address, or the only one. */
function chosen() {
  return route || (streams?.length === 1 ? streams[0].name : "");
}

function show(key, create) {
  if (get("main").dataset.view === key) return;
  view?.close?.();
  view = create();
  get("main").dataset.view = key;
  get("main").replaceChildren(view.node);
}

function blank(name, locked) {
  if (locked) return ["locked", () => page("A token is needed", "This daemon shows its streams to those who have its http.token.", again)];
  if (trouble && !streams) return ["trouble", () => page("Nothing to show yet", trouble.message, again)];
  if (!streams) return ["waiting", () => ({ node: element("section", { class: "blank waiting" }, element("p", {}, "Asking the daemon…")) })];
  if (name) return [`no ${name}`, () => page(`No stream is named “${name}”`, "It may have been removed.", all)];
  return ["empty", () => page("No streams yet", "Add a camera, a file, or the built-in test source, and say in plain words what to look for.", first)];
}

const again = () => element("button", { class: "button primary", type: "button", onclick: () => wake() }, "Try again");
const all = () => element("a", { class: "button primary", href: "#/" }, "All streams");
const first = () => element("button", { class: "button primary", type: "button", onclick: add }, "Add a stream");

function page(headline, text, action) {
  const picture = element("img", { src: "web/icon.svg", alt: "", width: 72, height: 72 });
  return { node: element("section", { class: "blank" }, picture, element("h1", {}, headline), element("p", {}, text), action()) };
}

function banner() {
  const lost = trouble instanceof Unreachable;
  get("banner").hidden = !trouble || trouble.status === 401;
  say(get("banner"), !trouble ? "" : lost ? "The daemon does not answer. Trying again every second." : trouble.message);
}

function summary() {
  const of = (state) => streams.filter((stream) => stream.state === state).length;
  const states = ["up", "loading", "connecting", "retrying", "failed", "ended"].filter((state) => streams && of(state));
  say(get("summary"), streams?.length ? [plural(streams.length, "stream"), ...states.map((state) => `${of(state)} ${state}`)].join("  ·  ") : "");
}

function switcher(name) {
  get("switcher").hidden = !name || !streams || streams.length < 2;
  if (get("switcher").hidden) return;
  const items = [{ name: "", state: "all" }, ...streams];
  const create = (item) => element("a", { href: item.name ? address(item.name) : "#/" }, item.name || "All streams");
  const update = (node, item) => mark(node, { class: `pill ${item.state}`, "aria-current": item.name === name ? "page" : null });
  reconcile(get("switcher"), items, (item) => item.name, create, update);
}

function changed(stream) {
  accept(streams.map((other) => (other.name === stream.name ? stream : other)));
}

async function add() {
  const added = await askForStream();
  if (!added) return;
  accept([...streams.filter((other) => other.name !== added.name), added]);
  location.hash = address(added.name);
}

async function remove(name) {
  if (!(await askToRemove(name))) return;
  location.hash = "#/";
  accept(streams.filter((other) => other.name !== name));
}

function follow() {
  if (location.hash && !location.hash.startsWith("#/")) return;
  route = decoded(location.hash.slice(2));
  render();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", () => {
  follow();
  get("main").focus({ preventScroll: true });
  scrollTo(0, 0);
});
document.addEventListener("visibilitychange", () => {
  render();
  wake();
});
get("add-stream").addEventListener("click", add);
onLocked(askForToken);
follow();
keepAsking();
