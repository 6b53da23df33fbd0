// The page of a fleet: asks again and again what runs where, and links the pages of the daemons.

import { Refused, call, setTokenPrompt } from "./api.js";
import { askForToken } from "./dialogs.js";
import { element, setText } from "./parts/dom.js";

const POLL_INTERVAL = 2000; // ms
const get = (id) => document.getElementById(id);

const worker = ({ worker, page, state, problem, streams }) => [
  page ? element("a", { href: page }, worker) : worker,
  state,
  problem,
  streams.join(", "),
];
const stream = ({ stream, node, state, reason }) => [stream, node ?? "", state, reason];

function fill(table, rows) {
  get(table).replaceChildren(...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell)))));
}

function tell(problem) {
  get("problem").hidden = !problem;
  setText(get("problem"), problem);
}

async function poll() {
  try {
    const fleet = await call("GET", "fleet", undefined, () => AbortSignal.timeout(10_000));
    fill("workers", fleet.workers.map(worker));
    fill("streams", fleet.streams.map(stream));
    tell(fleet.problem ?? "");
  } catch (error) {
    tell(error.message);
    if (error instanceof Refused && error.status === 401) return; // until the page is loaded again
  }
  setTimeout(poll, POLL_INTERVAL);
}

setTokenPrompt(askForToken);
poll();
