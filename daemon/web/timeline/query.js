// What the timeline shows, as it stands in the address: #/?timeline&stream=gate&type=track_started&prompt=car&to=1795459200

export const SEEN = "track_started"; // the type that is shown unless another one is chosen

const ALL = "all"; // the type in the address that stands for every type; elsewhere it is ""

/** What the address asks for: `{stream, type, prompt, to}`, "" and null where it does not say; null if it is no timeline. */
export function parse(hash) {
  const asked = new URLSearchParams(hash.startsWith("#/?") ? hash.slice(3) : "");
  if (!asked.has("timeline")) return null;
  const type = asked.get("type") ?? SEEN;
  const to = Number(asked.get("to"));
  return {
    stream: asked.get("stream") ?? "",
    type: type === ALL ? "" : type,
    prompt: asked.get("prompt") ?? "",
    to: to > 0 && to < 1e11 ? to : null, // Unix seconds; events from then on are left out
  };
}

export function address({ stream = "", type = SEEN, prompt = "", to = null } = {}) {
  const asked = filled({ stream, type: type === SEEN ? "" : type || ALL, prompt, to });
  return ["#/?timeline", ...(asked.size ? [asked] : [])].join("&");
}

/** The parameters of a request to the API. */
export const parameters = ({ stream, type, prompt }, more) => filled({ stream, type, prompt, ...more });

function filled(values) {
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value != null));
}
