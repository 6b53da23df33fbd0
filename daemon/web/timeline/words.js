// The words and colours of events: their types, their days and times in the viewer's zone, their prompts.

import { COLOURS, colour } from "../parts/format.js";

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
/** 14, or 2 PM */
export const hour = format({ hour: "numeric" });
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

/** A colour for each prompt, the same at each visit unless two prompts want the same one; grey for what has none. */
export class PromptColours {
  #places = new Map(); // by prompt

  add(prompts) {
    for (const prompt of prompts) if (prompt !== null && !this.#places.has(prompt)) this.#places.set(prompt, this.#place(prompt));
  }

  /** All prompts, by the alphabet. */
  get known() {
    return [...this.#places.keys()].sort();
  }

  of(prompt) {
    return this.#places.has(prompt) ? colour(this.#places.get(prompt)) : "#9aa1a3";
  }

  #place(prompt) {
    const taken = new Set(this.#places.values());
    const wanted = [...prompt].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 9973, 7) % COLOURS.length;
    for (let step = 0; step < COLOURS.length; step += 1) {
      const place = (wanted + step) % COLOURS.length;
      if (!taken.has(place)) return place;
    }
    return wanted;
  }
}
