// A stream's numbers, two of them with their last two minutes.

import { drawing, element, mark, say } from "../parts/dom.js";
import { count, duration, rate } from "../parts/format.js";

const KEPT = 120; // polls
const history = new Map(); // by stream: {fps: [...], latency: [...]}, null where there is none

/** To be called once a poll. */
export function remember(streams) {
  const names = new Set(streams.map((stream) => stream.name));
  for (const name of history.keys()) if (!names.has(name)) history.delete(name);
  for (const stream of streams) {
    const past = history.get(stream.name) ?? { fps: [], latency: [] };
    past.fps = [...past.fps, stream.fps].slice(-KEPT);
    past.latency = [...past.latency, stream.latency?.[0] ?? null].slice(-KEPT);
    history.set(stream.name, past);
  }
}

export class Figures {
  #fps = figure("Frames per second", true);
  #latency = figure("Latency, median", true);
  #drops = figure("Frames dropped");
  #governor = figure("Governor");
  node = element("dl", { class: "figures" }, this.#fps.node, this.#latency.node, this.#drops.node, this.#governor.node);

  update(stream) {
    const past = history.get(stream.name) ?? { fps: [], latency: [] };
    this.#fps.show(rate(stream.fps), stream.live ? "published, last 10 s" : "from a file, as fast as it goes");
    this.#fps.draw(past.fps);
    const [median, p95] = stream.latency ?? [];
    this.#latency.show(stream.latency ? duration(median) : "–", stream.latency ? `95 % within ${duration(p95)}` : "no frame yet");
    this.#latency.draw(past.latency);
    this.#drops.show(count(stream.drops), "since the start");
    const step = stream.governor_step;
    this.#governor.show(step ? `Step ${step}` : "At rest", step ? "does less to keep up" : "full quality");
    mark(this.#governor.node, { class: step ? "figure strained" : "figure" });
  }
}

function figure(name, drawn = false) {
  const value = element("b");
  const more = element("small");
  const line = drawing("path", { class: "line" });
  const area = drawing("path", { class: "area" });
  const plot = drawing("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  const node = element("div", { class: "figure" }, element("dt", {}, name), element("dd", {}, value, more, ...(drawn ? [plot] : [])));
  return {
    node,
    show(text, detail) {
      say(value, text);
      say(more, detail);
    },
    draw(values) {
      const d = spark(values);
      line.setAttribute("d", d.line);
      area.setAttribute("d", d.area);
    },
  };
}

/** Newest at the right, over the whole width; the scale starts at zero. */
function spark(values) {
  const top = Math.max(...values.filter((value) => value !== null), 0) * 1.15;
  if (!top || values.length < 2) return { line: "", area: "" };
  const points = values
    .map((value, index) => [(100 * index) / (values.length - 1), value])
    .filter(([, value]) => value !== null)
    .map(([x, value]) => [x, 23 - (22 * value) / top]);
  const line = "M" + points.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L");
  return { line, area: `${line}V24H${points[0][0]}Z` };
}
