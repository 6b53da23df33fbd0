// Building and updating the document. What comes from the API only ever becomes text or an attribute.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  cross: "M4 4l8 8M12 4l-8 8",
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

export const drawing = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const icon = (name) =>
  drawing("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, drawing("path", { d: ICONS[name] }));

/** Sets text only where it changed, so that selections and screen readers are left in peace. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function mark(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value === true ? "" : value)) node.setAttribute(name, value === true ? "" : value);
  }
}

/** Makes the children of `parent` those of `items`, in order, and keeps the nodes of the keys that stay. */
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
  for (const node of old.values()) removeKindly(node, parent);
}

/** Removes `node`; the keyboard stays nearby. */
function removeKindly(node, parent) {
  const focused = node.contains(document.activeElement);
  const heir = node.nextElementSibling ?? node.previousElementSibling;
  node.remove();
  if (focused) (heir?.querySelector("button, a") ?? parent.closest("section")?.querySelector("input, button"))?.focus();
}
