// The identity timeline: a lane for each person over time, with the errors on it; a click seeks.

import { clock } from "./clip.js";
import { drawMark, make } from "./dom.js";

const LANE = 18;
const HEAD = 22;
const INK = "#1d2733";
const QUIET = "#5d6b7a";

/**
 * The lanes of a clip, top to bottom: labelled people who were asked for, in order of their first frame, then
 * at most `most` tracks, the longest. Each is {layer, who, name, bars}.
 */
export function lanesOf(clip, most = 150) {
  const lanes = [];
  for (const kind of ["truth", "tracks"]) {
    const layer = clip.layers[kind];
    if (!layer) continue;
    const length = (lane) => lane.bars.reduce((sum, [first, last]) => sum + last - first + 1, 0);
    const own = layer
      .bars()
      .map((bars, who) => ({
        layer: kind,
        who,
        name: layer.names[who],
        bars: kind === "truth" ? bars.filter((bar) => bar[2] !== -2) : bars,
      }))
      .filter((lane) => lane.bars.length)
      .sort((a, b) => length(b) - length(a))
      .slice(0, kind === "truth" ? 100 : most)
      .sort((a, b) => a.bars[0][0] - b.bars[0][0] || a.who - b.who);
    lanes.push(...own);
  }
  return lanes;
}

/** Draws the lanes of a clip; `onseek(frame)` and `onselect({layer, who})` are called for clicks. */
export class Timeline {
  constructor(clip) {
    this.clip = clip;
    this.onseek = () => {};
    this.onselect = () => {};
    this.lanes = lanesOf(clip);
    this.chosen = null;
    this.still = document.createElement("canvas");
    const players = this.lanes.filter((lane) => lane.layer === "truth").length;
    const about =
      `Timeline of ${players ? `${players} true players and ` : ""}${this.lanes.length - players} tracks, ` +
      "a lane each; the slider above moves through the same time and the table lists every mark.";
    this.canvas = make("canvas", { role: "img", "aria-label": about });
    this.readout = make("div", { class: "cp-readout", "aria-hidden": "true" }, "Click a lane to go there.");
    const group = { tabindex: 0, role: "group", "aria-label": "Timeline" };
    this.scroll = make("div", { class: "cp-lanes", ...group }, this.canvas);
    this.root = make("div", { class: "cp-timeline" }, this.scroll, this.readout);
    let held = false;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button) return;
      held = event.pointerType !== "touch";
      if (held) this.canvas.setPointerCapture(event.pointerId);
      const { frame, lane } = this.#at(event);
      this.onseek(frame);
      if (lane) this.onselect({ layer: lane.layer, who: lane.who });
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const { frame, lane } = this.#at(event);
      if (held) this.onseek(frame);
      this.readout.textContent = this.#say(frame, lane);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => {
        held = false;
      });
    }
  }

  /** Fits the canvas to `width` CSS pixels and draws the lanes anew. */
  resize(width) {
    if (width < 1) return;
    this.width = width;
    this.gutter = width < 500 ? 64 : 92;
    this.height = HEAD + this.lanes.length * LANE + 4;
    this.scale = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.canvas, this.still]) {
      canvas.width = Math.round(width * this.scale);
      canvas.height = Math.round(this.height * this.scale);
    }
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${this.height}px`;
    this.redraw();
  }

  /** The x of the start of a frame, in CSS pixels. */
  x(frame) {
    return this.gutter + ((this.width - this.gutter - 6) * frame) / this.clip.frame_count;
  }

  /** Draws what doesn't move; `rows` are the errors to mark. */
  redraw(rows = this.rows ?? []) {
    this.rows = rows;
    if (!this.width) return;
    const context = this.still.getContext("2d");
    context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, this.width, this.height);
    this.#axis(context);
    this.lanes.forEach((lane, i) => this.#lane(context, lane, HEAD + i * LANE));
    this.#marks(context);
    this.show(this.frame ?? 0);
  }

  /** Draws the lanes with the line that says where the player is. */
  show(frame) {
    this.frame = frame;
    if (!this.width) return;
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.still, 0, 0);
    context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    const x = this.x(frame + 0.5);
    context.fillStyle = "#0b57d0";
    context.fillRect(x - 1, 0, 2, this.height);
    context.beginPath();
    context.moveTo(x - 6, 0);
    context.lineTo(x + 6, 0);
    context.lineTo(x, 8);
    context.fill();
  }

  choose(chosen) {
    this.chosen = chosen;
    this.redraw();
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (event.clientX - box.left - this.gutter) / (this.width - this.gutter - 6);
    const frame = this.clip.clamp(Math.floor(share * this.clip.frame_count));
    return { frame, lane: this.lanes[Math.floor((event.clientY - box.top - HEAD) / LANE)] };
  }

  #say(frame, lane) {
    const time = `${clock(this.clip.timeOf(frame), 2)}, frame ${frame}`;
    if (!lane) return time;
    const bar = lane.bars.find(([first, last]) => first <= frame && frame <= last);
    const other = this.clip.layers[lane.layer === "truth" ? "tracks" : "truth"];
    const who = lane.layer === "truth" ? lane.name : `track ${lane.name}`;
    if (!bar) return `${time}: ${who} is not in view`;
    if (bar[2] >= 0) {
      const name = other.names[bar[2]];
      return `${time}: ${who} ${lane.layer === "truth" ? `followed by track ${name}` : `on ${name}`}`;
    }
    if (bar[2] === -2) return `${time}: ${who}`;
    return `${time}: ${who} ${lane.layer === "truth" ? "not followed" : "on no labelled player"}`;
  }

  #axis(context) {
    const end = this.clip.timeOf(this.clip.frame_count - 1);
    const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600];
    const step = steps.find((each) => (end / each) * 60 < this.width - this.gutter) ?? 7200;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let time = 0; time <= end; time += step) {
      const x = this.x(this.clip.frameAt(time));
      context.fillStyle = "#e3e8ee";
      context.fillRect(x, HEAD - 6, 1, this.height);
      context.fillStyle = QUIET;
      context.fillText(clock(time, step < 1 ? 1 : 0), x + 3, 9);
    }
  }

  #lane(context, lane, top) {
    const layer = this.clip.layers[lane.layer];
    const truth = lane.layer === "truth";
    const middle = top + LANE / 2;
    const { chosen } = this;
    const own = chosen && chosen.layer === lane.layer && chosen.who === lane.who;
    if (own) {
      context.fillStyle = "#dbe9fb";
      context.fillRect(0, top, this.width, LANE);
    }
    for (const [first, last, partner] of lane.bars) {
      const [left, right] = [this.x(first), Math.max(this.x(last + 1), this.x(first) + 1)];
      if (truth && partner < 0) {
        context.fillStyle = "#8b98a6";
        context.fillRect(left, middle - 1, right - left, 2);
        continue;
      }
      const color = truth ? this.clip.layers.tracks.colors[partner] : layer.colors[lane.who];
      context.fillStyle = color;
      context.fillRect(left, top + 3, right - left, LANE - 6);
      if (!truth && partner === -1) this.#hatch(context, left, top + 3, right - left, LANE - 6);
      if (truth && right - left > 22) {
        context.fillStyle = this.clip.layers.tracks.inks[partner];
        context.font = "600 11px system-ui, sans-serif";
        context.fillText(this.clip.layers.tracks.names[partner], left + 4, middle + 0.5, right - left - 6);
      }
    }
    context.fillStyle = "#fff";
    if (!own) context.fillRect(0, top, this.gutter - 4, LANE);
    context.fillStyle = INK;
    context.font = `${truth ? 600 : 400} 11px system-ui, sans-serif`;
    context.fillText(truth ? lane.name : `track ${lane.name}`, 6, middle, this.gutter - 12);
  }

  /** White strokes over a bar: a track that is on nobody is told by more than its colour. */
  #hatch(context, left, top, width, height) {
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.strokeStyle = "rgba(255, 255, 255, 0.85)";
    context.lineWidth = 2;
    context.beginPath();
    for (let x = left - height; x < left + width; x += 6) {
      context.moveTo(x, top + height);
      context.lineTo(x + height, top);
    }
    context.stroke();
    context.restore();
  }

  #marks(context) {
    const laneOf = new Map(this.lanes.map((lane, i) => [`${lane.layer} ${lane.who}`, i]));
    for (const row of this.rows) {
      const lane = laneOf.get(`${row.layer} ${row.who}`);
      const kind = this.clip.kinds[row.kind];
      if (lane === undefined || !kind.marked) continue;
      const y = HEAD + lane * LANE + LANE / 2;
      drawMark(context, kind.mark, this.x(row.frame), y, 13, "#fff");
      drawMark(context, kind.mark, this.x(row.frame), y, 10, kind.color);
    }
  }
}
