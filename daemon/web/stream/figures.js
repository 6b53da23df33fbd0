// The figures of a stream; FPS and latency with a sparkline of the last two minutes.

import { element, setAttributes, setText, svgElement } from "../parts/dom.js";
import { count, duration, rate } from "../parts/format.js";

const HISTORY_LENGTH = 120; // polls
const history = new Map(); // by stream: {fps: [...], latency: [...]}; null where a value is missing

/** Appends the values of one poll; to be called once per poll. */
export function recordHistory(streams) {
  const names = new Set(streams.map((stream) => stream.name));
  for (const name of history.keys()) if (!names.has(name)) history.delete(name);
  for (const stream of streams) {
    const values = history.get(stream.name) ?? { fps: [], latency: [] };
    values.fps = [...values.fps, stream.fps].slice(-HISTORY_LENGTH);
    values.latency = [...values.latency, stream.latency?.[0] ?? null].slice(-HISTORY_LENGTH);
    history.set(stream.name, values);
  }
}

export class Figures {
  #fps = createFigure("Frames per second", true);
  #latency = createFigure("Latency, median", true);
  #drops = createFigure("Frames dropped");
  #governor = createFigure("Governor");
  node = element("dl", { class: "figures" }, this.#fps.node, this.#latency.node, this.#drops.node, this.#governor.node);

  update(stream) {
    const values = history.get(stream.name) ?? { fps: [], latency: [] };
    this.#fps.show(rate(stream.fps), stream.live ? "published, last 10 s" : "from a file, as fast as it goes");
    this.#fps.draw(values.fps);
    const [median, p95] = stream.latency ?? [];
    this.#latency.show(stream.latency ? duration(median) : "–", stream.latency ? `95 % within ${duration(p95)}` : "no frame yet");
    this.#latency.draw(values.latency);
    this.#drops.show(count(stream.drops), "since the start");
    const step = stream.governor_step;
    this.#governor.show(step ? `Step ${step}` : "At rest", step ? "does less to keep up" : "full quality");
    setAttributes(this.#governor.node, { class: step ? "figure degraded" : "figure" });
  }
}

function createFigure(name, withSparkline = false) {
  const value = element("b");
  const more = element("small");
  const line = svgElement("path", { class: "line" });
  const area = svgElement("path", { class: "area" });
  const plot = svgElement("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  const node = element("div", { class: "figure" }, element("dt", {}, name), element("dd", {}, value, ...(withSparkline ? [plot] : []), more));
  return {
    node,
    show(text, detail) {
      setText(value, text);
      setText(more, detail);
    },
    draw(values) {
      const d = sparkline(values);
      line.setAttribute("d", d.line);
      area.setAttribute("d", d.area);
    },
  };
}

/** SVG paths of the line and the area below it. The newest value is at the right; the scale starts at zero. */
function sparkline(values) {
  const top = Math.max(...values.filter((value) => value !== null), 0) * 1.15;
  if (!top || values.length < 2) return { line: "", area: "" };
  const points = values
    .map((value, index) => [(100 * index) / (values.length - 1), value])
    .filter(([, value]) => value !== null)
    .map(([x, value]) => [x, 23 - (22 * value) / top]);
  const line = "M" + points.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L");
  return { line, area: `${line}V24H${points[0][0]}Z` };
}
