// Polls the state of the streams once a second, and shows one stream or the overview.

import { Refused, Unreachable, setTokenPrompt, streams as askForStreams } from "./api.js";
import { Changes } from "./changes.js";
import { askForStream, askForToken, askToRemove } from "./dialogs.js";
import { element, reconcile, setAttributes, setText } from "./parts/dom.js";
import { recordHistory } from "./stream/figures.js";
import { plural } from "./parts/format.js";
import { Overview, address } from "./overview.js";
import { Stream } from "./stream/stream.js";
import { address as timelineAddress, parse as parseTimeline } from "./timeline/query.js";
import { Timeline } from "./timeline/timeline.js";

const POLL_INTERVAL = 1000; // ms
const get = (id) => document.getElementById(id);

let streams = null; // null before the first answer
let revision = 0; // counts the changes of `streams`; a poll sent before a change is outdated
let failure = null; // the error of the last poll
let view = null;
let route = "";
let timeline = null; // what the address asks of the timeline, if it is its address
let wake = () => {};
const changes = new Changes(() => wake());

function setStreams(newest) {
  streams = newest;
  revision += 1;
  render();
}

async function poll() {
  const revisionBefore = revision;
  try {
    const answer = await askForStreams();
    failure = null;
    if (revisionBefore !== revision) return;
    recordHistory(answer.streams);
    setStreams(answer.streams);
    changes.refresh();
  } catch (error) {
    failure = error;
    render();
    if (error instanceof Refused && error.status === 401) await sleep(); // until the user tries again
  }
}

function sleep(milliseconds) {
  return new Promise((resolve) => {
    wake = resolve;
    if (milliseconds) setTimeout(resolve, milliseconds);
  });
}

async function pollLoop() {
  for (;;) {
    await poll();
    await sleep(POLL_INTERVAL);
    while (document.hidden) await sleep();
  }
}

function render() {
  const active = !document.hidden && !failure;
  updateBanner();
  setAttributes(document.body, { "data-lost": Boolean(failure) && streams !== null });
  setAttributes(get("add-stream"), { disabled: streams === null || Boolean(failure) });
  const name = selectedName();
  const locked = failure instanceof Refused && failure.status === 401;
  const stream = locked ? null : streams?.find((one) => one.name === name);
  document.title = [timeline ? "Timeline" : name, "maskcast"].filter(Boolean).join(" · ");
  updateSummary();
  updateSwitcher(name);
  setAttributes(get("timeline-link"), { href: timelineAddress({ stream: route }), "aria-current": timeline ? "page" : null });
  if (timeline && streams && !locked) {
    show("timeline", () => new Timeline(readAddress));
    view.update(streams, active, timeline);
  } else if (stream) {
    show(`stream ${name}`, () => new Stream(name, { changed: streamChanged, remove: removeStream }));
    view.update(stream, active);
  } else if (streams?.length && !name && !locked) {
    show("overview", () => new Overview());
    view.update(streams, active);
  } else show(...placeholder(name, locked));
}

/** Name of the stream to show alone: the one in the address, or the only one; "" for the overview and the timeline. */
function selectedName() {
  return timeline ? "" : route || (streams?.length === 1 ? streams[0].name : "");
}

function show(key, create) {
  if (get("main").dataset.view === key) return;
  view?.close?.();
  view = create();
  get("main").dataset.view = key;
  get("main").replaceChildren(view.node);
}

function placeholder(name, locked) {
  if (locked) return ["locked", () => placeholderView("A token is needed", "This daemon shows its streams to those who have its http.token.", retryButton)];
  if (failure && !streams) return ["failure", () => placeholderView("Nothing to show yet", failureText(), retryButton)];
  if (!streams) return ["waiting", () => ({ node: element("section", { class: "blank waiting" }, element("p", {}, "Asking the daemon…")) })];
  if (name) return [`no ${name}`, () => placeholderView(`No stream is named “${name}”`, "It may have been removed.", overviewLink)];
  return ["empty", () => placeholderView("No streams yet", "Add a camera, a file, or the built-in test source, and say in plain words what to look for.", addButton)];
}

const retryButton = () => element("button", { class: "button primary", type: "button", onclick: () => wake() }, "Try again");
const overviewLink = () => element("a", { class: "button primary", href: "#/" }, "All streams");
const addButton = () => element("button", { class: "button primary", type: "button", onclick: addStream }, "Add a stream");

function placeholderView(headline, text, action) {
  const picture = element("img", { src: "web/icon.svg", alt: "", width: 72, height: 72 });
  return { node: element("section", { class: "blank" }, picture, element("h1", {}, headline), element("p", {}, text), action()) };
}

const failureText = () => (failure instanceof Unreachable ? "The daemon does not answer. Trying again every second." : failure.message);

function updateBanner() {
  get("banner").hidden = !failure || failure.status === 401 || streams === null; // else the placeholder says it
  setText(get("banner"), failure ? failureText() : "");
}

function updateSummary() {
  const of = (state) => streams.filter((stream) => stream.state === state).length;
  const states = ["up", "loading", "connecting", "retrying", "failed", "ended"].filter((state) => streams && of(state));
  setText(get("summary"), streams?.length ? [plural(streams.length, "stream"), ...states.map((state) => `${of(state)} ${state}`)].join("  ·  ") : "");
}

function updateSwitcher(name) {
  get("switcher").hidden = !name || !streams || streams.length < 2;
  if (get("switcher").hidden) return;
  const items = [{ name: "", state: "all" }, ...streams];
  const create = (item) => element("a", { href: item.name ? address(item.name) : "#/" }, item.name || "All streams");
  const update = (node, item) => setAttributes(node, { class: `pill ${item.state}`, "aria-current": item.name === name ? "page" : null });
  reconcile(get("switcher"), items, (item) => item.name, create, update);
}

function streamChanged(stream) {
  changes.refresh(true);
  setStreams(streams.map((other) => (other.name === stream.name ? stream : other)));
}

async function addStream() {
  const added = await askForStream();
  if (!added) return;
  changes.refresh(true);
  setStreams([...streams.filter((other) => other.name !== added.name), added]);
  location.hash = address(added.name);
}

async function removeStream(name) {
  if (!(await askToRemove(name))) return;
  changes.refresh(true);
  location.hash = "#/";
  setStreams(streams.filter((other) => other.name !== name));
}

function readAddress() {
  if (location.hash && !location.hash.startsWith("#/")) return;
  timeline = parseTimeline(location.hash);
  route = timeline ? "" : decode(location.hash.slice(2));
  render();
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", () => {
  readAddress();
  get("main").focus({ preventScroll: true });
  scrollTo(0, 0);
});
document.addEventListener("visibilitychange", () => {
  render();
  wake();
});
get("add-stream").addEventListener("click", addStream);
setTokenPrompt(askForToken);
readAddress();
pollLoop();
