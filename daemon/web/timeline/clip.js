// The chosen event: its clip, or its snapshot where no clip is kept, and what is known of it.

import { eventPath, openFile, probe } from "../api.js";
import { element, icon, setAttributes, setText } from "../parts/dom.js";
import { twoDecimals } from "../parts/format.js";
import { address } from "../overview.js";
import { happening, moment, subject } from "./words.js";

export class Clip {
  #video = element("video", { controls: true, playsinline: true, preload: "metadata", hidden: true });
  #still = element("img", { class: "still", alt: "", hidden: true });
  #cover = element("div", { class: "cover", role: "status" }, element("strong"), element("span"));
  #picture = element("div", { class: "picture" }, this.#still, this.#video, this.#cover);
  #title = element("h2");
  #facts = element("p", { class: "soft" });
  #live = element("a", { class: "link" });
  #about = element("div", { class: "about", hidden: true });
  #event = null;
  #stop = new AbortController();
  #releases = [];
  node = element("section", { class: "stage", "aria-label": "Clip" }, this.#picture, this.#about);

  /** `close()` is called when the viewer closes the clip. */
  constructor(close) {
    const cross = element("button", { class: "round", type: "button", "aria-label": "Close the clip", onclick: close }, icon("cross"));
    this.#about.append(element("div", {}, this.#title, this.#facts, this.#live), cross);
    this.#video.muted = true; // there is no sound, and what is muted may start by itself
    this.#video.addEventListener("loadedmetadata", () => this.#fit());
    this.#video.addEventListener("loadeddata", () => (this.#still.hidden = true));
    this.#video.addEventListener("playing", () => this.#say());
    this.#video.addEventListener("error", () => this.#video.hasAttribute("src") && this.#explain());
    this.show(null);
  }

  /** Plays the clip of `event`, as the API returns it; null ends and shows nothing. */
  show(event) {
    this.#reset();
    this.#event = event;
    this.#about.hidden = !event;
    setAttributes(this.node, { "data-empty": !event });
    if (!event) return this.#say("Choose an event", "Its clip plays here.");
    this.#describe(event);
    this.#load(event, this.#stop.signal);
  }

  #reset() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#video.pause();
    for (const [node, attribute] of [[this.#video, "src"], [this.#video, "poster"], [this.#still, "src"]]) node.removeAttribute(attribute);
    this.#video.load();
    this.#video.hidden = this.#still.hidden = true;
    for (const release of this.#releases.splice(0)) release();
  }

  async #load(event, stopped) {
    this.#say(event.clip ? "Loading the clip" : "");
    try {
      if (event.snapshot) await this.#open("snapshot.jpg", stopped, (src) => this.#showStill(src));
    } catch {
      // without a snapshot the clip still plays
    }
    try {
      if (event.clip) await this.#open("clip.mp4", stopped, (src) => this.#play(src));
      else if (!stopped.aborted) this.#say("No clip", "No recording of this moment is kept.");
    } catch (error) {
      if (!stopped.aborted) this.#say("No clip", error.message);
    }
  }

  async #open(name, stopped, use) {
    const { src, release } = await openFile(eventPath(this.#event.id, name), stopped);
    if (stopped.aborted) return release();
    this.#releases.push(release);
    use(src);
  }

  #showStill(src) {
    this.#still.src = src;
    this.#still.hidden = false;
    this.#cover.classList.add("strip");
  }

  #play(src) {
    this.#video.src = src;
    this.#video.hidden = false;
    // where it may not start by itself, the viewer starts it
    this.#video.play().catch((error) => error.name === "NotAllowedError" && this.#say());
  }

  #fit() {
    this.#picture.style.setProperty("--ratio", this.#video.videoWidth / this.#video.videoHeight || 16 / 9);
  }

  /** Says why the clip does not play: the daemon has none, or the browser cannot decode it. */
  async #explain() {
    const stopped = this.#stop.signal;
    this.#video.hidden = true;
    try {
      await probe(eventPath(this.#event.id, "clip.mp4"));
      if (!stopped.aborted) this.#say("This browser cannot play the clip", "It is H.264 or MPEG-4 video in an MP4 file.");
    } catch (error) {
      if (!stopped.aborted) this.#say("No clip", error.message);
    }
  }

  #say(headline = "", text = "") {
    const [strong, span] = this.#cover.children;
    setText(strong, headline);
    setText(span, text);
    this.#cover.hidden = !headline;
    setAttributes(this.#cover, { class: this.#still.hidden ? "cover" : "cover strip" }); // a snapshot stays in sight
  }

  #describe(event) {
    const score = event.score === null ? [] : [`score ${twoDecimals(event.score)}`];
    setText(this.#title, subject(event));
    setText(this.#facts, [happening(event), event.stream, moment(event.time), ...score].filter(Boolean).join("  ·  "));
    setText(this.#live, `Watch ${event.stream} live`);
    setAttributes(this.#live, { href: address(event.stream) });
  }
}
