// Elements, and the few signs of the player's buttons.

/** An element with attributes (`on...` are listeners, false and null are left out) and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SIGNS = {
  play: "M4 2.5v11l9-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  back: "M11.5 3v10L5 8zM3.5 3h1.6v10H3.5z",
  forward: "M4.5 3v10L11 8zM10.9 3h1.6v10h-1.6z",
};

// Around the middle of a square of 10, all to be filled, so that page and canvas share them.
const MARKS = {
  diamond: "M0-5 5 0 0 5-5 0z",
  triangle: "M0-4.5 5 4.5H-5z",
  square: "M-4-4H4V4H-4z",
  ring: "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0zM-2.7 0a2.7 2.7 0 1 1 5.4 0a2.7 2.7 0 1 1-5.4 0z",
  cross: "M-4.5-2.5-2.5-4.5 0-2 2.5-4.5 4.5-2.5 2 0 4.5 2.5 2.5 4.5 0 2-2.5 4.5-4.5 2.5-2 0z",
};

function picture(path, box, size, color, name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const attributes = { viewBox: box, width: size, height: size, "aria-hidden": "true", class: name };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  const shape = document.createElementNS(space, "path");
  shape.setAttribute("d", path);
  shape.setAttribute("fill", color);
  svg.append(shape);
  return svg;
}

/** A sign as a picture that screen readers skip. */
export function sign(name) {
  return picture(SIGNS[name], "0 0 16 16", 16, "currentColor", "cp-sign");
}

/** The mark of a kind of row, whose shape alone tells the kind. */
export function markOf({ mark, color }) {
  return picture(MARKS[mark], "-5 -5 10 10", 12, color, "mark");
}

/** The same mark on a canvas, around (x, y). */
export function drawMark(context, mark, x, y, size, color) {
  context.save();
  context.translate(x, y);
  context.scale(size / 10, size / 10);
  context.fillStyle = color;
  context.fill(new Path2D(MARKS[mark]));
  context.restore();
}
