// What the player shows, as tables: for each frame the boxes and masks of each layer, and who they are.

/**
 * A layer: all tracks, or all labelled people, of a clip.
 *
 * `names`, `colors` and `inks` have one entry an identity; `starts` (frames + 1) says where the rows of each
 * frame begin; of each row `who` is the identity's index, `boxes` four whole multiples of `unit` pixels
 * (xyxy), and `partner` the identity of the other layer at the same place: -1 for nobody, -2 where that is
 * not known or not asked for. `masks`, if any, are `starts` (rows + 1) into `runs`, and `boxes` (xywh) in
 * pixels of `size`.
 */
export class Layer {
  constructor({ ids, names, colors, inks, starts, who, boxes, unit, partner, masks = null }) {
    Object.assign(this, { ids, names, colors, inks, starts, who, boxes, unit, partner, masks });
    this.rowsOf = null;
  }

  /** First row of a frame, and the row after its last one. */
  span(frame) {
    const inside = frame >= 0 && frame + 1 < this.starts.length;
    return inside ? [this.starts[frame], this.starts[frame + 1]] : [0, 0];
  }

  /** The box of a row as [x1, y1, x2, y2] in pixels. */
  box(row) {
    return Array.from(this.boxes.subarray(4 * row, 4 * row + 4), (side) => side * this.unit);
  }

  /** The row of an identity in a frame, or -1. */
  find(frame, who) {
    const [first, stop] = this.span(frame);
    for (let row = first; row < stop; row++) if (this.who[row] === who) return row;
    return -1;
  }

  /** The row of an identity in the frame nearest to `frame`, at most `reach` frames away, or -1. */
  nearest(frame, who, reach) {
    for (let away = 0; away <= reach; away++) {
      for (const at of [frame - away, frame + away]) {
        const row = this.find(at, who);
        if (row >= 0) return row;
      }
    }
    return -1;
  }

  /** For each identity the unbroken runs of frames with one partner, as [first, last, partner]. */
  bars() {
    const bars = this.names.map(() => []);
    for (let frame = 0; frame + 1 < this.starts.length; frame++) {
      for (let row = this.starts[frame]; row < this.starts[frame + 1]; row++) {
        const own = bars[this.who[row]];
        const last = own[own.length - 1];
        if (last && last[1] === frame - 1 && last[2] === this.partner[row]) last[1] = frame;
        else own.push([frame, frame, this.partner[row]]);
      }
    }
    return bars;
  }
}

/** A clip: its layers `tracks` and perhaps `truth`, its times, and the rows of errors or suspects. */
export class Clip {
  constructor(data) {
    Object.assign(this, data);
    const layer = (content) => (content ? new Layer(content) : null);
    this.layers = { tracks: layer(data.layers.tracks), truth: layer(data.layers.truth) };
  }

  /** Seconds from the first frame at which `frame` is shown. */
  timeOf(frame) {
    return this.times_s[Math.min(Math.max(frame, 0), this.times_s.length - 1)];
  }

  /** The last frame that is shown at or before `time_s`. */
  frameAt(time_s) {
    let low = 0;
    let high = this.times_s.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.times_s[middle] <= time_s + 1e-4) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** `frame` brought into the part that there is a picture of. */
  clamp(frame) {
    return Math.min(Math.max(Math.round(frame), 0), this.shown - 1);
  }
}

/** Seconds as m:ss or h:mm:ss, as everywhere in a report. */
export function clock(seconds, decimals = 0) {
  const unit = 10 ** decimals;
  const ticks = Math.round(Math.max(0, seconds) * unit);
  const whole = Math.floor(ticks / unit);
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  const text =
    whole >= 3600
      ? `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`
      : `${minutes}:${two(whole % 60)}`;
  return decimals ? `${text}.${String(ticks % unit).padStart(decimals, "0")}` : text;
}
