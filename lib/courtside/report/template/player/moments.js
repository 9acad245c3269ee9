// The moments before, at and after a row, cut out around whom it is about.

import { clock } from "./clip.js";
import { drawFrame } from "./draw.js";
import { make } from "./dom.js";

const SHAPE = { width: 200, height: 250 };

/**
 * A part of the clip around each of `boxes` (xyxy or null), all of one size, in the shape of `SHAPE`: high
 * enough for the tallest with room for those beside it, and inside the picture where it fits.
 */
export function windowsAround(boxes, width, height) {
  const known = boxes.filter(Boolean);
  if (!known.length) return boxes.map(() => ({ x: 0, y: 0, width, height }));
  const tallest = Math.max(...known.map(([x1, y1, x2, y2]) => Math.max(y2 - y1, 1.1 * (x2 - x1))));
  const high = Math.min(Math.max(1.9 * tallest, height / 5), height, (width * SHAPE.height) / SHAPE.width);
  const wide = (high * SHAPE.width) / SHAPE.height;
  const within = (value, most) => Math.min(Math.max(value, 0), most);
  return boxes.map((box, i) => {
    // Where it is not in view, the place it was or will be.
    const [x1, y1, x2, y2] = box ?? boxes[1] ?? boxes[i - 1] ?? boxes[i + 1] ?? known[0];
    return {
      x: within((x1 + x2) / 2 - wide / 2, width - wide),
      y: within((y1 + y2) / 2 - high / 2, height - high),
      width: wide,
      height: high,
    };
  });
}

/**
 * Three pictures of a row; `onseek(frame)` is called for a click on one. `open()` makes their source, which
 * is one of their own, so that the player's picture stays; it is not made before it is needed.
 */
export class Moments {
  constructor(clip, open) {
    this.clip = clip;
    this.open = open;
    this.source = null;
    this.onseek = () => {};
    this.turn = 0;
    this.pictures = ["before", "at", "after"].map((name) => {
      const size = { width: 2 * SHAPE.width, height: 2 * SHAPE.height };
      const canvas = make("canvas", { ...size, "aria-hidden": "true" });
      const caption = make("span", { class: "cp-caption" });
      const named = { type: "button", class: "cp-moment", "aria-label": name, disabled: "" };
      const button = make("button", named, canvas, caption);
      button.addEventListener("click", () => this.onseek(button.frame));
      return { name, canvas, caption, button };
    });
    this.said = make("p", { class: "cp-said", role: "status" }, clip.words.hint);
    const strip = make("div", { class: "cp-strip" }, ...this.pictures.map(({ button }) => button));
    this.root = make("div", { class: "cp-moments" }, this.said, strip);
  }

  /** Shows the moments of a row; resolves when they are drawn, or another row took their place. */
  async show(row) {
    const turn = ++this.turn;
    this.source ??= this.open();
    const kind = this.clip.kinds[row.kind];
    this.said.replaceChildren(
      make("b", {}, `${kind.label}: ${row.name || `track ${this.clip.layers.tracks.names[row.who]}`}`),
      ` at ${clock(row.time_s, 2)}, frame ${row.frame}. `,
      make("span", {}, `${row.cause}${row.guess ? `: ${row.guess}` : ""}`),
    );
    const frames = [row.before, row.frame, row.after].map((frame) => this.clip.clamp(frame));
    const boxes = frames.map((frame) => this.#box(row, frame));
    const views = windowsAround(boxes, this.clip.width, this.clip.height);
    await this.source.open();
    for (const [i, { name, canvas, caption, button }] of this.pictures.entries()) {
      button.frame = frames[i];
      button.disabled = false;
      button.setAttribute("aria-label", `${name}: go to frame ${frames[i]}`);
      caption.replaceChildren(make("b", {}, name), ` ${clock(this.clip.timeOf(frames[i]), 2)}`);
      await this.source.seek(frames[i]);
      if (turn !== this.turn) return;
      const scale = canvas.width / (canvas.clientWidth || SHAPE.width);
      const about = { layer: row.layer, who: row.who };
      const shown = { tracks: true, truth: true, masks: false, names: true, chosen: null, about, scale };
      drawFrame(canvas.getContext("2d"), this.source.image, this.clip, frames[i], views[i], shown);
    }
  }

  #box(row, frame) {
    const layer = this.clip.layers[row.layer];
    const at = layer.nearest(frame, row.who, 5);
    if (at >= 0) return layer.box(at);
    // A track that is gone: the one that took its place, or had it before.
    for (const who of row.chips) {
      const other = this.clip.layers.tracks.find(frame, who);
      if (other >= 0) return this.clip.layers.tracks.box(other);
    }
    return null;
  }
}
