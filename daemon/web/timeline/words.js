// The words and colours of events: their types, their days and times in the viewer's zone, their prompts.

import { colour } from "../parts/format.js";

/** Types of events, and what a row says of one. */
export const TYPES = {
  track_started: "appeared",
  track_ended: "gone",
  track_occluded: "out of sight",
  track_returned: "back in sight",
  source_up: "source up",
  source_down: "source down",
  epoch: "source changed",
  governor: "governor",
  error: "error",
};

export const typeWord = (type) => TYPES[type] ?? type.replaceAll("_", " ");

export const capitalised = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Who or what an event is about: the prompt of its object, else the type. */
export function subject(event) {
  if (event.track === null) return capitalised(typeWord(event.type));
  return event.prompt ?? "by hand";
}

/** What happened: of an object its number and the type, else the reason. */
export const happening = (event) => (event.track === null ? event.reason : `#${event.track} ${typeWord(event.type)}`);

const format = (options) => {
  const formatter = new Intl.DateTimeFormat(undefined, options);
  return (seconds) => formatter.format(seconds * 1000);
};

/** 14:05:09; all of these take Unix seconds and use the viewer's zone and customs. */
export const clock = format({ timeStyle: "medium" });
/** 14:05 */
export const minute = format({ timeStyle: "short" });
/** Saturday, 28 November 2026 */
export const date = format({ dateStyle: "full" });
/** 28 Nov 2026, 14:05:09 GMT+1 */
export const moment = format({ day: "numeric", month: "short", year: "numeric", hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "short" });

/** Today, Yesterday, or the date. */
export function dayName(seconds) {
  const then = dayOf(seconds);
  const today = dayOf(Date.now() / 1000);
  if (then.start === today.start) return "Today";
  return then.end === today.start ? "Yesterday" : date(seconds);
}

/** Start and end of the viewer's day around a time, all in Unix seconds. A day has 23 to 25 hours. */
export function dayOf(seconds, offset = 0) {
  const then = new Date(seconds * 1000);
  const midnight = (days) => new Date(then.getFullYear(), then.getMonth(), then.getDate() + offset + days).getTime() / 1000;
  return { start: midnight(0), end: midnight(1) };
}

/** A colour for each prompt, in the order in which they became known; grey for what has none. */
export class PromptColours {
  #prompts = new Set();

  add(prompts) {
    for (const prompt of prompts) if (prompt !== null) this.#prompts.add(prompt);
  }

  get known() {
    return [...this.#prompts];
  }

  /** `items` with a `prompt`, by the order of their prompts; those without one come first. */
  inOrder(items) {
    const order = this.known;
    return [...items].sort((one, other) => order.indexOf(one.prompt) - order.indexOf(other.prompt));
  }

  of(prompt) {
    const place = this.known.indexOf(prompt);
    return place < 0 ? "#9aa1a3" : colour(place);
  }
}
