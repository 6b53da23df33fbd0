// Builds and updates the document. Data of the API is inserted only as text and attributes, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  cross: "M4 4l8 8M12 4l-8 8",
  expand: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  shrink: "M6 2.5V6H2.5M13.5 6H10V2.5M10 13.5V10h3.5M2.5 10H6v3.5",
  bin: "M2.5 4.5h11M6 4.5V3h4v1.5M4 4.5l.6 8.5h6.8l.6-8.5M6.6 7v3.5M9.4 7v3.5",
};

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const element = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const svgElement = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const icon = (name) =>
  svgElement("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, svgElement("path", { d: ICONS[name] }));

/** Sets the text only if it differs, so that selections and screen readers are not disturbed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets attributes that differ; true sets an empty attribute, false and null remove it. */
export function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value === true ? "" : value)) node.setAttribute(name, value === true ? "" : value);
  }
}

/** Updates the children of `parent` to match `items`, in order; nodes of keys that remain are reused. */
export function reconcile(parent, items, key, create, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let node = old.get(name);
    if (!node) {
      node = create(item);
      node.dataset.key = name;
    }
    old.delete(name);
    update(node, item);
    if (node === before) before = before.nextElementSibling;
    else parent.insertBefore(node, before);
  }
  for (const node of old.values()) removeKeepingFocus(node, parent);
}

/** Removes `node`; keyboard focus inside moves to a neighbour. */
function removeKeepingFocus(node, parent) {
  const focused = node.contains(document.activeElement);
  const neighbour = node.nextElementSibling ?? node.previousElementSibling;
  node.remove();
  if (focused) (neighbour?.querySelector("button, a") ?? parent.closest("section")?.querySelector("input, button"))?.focus();
}
