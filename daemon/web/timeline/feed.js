// The events that fit a query, newest first: their first page, further pages, and what has happened since.

import { events as askForEvents } from "../api.js";
import { parameters } from "./query.js";

const PAGE = 50; // events

export class Feed {
  events = [];
  loaded = false; // the first page is there
  #next = null; // the cursor of the next page
  #query;
  #turn = Promise.resolve();
  #stop = new AbortController();

  constructor(query) {
    this.#query = query;
  }

  /** Whether there are older events. */
  get more() {
    return this.#next !== null;
  }

  /** Loads the newest page. True if something is new. Throws Refused and Unreachable. */
  refresh() {
    return this.#inTurn(async () => {
      const page = await this.#page();
      const known = new Map(this.events.map((event) => [event.id, event]));
      const fresh = page.events.filter((event) => !known.has(event.id));
      const joined = page.events.length === 0 || fresh.length < page.events.length;
      for (const event of page.events) known.delete(event.id);
      if (!this.loaded || !joined) {
        this.events = page.events;
        this.#next = page.next;
      } else this.events = [...page.events, ...known.values()];
      this.loaded = true;
      return fresh.length > 0;
    });
  }

  /** Loads the page after the last one. Throws Refused and Unreachable. */
  loadMore() {
    return this.#inTurn(async () => {
      if (!this.more) return;
      const page = await this.#page(this.#next);
      const known = new Set(this.events.map((event) => event.id));
      this.events = [...this.events, ...page.events.filter((event) => !known.has(event.id))];
      this.#next = page.next;
    });
  }

  close() {
    this.#stop.abort();
  }

  #page(cursor) {
    const asked = parameters(this.#query, { to: this.#query.to, limit: PAGE, cursor });
    return askForEvents(asked, this.#stop.signal);
  }

  #inTurn(work) {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => {});
    return mine;
  }
}
