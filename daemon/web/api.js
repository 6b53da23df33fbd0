// The daemon over HTTP. A 401 asks for the token once and repeats the request.

const KEPT = "maskcast-token"; // in sessionStorage: this tab only

/** The daemon refused: `message` is its own line, `status` the HTTP status. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** No answer: the daemon is gone, or the way to it is. */
export class Unreachable extends Error {}

let askForToken = async () => null;
let asking = null;

/** `ask(why)` resolves to a token, or to null when the person declines. */
export function onLocked(ask) {
  askForToken = ask;
}

function headers(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

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

/** The answer's JSON, or null when it has none. Raises Refused and Unreachable. */
export async function call(method, path, body, signal) {
  for (;;) {
    const token = sessionStorage.getItem(KEPT);
    const response = await send(method, path, body, signal?.(), token);
    if (response.ok) return response.status === 204 ? null : response.json();
    const refused = await refusal(response);
    if (response.status !== 401 || !(await unlock(token))) throw refused;
  }
}

/** True when there is another token to try. */
async function unlock(tried) {
  if (sessionStorage.getItem(KEPT) === tried) {
    asking ??= askForToken(tried ? "That token was refused." : "").finally(() => (asking = null));
    const token = await asking;
    if (token === null) return false;
    sessionStorage.setItem(KEPT, token);
  }
  return true;
}

/** The bytes of a stream's pictures as they come. Asks for no token: the calls beside it do. */
export async function openPictures(name, signal) {
  const response = await send("GET", path(name, "preview.mjpeg"), undefined, signal, sessionStorage.getItem(KEPT));
  if (!response.ok) throw await refusal(response);
  return response.body;
}

export const path = (name, ...rest) => ["api/streams", encodeURIComponent(name), ...rest].join("/");

export const streams = () => call("GET", "api/streams", undefined, () => AbortSignal.timeout(10_000));
export const addStream = (stream) => call("POST", "api/streams", stream);
export const removeStream = (name) => call("DELETE", path(name));
export const setPrompts = (name, prompts) => call("PUT", path(name, "prompts"), { prompts });
export const addObject = (name, object) => call("POST", path(name, "objects"), object);
export const refineObject = (name, id, points) => call("POST", path(name, "objects", id, "points"), { points });
export const removeObject = (name, id) => call("DELETE", path(name, "objects", id));
