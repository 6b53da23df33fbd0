// The timeline: a day's bar, the events that fit the viewer's choice, and the clip of the chosen one.

import { Refused, eventCounts } from "../api.js";
import { element, setAttributes, setText } from "../parts/dom.js";
import { count } from "../parts/format.js";
import { Clip } from "./clip.js";
import { DayBar, STEP } from "./day.js";
import { Feed } from "./feed.js";
import { Filters } from "./filters.js";
import { EventList } from "./list.js";
import { address, parameters } from "./query.js";
import { PromptColours, dayOf } from "./words.js";

const REFRESH_AFTER = 5000; // ms, while the newest events are shown

export class Timeline {
  #query = null;
  #feed = null;
  #counts = [];
  #day = null; // of the counts
  #problem = null; // the error of the last request
  #busy = false;
  #askedAt = 0;
  #selected = null; // id of an event
  #streams = [];
  #active = false;
  #readAddress;
  #colours = new PromptColours();
  #filters = new Filters((part) => this.#go({ ...this.#query, ...part }));
  #bar = new DayBar(this.#colours, (to) => this.#go({ ...this.#query, to: to > Date.now() / 1000 ? null : to }));
  #clip = new Clip(() => this.#leave());
  #list = new EventList(this.#colours, (event) => this.#choose(event));
  #total = element("span", { class: "total" });
  #status = element("p", { class: "none", role: "status" });
  #more = element("button", { class: "button", type: "button", onclick: () => this.#ask(() => this.#feed.loadMore()) }, "Load older events");
  #again = element("button", { class: "button", type: "button", onclick: () => this.#refresh() }, "Try again");
  #events = element("section", { class: "card", "aria-labelledby": "events-title" });
  node = element("article", { class: "timeline" });

  /** `readAddress()` is called once the address says what the viewer has chosen. */
  constructor(readAddress) {
    this.#readAddress = readAddress;
    this.#events.append(element("h2", { id: "events-title" }, "Events ", this.#total), this.#list.node, this.#status, this.#more, this.#again);
    const heading = element("header", { class: "heading" }, element("h1", {}, "Timeline"), this.#filters.node);
    this.node.append(heading, this.#bar.node, this.#clip.node, this.#events);
    this.node.addEventListener("keydown", (event) => event.key === "Escape" && this.#selected !== null && this.#leave());
  }

  /** `active`: the page is visible and the daemon answers; `query`: what the address asks for. */
  update(streams, active, query) {
    [this.#streams, this.#active] = [streams, active];
    this.#colours.add(streams.flatMap((stream) => stream.prompts));
    if (JSON.stringify(query) !== JSON.stringify(this.#query)) this.#start(query);
    else if (active && this.#isDue()) this.#refresh();
    this.#render();
  }

  close() {
    this.#feed.close();
    this.#list.close();
    this.#bar.close();
    this.#clip.show(null);
  }

  #go(query) {
    history.replaceState(null, "", address(query));
    this.#readAddress();
  }

  #start(query) {
    this.#feed?.close();
    this.#feed = new Feed(query);
    this.#query = query;
    this.#refresh();
  }

  /** Whether to ask again by itself: for what is new, or after a failure that may pass. */
  #isDue() {
    if (this.#busy || Date.now() - this.#askedAt < REFRESH_AFTER) return false;
    return this.#problem ? !isLasting(this.#problem) : this.#query.to === null;
  }

  #refresh() {
    return this.#ask(async (feed) => {
      const day = this.#shownDay();
      const isFirst = !feed.loaded;
      const isNew = await feed.refresh();
      if (feed !== this.#feed || (!isFirst && !isNew && this.#day?.start === day.start)) return;
      this.#render();
      const { counts } = await eventCounts(parameters(this.#query, { from: day.start, to: day.end, step: STEP }));
      if (feed !== this.#feed) return;
      [this.#counts, this.#day] = [counts, day];
      this.#colours.add(counts.map(({ prompt }) => prompt));
    });
  }

  async #ask(work) {
    const feed = this.#feed;
    this.#busy = true;
    this.#render();
    let problem = null;
    try {
      await work(feed);
    } catch (error) {
      problem = error;
    }
    if (feed !== this.#feed) return;
    this.#busy = false;
    this.#askedAt = Date.now();
    this.#problem = problem;
    this.#render();
  }

  #choose(event) {
    this.#selected = event?.id ?? null;
    this.#clip.show(event);
    this.#render();
    if (event) this.#clip.node.scrollIntoView({ block: "nearest" });
  }

  #leave() {
    const left = this.#selected;
    this.#choose(null);
    this.#list.focus(left);
  }

  #render() {
    const { events, loaded, more } = this.#feed;
    const none = this.#problem instanceof Refused && this.#problem.status === 404 && !loaded;
    this.#colours.add(events.map((event) => event.prompt));
    setAttributes(this.node, { "data-none": none });
    this.#filters.update(this.#query, this.#shownDay(), this.#names(events), this.#colours.known);
    this.#bar.update(this.#day ?? dayOf(Date.now() / 1000), none ? [] : this.#counts, this.#query.to);
    if (loaded || this.#problem) this.#list.update(events, this.#selected); // until then the last choice stays
    setText(this.#total, loaded ? `${count(events.length)}${more ? " newest" : ""}` : "");
    setText(this.#status, this.#message(events, loaded));
    setAttributes(this.#events, { "aria-busy": this.#busy && !loaded });
    this.#more.hidden = !more || isLasting(this.#problem);
    this.#again.hidden = !isLasting(this.#problem);
  }

  #shownDay() {
    return dayOf(this.#query.to === null ? Date.now() / 1000 : this.#query.to - 1);
  }

  #names(events) {
    return [...new Set([...this.#streams, ...events.map((event) => ({ name: event.stream }))].map(({ name }) => name))];
  }

  #message(events, loaded) {
    if (this.#problem) return this.#active ? this.#problem.message : ""; // else the banner says it
    if (!loaded) return "Loading the events…";
    if (events.length) return "";
    const { stream, prompt, to } = this.#query;
    if (stream || prompt || to) return "Nothing that fits your choice.";
    return "Nothing yet. What is seen appears here by itself.";
  }
}

/** Whether asking again cannot help: the daemon refuses. */
function isLasting(problem) {
  return problem instanceof Refused && problem.status < 500;
}
