// The daemon's HTTP API. After a 401 it asks the user for the token once and repeats the request.

const TOKEN_KEY = "maskcast-token"; // in sessionStorage, so for this tab only

/** The daemon refused a request: `message` is its error line, `status` the HTTP status. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** No answer: the daemon does not run or the network fails. */
export class Unreachable extends Error {}

let askForToken = async () => null;
let pendingQuestion = null;

/** Sets the function that asks for the token: `ask(reason)` resolves to a token, or to null if the user cancels. */
export function setTokenPrompt(ask) {
  askForToken = ask;
}

function headers(token) {
  return token ? { Authorization: `Bearer ${asBytes(token)}` } : {};
}

/** The headers of a request with the token of this tab, if there is one. */
export const tokenHeaders = () => headers(sessionStorage.getItem(TOKEN_KEY));

/** The UTF-8 bytes of `text`, a character each: a header takes nothing above U+00FF. */
const asBytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

async function send(method, path, body, signal, token) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  try {
    return await fetch(path, {
      method,
      signal,
      headers: { ...headers(token), ...json },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
  } catch (error) {
    throw new Unreachable(error.name === "TimeoutError" ? "no answer in time" : "no answer");
  }
}

async function refusal(response) {
  const text = await response.text().catch(() => "");
  try {
    return new Refused(response.status, String(JSON.parse(text).error));
  } catch {
    return new Refused(response.status, `${response.status} ${response.statusText}`.trim());
  }
}

/** The JSON of the response, or null if it has none. Throws Refused and Unreachable. */
export async function call(method, path, body, signal) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN_KEY);
    const response = await send(method, path, body, signal?.(), token);
    if (response.ok) return response.status === 204 ? null : response.json();
    const refused = await refusal(response);
    if (response.status !== 401 || !(await askForNewToken(token))) throw refused;
  }
}

/** Asks for a token unless another one than `tried` is stored. True if there is a new one to try. */
async function askForNewToken(tried) {
  if (sessionStorage.getItem(TOKEN_KEY) === tried) {
    pendingQuestion ??= askForToken(tried ? "That token was refused." : "").finally(() => (pendingQuestion = null));
    const token = await pendingQuestion;
    if (token === null) return false;
    sessionStorage.setItem(TOKEN_KEY, token);
  }
  return true;
}

/** The byte stream of a stream's preview: pictures without masks, each after its masks. Does not ask for a token, since the polling does. */
export async function openPreview(name, signal) {
  const response = await send("GET", `${path(name, "preview.mjpeg")}?plain=1`, undefined, signal, sessionStorage.getItem(TOKEN_KEY));
  if (!response.ok) throw await refusal(response);
  return response.body;
}

/**
 * An address for `src` of the file at `path`, and a function that gives it up. Elements cannot send the token, so where
 * there is one the file is fetched; without one the browser asks for the parts that it needs.
 */
export async function openFile(path, signal) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (!token) return { src: path, release() {} };
  const response = await send("GET", path, undefined, signal, token);
  if (!response.ok) throw await refusal(response);
  const src = URL.createObjectURL(await response.blob());
  return { src, release: () => URL.revokeObjectURL(src) };
}

/** Throws Refused or Unreachable if there is no file at `path`. */
export async function probe(path) {
  const response = await send("GET", path, undefined, undefined, sessionStorage.getItem(TOKEN_KEY));
  if (!response.ok) throw await refusal(response);
  await response.body.cancel();
}

export const path = (name, ...rest) => ["api/streams", encodeURIComponent(name), ...rest].join("/");

export const streams = () => call("GET", "api/streams", undefined, () => AbortSignal.timeout(10_000));
export const addStream = (stream) => call("POST", "api/streams", stream);
export const removeStream = (name) => call("DELETE", path(name));
export const setPrompts = (name, prompts) => call("PUT", path(name, "prompts"), { prompts });
export const changes = () => call("GET", "api/changes", undefined, () => AbortSignal.timeout(10_000));
export const takeBack = (name) => call("DELETE", name === undefined ? "api/changes" : `api/changes/${encodeURIComponent(name)}`);
export const addObject = (name, object) => call("POST", path(name, "objects"), object);
export const refineObject = (name, id, points) => call("POST", path(name, "objects", id, "points"), points);
export const removeObject = (name, id) => call("DELETE", path(name, "objects", id));

/** `asked`: URLSearchParams. */
export const events = (asked, signal) =>
  call("GET", `api/events?${asked}`, undefined, () => AbortSignal.any([signal, AbortSignal.timeout(10_000)]));
export const eventCounts = (asked) => call("GET", `api/events/counts?${asked}`, undefined, () => AbortSignal.timeout(10_000));
export const eventPath = (id, file) => `api/events/${id}/${file}`;
