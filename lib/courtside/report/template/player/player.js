// The player: the clip on a canvas with its tracks and labels, the timeline, and the rows to look into.

import { Clip, clock } from "./clip.js";
import { make, sign } from "./dom.js";
import { drawFrame, hit } from "./draw.js";
import { Moments } from "./moments.js";
import { RowTable } from "./table.js";
import { Timeline } from "./timeline.js";

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const KEYS = [
  ["Space, K", "play or pause"],
  ["\u2190 \u2192", "one frame back or on"],
  ["Shift \u2190 \u2192", "one second back or on"],
  ["Home, End", "first or last frame"],
  ["N, P", "next or previous row"],
  ["+ \u2212", "faster or slower"],
  ["T, G, M, L", "tracks, ground truth, masks, names on or off"],
  ["Esc", "show everybody again"],
];

/**
 * A player inside `root`.
 *
 * `data` is what `unpack` gives; `source` shows its pictures (a `VideoSource`, or anything with its members),
 * and `another()` makes a second such source for the crops. `aside`, an element, takes the place of the table
 * of rows. Events, with `detail`: `seek` {frame}; `select` {layer, who, id} or null; `row` {row}; `point`
 * {frame, x, y, shift} for a click into the picture, in pixels of the clip; preventing that keeps it from
 * choosing anybody.
 */
export class Player extends EventTarget {
  constructor(root, data, source, another, aside = null) {
    super();
    Object.assign(this, { root, source, another, aside, frame: 0, speed: 1, chosen: null, shown: null });
    source.onframe = (frame) => this.#show(frame);
    source.onstate = () => this.#tellState();
    this.watcher = new ResizeObserver(() => this.#resize());
    this.update(data);
  }

  /** Shows other data over the same pictures, such as after a correction; frame, speed and toggles stay. */
  update(data) {
    this.moments?.source?.close();
    this.watcher.disconnect();
    this.clip = new Clip(data);
    const { truth, tracks } = this.clip.layers;
    const masked = Boolean(tracks.masks || truth?.masks);
    const able = { tracks: true, truth: truth !== null, masks: masked, names: true };
    for (const name of Object.keys(able)) able[name] &&= this.shown?.[name] ?? true;
    this.shown = able;
    this.chosen = null;
    this.timeline = new Timeline(this.clip);
    this.moments = this.clip.rows.length ? new Moments(this.clip, this.another) : null;
    this.table = new RowTable(this.clip);
    this.timeline.onseek = (frame) => this.seek(frame);
    this.timeline.onselect = (who) => this.select(who);
    this.table.onchoose = (row) => this.showRow(row);
    this.table.onfilter = (rows) => this.timeline.redraw(rows);
    this.timeline.redraw(this.table.rows);
    if (this.moments) this.moments.onseek = (frame) => this.seek(frame);
    this.wide = 0;
    this.#build();
    this.#tellState();
    this.watcher.observe(this.stage);
    this.#resize();
    if (this.source.frame >= 0) this.#show(this.source.frame);
  }

  /** Shows a frame; resolves when it is on the canvas. */
  async seek(frame) {
    const wanted = this.clip.clamp(frame);
    this.source.pause();
    await this.source.seek(wanted);
    this.#emit("seek", { frame: this.frame });
  }

  async play() {
    await this.source.play(this.speed);
  }

  pause() {
    this.source.pause();
  }

  toggle() {
    return this.source.playing ? this.pause() : this.play();
  }

  /** Makes one identity stand out ({layer, who}), or everybody equal (null). */
  select(chosen) {
    const same = chosen && this.chosen?.layer === chosen.layer && this.chosen?.who === chosen.who;
    this.chosen = same ? null : chosen;
    this.timeline.choose(this.chosen);
    const layer = this.chosen && this.clip.layers[this.chosen.layer];
    this.only.hidden = !layer;
    if (layer) {
      const name = layer.names[this.chosen.who];
      this.only.firstChild.textContent = `Only ${this.chosen.layer === "tracks" ? `track ${name}` : name} `;
    }
    this.#draw();
    this.#emit("select", layer ? { ...this.chosen, id: layer.ids[this.chosen.who] } : null);
  }

  /** Goes to a row: its moments as crops, and the player at its frame. */
  async showRow(row) {
    this.table.choose(row);
    if (row.frame >= this.clip.shown) return;
    this.#emit("row", { row });
    // In one column the pictures may lie above what is in view.
    this.moments.root.scrollIntoView({ block: "nearest" });
    await Promise.all([this.seek(row.frame), this.moments.show(row)]);
  }

  setSpeed(speed) {
    this.speed = speed;
    this.faster.value = String(speed);
    if (this.source.playing) this.source.play(speed);
  }

  /** Turns `tracks`, `truth`, `masks` or `names` on or off. */
  toggleLayer(name) {
    if (!this.toggles[name]) return;
    this.shown[name] = !this.shown[name];
    this.toggles[name].setAttribute("aria-pressed", this.shown[name]);
    this.#draw();
  }

  /** Where in the picture a mouse or touch is, [x, y] in pixels of the clip. */
  pointOf({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    const along = (at, start, length, pixels) => ((at - start) / length) * pixels;
    return [
      along(clientX, box.left, box.width, this.clip.width),
      along(clientY, box.top, box.height, this.clip.height),
    ];
  }

  /** The id of whoever of a layer is at a point of the frame that is shown, or null. */
  idAt(x, y, layer = "tracks") {
    const found = hit(this.clip, this.frame, x, y, { [layer]: true });
    return found && this.clip.layers[layer].ids[found.who];
  }

  close() {
    this.watcher.disconnect();
    this.source.close();
    this.moments?.source?.close();
    this.root.replaceChildren();
  }

  #build() {
    this.canvas = make("canvas", { role: "img", "aria-label": "The frame with its tracks" });
    this.context = this.canvas.getContext("2d");
    this.canvas.addEventListener("click", (event) => this.#click(event));
    this.stage = make("div", { class: "cp-stage" }, this.canvas);
    this.slider = make("input", {
      type: "range", min: 0, max: this.clip.shown - 1, value: 0, step: 1, "aria-label": "Frame",
      oninput: () => this.seek(Number(this.slider.value)),
    });
    this.readout = make("output", { class: "cp-now" });
    const button = (label, icon, act) =>
      make("button", { type: "button", title: label, "aria-label": label, onclick: act }, sign(icon));
    this.playing = button("Play", "play", () => this.toggle());
    this.faster = make(
      "select",
      { "aria-label": "Speed", title: "Speed", onchange: () => this.setSpeed(Number(this.faster.value)) },
      ...SPEEDS.map((speed) => make("option", { value: speed }, `${speed} \u00d7`)),
    );
    this.faster.value = String(this.speed);
    this.only = make(
      "button",
      { type: "button", class: "cp-only", hidden: "", onclick: () => this.select(null) },
      "",
      make("span", { "aria-label": "show everybody" }, "\u00d7"),
    );
    const bar = make(
      "div",
      { class: "cp-bar" },
      button("One frame back", "back", () => this.seek(this.frame - 1)),
      this.playing,
      button("One frame on", "forward", () => this.seek(this.frame + 1)),
      this.readout,
      this.faster,
      this.#buildToggles(),
      this.only,
      this.#keys(),
    );
    const left = make("div", { class: "cp-main" }, this.stage, this.slider, bar, this.timeline.root);
    const right = make("div", { class: "cp-side" }, ...(this.aside ? [this.aside] : [this.moments?.root, this.table.root]));
    // Jupyter would take the same keys for its own.
    const onkeydown = (event) => this.#key(event);
    const attributes = { class: "cp", tabindex: -1, "data-lm-suppress-shortcuts": "true", onkeydown };
    this.root.replaceChildren(make("div", attributes, left, right));
  }

  #buildToggles() {
    const { truth, tracks } = this.clip.layers;
    const names = { tracks: ["Tracks", "solid boxes: what the tracker found"] };
    if (truth) names.truth = ["Ground truth", "dashed boxes: the people labelled by hand"];
    if (tracks.masks || truth?.masks) names.masks = ["Masks", "shapes instead of boxes"];
    names.names = ["Names", "the name beside each box"];
    this.toggles = {};
    for (const [name, [label, title]] of Object.entries(names)) {
      const act = () => this.toggleLayer(name);
      const attributes = { type: "button", class: `cp-toggle cp-of-${name}`, title, onclick: act };
      this.toggles[name] = make("button", { ...attributes, "aria-pressed": String(this.shown[name]) }, label);
    }
    const attributes = { class: "cp-toggles", role: "group", "aria-label": "Shown" };
    return make("div", attributes, ...Object.values(this.toggles));
  }

  #keys() {
    const lines = KEYS.flatMap(([keys, does]) => [make("dt", {}, keys), make("dd", {}, does)]);
    return make("details", { class: "cp-keys" }, make("summary", {}, "Keys"), make("dl", {}, ...lines));
  }

  #resize() {
    const wide = this.stage.clientWidth;
    if (!wide || wide === this.wide) return;
    this.wide = wide;
    const most = Math.max(200, 0.68 * window.innerHeight);
    const shrink = Math.min(1, (most * this.clip.width) / (wide * this.clip.height));
    const [width, height] = [wide * shrink, (wide * shrink * this.clip.height) / this.clip.width];
    this.scale = Math.min(window.devicePixelRatio || 1, 2);
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    this.canvas.width = Math.round(width * this.scale);
    this.canvas.height = Math.round(height * this.scale);
    this.timeline.resize(this.timeline.scroll.clientWidth);
    this.#draw();
  }

  #show(frame) {
    this.frame = frame;
    this.slider.value = String(frame);
    const time = clock(this.clip.timeOf(frame), 2);
    this.slider.setAttribute("aria-valuetext", `${time}, frame ${frame}`);
    this.readout.replaceChildren(make("b", {}, time), ` frame ${frame}`);
    this.#draw();
    this.timeline.show(frame);
    if (this.source.playing) this.#emit("seek", { frame });
  }

  #draw() {
    if (this.source.frame < 0) return;
    const view = { x: 0, y: 0, width: this.clip.width, height: this.clip.height };
    const shown = { ...this.shown, chosen: this.chosen, scale: this.scale };
    drawFrame(this.context, this.source.image, this.clip, this.frame, view, shown);
    this.canvas.dataset.frame = this.frame;
  }

  #tellState() {
    const { playing } = this.source;
    this.playing.replaceChildren(sign(playing ? "pause" : "play"));
    this.playing.setAttribute("aria-label", playing ? "Pause" : "Play");
    this.playing.title = playing ? "Pause" : "Play";
  }

  #click(event) {
    const [x, y] = this.pointOf(event);
    if (!this.#emit("point", { frame: this.frame, x, y, shift: event.shiftKey })) return;
    const found = hit(this.clip, this.frame, x, y, this.shown);
    if (found || this.chosen) this.select(found);
  }

  #key(event) {
    const typing = event.target.matches("input:not([type=range]), select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const second = Math.max(1, Math.round(this.clip.fps));
    const step = event.shiftKey ? second : 1;
    const beside = (way) => {
      const row = this.table.beside(way, this.frame);
      return row && this.showRow(row);
    };
    const faster = (way) => this.setSpeed(SPEEDS[SPEEDS.indexOf(this.speed) + way] ?? this.speed);
    const acts = {
      " ": () => this.toggle(),
      k: () => this.toggle(),
      ArrowLeft: () => this.seek(this.frame - step),
      ArrowRight: () => this.seek(this.frame + step),
      Home: () => this.seek(0),
      End: () => this.seek(this.clip.shown - 1),
      n: () => beside(1),
      p: () => beside(-1),
      "+": () => faster(1),
      "-": () => faster(-1),
      t: () => this.toggleLayer("tracks"),
      g: () => this.toggleLayer("truth"),
      m: () => this.toggleLayer("masks"),
      l: () => this.toggleLayer("names"),
      Escape: () => this.chosen && this.select(null),
    };
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    // Space presses the button that has the focus.
    if (!act || (event.key === " " && event.target.matches("button, summary"))) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  #emit(name, detail) {
    return this.dispatchEvent(new CustomEvent(name, { detail, cancelable: true }));
  }
}
