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

/** A sign as a picture that readers of the page skip. */
export function sign(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  for (const [key, value] of [["viewBox", "0 0 16 16"], ["width", "16"], ["height", "16"], ["aria-hidden", "true"]]) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", SIGNS[name]);
  path.setAttribute("fill", "currentColor");
  svg.append(path);
  return svg;
}

/** The mark of a kind of row, drawn so that the shape alone tells the kind. */
export function drawMark(context, shape, x, y, size, color) {
  const half = size / 2;
  context.fillStyle = color;
  context.strokeStyle = color;
  context.lineWidth = Math.max(1.5, size / 5);
  context.beginPath();
  if (shape === "diamond") {
    context.moveTo(x, y - half);
    context.lineTo(x + half, y);
    context.lineTo(x, y + half);
    context.lineTo(x - half, y);
    context.closePath();
    context.fill();
  } else if (shape === "triangle") {
    context.moveTo(x, y - half);
    context.lineTo(x + half, y + half);
    context.lineTo(x - half, y + half);
    context.closePath();
    context.fill();
  } else if (shape === "ring") {
    context.arc(x, y, half - context.lineWidth / 2, 0, 2 * Math.PI);
    context.stroke();
  } else if (shape === "cross") {
    const arm = 0.75 * half;
    context.moveTo(x - arm, y - arm);
    context.lineTo(x + arm, y + arm);
    context.moveTo(x + arm, y - arm);
    context.lineTo(x - arm, y + arm);
    context.stroke();
  } else {
    context.rect(x - half + 1, y - half + 1, size - 2, size - 2);
    context.fill();
  }
}

/** A small canvas with the mark of a kind. */
export function markOf({ mark, color }) {
  const canvas = make("canvas", { width: 24, height: 24, class: "mark", "aria-hidden": "true" });
  drawMark(canvas.getContext("2d"), mark, 12, 12, 20, color);
  return canvas;
}
