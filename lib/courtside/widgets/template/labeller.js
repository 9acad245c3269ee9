// Labelling: the player, tools for its picture, and operations on identities, each sent to the kernel.

import { Link, hideLastState } from "./link.js";
import { make } from "./dom.js";
import { openPlayer } from "./live.js";
import { withArrays } from "./unpack.js";

const LABEL_TOOLS = [
  ["choose", "Choose", "click a player; with Shift a second one"],
  ["on", "+ On it", "click on a player: a new one, or more of the chosen one"],
  ["beside", "\u2212 Beside", "click on what is not part of the chosen player"],
  ["box", "Box", "drag a box around a player: a new one, or the chosen one anew"],
  ["region", "Ignore region", "drag a region in which nobody counts"],
];
const LABEL_KEYS = [
  ["C, A, B, R", "choose, click on, click beside, draw a box"],
  ["X, J, S", "swap from here, join, split here"],
  ["F, Delete", "follow, delete"],
  ["Z, Y", "undo, redo"],
];

class Labeller {
  constructor(model, el) {
    this.model = model;
    this.link = new Link(model);
    this.link.onnews = (content, bytes) => this.#news(content, bytes);
    this.link.onwait = (waiting) => this.tell(waiting ? "Waiting for the kernel\u2026" : "");
    Object.assign(this, { tool: "choose", chosen: null, second: null, clicks: 0, drag: null });
    this.shown = hideLastState(model.get("view"));
    this.panel = make("div", { class: "cl-panel" });
    this.stage = make("div", { class: "courtside-player", "data-state": "opening" }, "Opening the video\u2026");
    this.root = make(
      "div",
      { class: "cl", "data-lm-suppress-shortcuts": "true", onkeydown: (event) => this.#key(event) },
      this.stage,
    );
    el.append(this.root);
    this.#build();
    this.fresh = () => this.#fill();
    model.on("change:state", this.fresh);
    this.#fill();
    this.ready = openPlayer(this.link, this.stage, this.panel).then(
      (player) => this.#opened(player),
      (error) => {
        this.stage.dataset.state = "failed";
        this.stage.replaceChildren(`The player could not start: ${error.message}`, this.panel);
      },
    );
  }

  get state() {
    return this.model.get("state");
  }

  close() {
    this.model.off("change:state", this.fresh);
    this.player?.close();
    this.link.close();
    this.shown();
  }

  /** Says something to whoever labels. */
  tell(text, wrong = false) {
    this.status.textContent = text;
    this.status.classList.toggle("cl-wrong", wrong);
  }

  /** Sends an operation with the clicks that it took; what the kernel has against it is said. */
  async send(content) {
    const clicks = this.clicks;
    this.clicks = 0;
    this.root.dataset.busy = "true";
    try {
      const { content: answer } = await this.link.ask({ ...content, clicks });
      this.tell(answer.said ?? "");
      return answer;
    } catch (error) {
      // What was refused was work all the same.
      this.clicks += clicks;
      this.tell(error.message, true);
      return null;
    } finally {
      delete this.root.dataset.busy;
    }
  }

  async #opened(player) {
    this.player = player;
    player.addEventListener("seek", ({ detail }) => {
      this.model.set("frame", detail.frame);
      this.model.save_changes();
      this.#fill();
    });
    player.addEventListener("select", ({ detail }) => {
      if (this.quiet) return;
      this.chosen = detail?.layer === "tracks" ? detail.id : null;
      this.second = null;
      this.#fill();
    });
    player.addEventListener("point", (event) => this.#point(event));
    this.#hearDrags();
    await player.seek(this.model.get("frame"));
    this.#fill();
  }

  #news(content, bytes) {
    if (content.type !== "clip" || !this.player) return;
    this.player.update(withArrays(content.clip, bytes));
    this.#hearDrags();
    if (content.chosen !== undefined) this.chosen = content.chosen;
    const { ids } = this.player.clip.layers.tracks;
    if (!ids.includes(this.chosen)) this.chosen = null;
    if (!ids.includes(this.second)) this.second = null;
    this.#mark();
    this.#fill();
    this.stage.querySelector(".cp").focus({ preventScroll: true });
  }

  /** Makes the player show whom this has chosen. */
  #mark() {
    this.quiet = true;
    const who = this.player.clip.layers.tracks.ids.indexOf(this.chosen);
    const now = this.player.chosen?.layer === "tracks" ? this.player.chosen.who : -1;
    if (who !== now) this.player.select(who < 0 ? null : { layer: "tracks", who });
    this.quiet = false;
  }

  choose(id, second = false) {
    if (second && this.chosen !== null && id !== this.chosen) this.second = id;
    else [this.chosen, this.second] = [id, null];
    this.#mark();
    this.#fill();
  }

  #point(event) {
    const { shift, frame } = event.detail;
    const [x, y] = [event.detail.x, event.detail.y].map((at) => Math.round(10 * at) / 10);
    this.clicks += 1;
    if (this.tool === "choose") {
      const id = this.player.idAt(x, y);
      if (!shift || id === null) return;
      event.preventDefault();
      this.choose(id, true);
      return;
    }
    event.preventDefault();
    if (this.tool === "on" || this.tool === "beside") {
      const label = this.tool === "on" ? 1 : 0;
      this.send({ do: "click", frame, points: [[x, y]], labels: [label], object_id: this.chosen });
    }
  }

  #hearDrags() {
    const { canvas, stage } = this.player;
    stage.style.position = "relative";
    canvas.addEventListener("pointerdown", (event) => {
      if (this.tool !== "box" && this.tool !== "region") return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      this.drag = { from: [event.clientX, event.clientY], start: this.player.pointOf(event) };
      this.drag.band = make("div", { class: "cl-band" });
      stage.append(this.drag.band);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.drag) return;
      const { left, top } = stage.getBoundingClientRect();
      const [x, y] = this.drag.from;
      Object.assign(this.drag.band.style, {
        left: `${Math.min(x, event.clientX) - left}px`,
        top: `${Math.min(y, event.clientY) - top}px`,
        width: `${Math.abs(event.clientX - x)}px`,
        height: `${Math.abs(event.clientY - y)}px`,
      });
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!this.drag) return;
      const [[x1, y1], [x2, y2]] = [this.drag.start, this.player.pointOf(event)];
      this.drag.band.remove();
      this.drag = null;
      const { width, height } = this.player.clip;
      const inside = (at, most) => Math.min(Math.max(at, 0), most);
      const box = [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
      const clipped = box.map((at, side) => inside(at, side % 2 ? height : width));
      const { frame } = this.player;
      if (this.tool === "box") this.send({ do: "box", frame, box: clipped, object_id: this.chosen });
      else this.send({ do: "edit", op: "ignore_region", details: { box_xyxy: clipped, first: 0 } });
    });
  }

  #act(what) {
    const [one, other, frame] = [this.chosen, this.second, this.player?.frame ?? 0];
    const edit = (op, details) => this.send({ do: "edit", op, details });
    const acts = {
      swap: () => edit("swap", { first_id: one, second_id: other, frame }),
      merge: () => edit("merge", { objects: [one, other] }),
      split: () => edit("split", { object_id: one, frame }),
      delete: () => edit("delete", { object_id: one }),
      "delete here": () => edit("delete", { object_id: one, first: frame, last: frame }),
      hidden: () => edit("mark_occluded", { object_id: one, first: frame }),
      ignore: () => edit("ignore", { object_id: one }),
      follow: () =>
        this.send({
          do: "follow",
          object_id: one,
          direction: this.direction.value,
          frames: Number(this.reach.value) || null,
        }),
      stop: () => this.send({ do: "stop" }),
      undo: () => this.send({ do: "undo" }),
      redo: () => this.send({ do: "redo" }),
      save: () => this.send({ do: "save" }),
      label: () => edit("mark_labelled", { first: Number(this.first.value), last: Number(this.last.value) }),
      unlabel: () =>
        edit("mark_labelled", {
          first: Number(this.first.value), last: Number(this.last.value), labelled: false,
        }),
      person: () =>
        this.send({
          do: "person",
          object_id: one,
          name: this.name.value,
          team: this.team.value,
          jersey_number: this.number.value,
          prompts: this.prompts.value.split(",").map((each) => each.trim()).filter(Boolean),
        }),
    };
    if (!this.buttons[what].disabled) {
      this.clicks += 1;
      acts[what]();
    }
  }

  #build() {
    this.buttons = {};
    const button = (what, text, title) => {
      const attributes = { type: "button", title, "data-act": what, onclick: () => this.#act(what) };
      return (this.buttons[what] = make("button", attributes, text));
    };
    this.status = make("p", { class: "cl-status", role: "status" });
    this.warning = make("p", { class: "cl-warning", role: "alert", hidden: "" });
    this.tools = LABEL_TOOLS.map(([tool, text, title]) =>
      make("button", { type: "button", title, "data-tool": tool, onclick: () => this.#use(tool) }, text),
    );
    this.who = make("p", { class: "cl-who" });
    const input = (label, attributes = {}) =>
      make("input", { type: "text", "aria-label": label, placeholder: label, ...attributes });
    [this.name, this.team] = [input("name"), input("team")];
    this.number = input("number", { size: 3, maxlength: 2 });
    this.prompts = input("prompts, by commas");
    const option = ([value, text]) => make("option", { value }, text);
    this.direction = make(
      "select",
      { "aria-label": "Direction to follow in" },
      ...[["both", "both ways"], ["forward", "forward"], ["backward", "backward"]].map(option),
    );
    this.reach = make(
      "select",
      { "aria-label": "How far to follow" },
      ...[["", "whole video"], ["25", "25 frames"], ["100", "100 frames"], ["500", "500 frames"]].map(option),
    );
    const number = (label) => make("input", { type: "number", "aria-label": label, min: 0, step: 1 });
    [this.first, this.last] = [number("First frame"), number("Last frame")];
    this.progress = make("progress", { hidden: "", "aria-label": "Following" });
    this.people = make("div", { class: "cl-people", role: "list", "aria-label": "Players" });
    this.gone = make("div", { class: "cl-gone" });
    this.facts = make("p", { class: "cl-facts" });
    const row = (...parts) => make("div", { class: "cl-row" }, ...parts);
    const keys = LABEL_KEYS.flatMap(([key, does]) => [make("dt", {}, key), make("dd", {}, does)]);
    this.panel.append(
      this.warning,
      make("div", { class: "cl-row", role: "group", "aria-label": "Tools" }, ...this.tools),
      this.who,
      row(
        button("swap", "Swap from here", "the two chosen players change ids from this frame on"),
        button("merge", "Join", "the second chosen player becomes the first"),
        button("split", "Split here", "from this frame on the chosen player is another one"),
      ),
      row(
        button("delete", "Delete", "the chosen player goes, altogether"),
        button("delete here", "Delete in this frame", "the chosen player goes in this frame"),
        button("hidden", "Hidden here", "somebody stands in front in this frame"),
        button("ignore", "Ignore", "neither required nor punished: a bystander"),
      ),
      row(
        button("follow", "Follow", "follow the clicked player through the video"),
        this.direction, this.reach, this.progress,
        button("stop", "Stop", "stop following; Follow goes on from there"),
      ),
      row(this.name, this.team, this.number, this.prompts, button("person", "Set", "say who the chosen one is")),
      row(
        "Frames ", this.first, " to ", this.last,
        button("label", "are labelled", "you looked at them: they become ground truth"),
        button("unlabel", "are not", "they don't count"),
      ),
      row(
        button("undo", "Undo", "take the last edit back"),
        button("redo", "Redo", "do it again"),
        button("save", "Write labels", "write gt.txt and all beside it"),
      ),
      this.status, this.facts, this.people, this.gone,
      make("details", { class: "cl-keys" }, make("summary", {}, "Keys of labelling"), make("dl", {}, ...keys)),
    );
    this.root.tabIndex = -1;
  }

  #use(tool) {
    this.clicks += 1;
    this.tool = tool;
    this.#fill();
  }

  #fill() {
    const { state, chosen, second } = this;
    const busy = Boolean(state.busy);
    const own = state.people?.find((each) => each.id === chosen);
    for (const each of this.tools) {
      each.setAttribute("aria-pressed", String(each.dataset.tool === this.tool));
      each.disabled = state.read_only || busy || (!state.can_click && ["on", "beside"].includes(each.dataset.tool));
    }
    const word = (id) => `${id}${state.people?.find((each) => each.id === id)?.said ?? ""}`;
    this.who.textContent =
      chosen === null ? "Nobody is chosen." : second === null ? word(chosen) : `${word(chosen)} and ${word(second)}`;
    const able = {
      swap: chosen !== null && second !== null,
      merge: chosen !== null && second !== null,
      split: chosen !== null, delete: chosen !== null, "delete here": chosen !== null,
      hidden: chosen !== null, ignore: chosen !== null, person: chosen !== null,
      follow: Boolean(own?.clicked),
      undo: state.can_undo, redo: state.can_redo, save: true, label: true, unlabel: true,
    };
    for (const [what, button] of Object.entries(this.buttons)) {
      button.disabled = what === "stop" ? !busy : busy || state.read_only || !able[what];
    }
    this.progress.hidden = this.buttons.stop.hidden = !busy;
    if (busy) Object.assign(this.progress, { max: state.busy.total, value: state.busy.done });
    this.warning.hidden = !state.read_only;
    this.warning.textContent = state.read_only ? `Read-only: ${state.read_only}.` : "";
    if (state.told) this.tell(state.told.text, state.told.wrong);
    if (this.filled !== `${chosen} ${state.edits}`) {
      // Not while somebody types: only another player, or an edit, changes the fields.
      this.filled = `${chosen} ${state.edits}`;
      this.name.value = own?.name ?? "";
      this.team.value = own?.team ?? "";
      this.number.value = own?.jersey_number ?? "";
      this.prompts.value = own?.prompts.join(", ") ?? "";
      this.first.value ||= "0";
      this.last.value ||= String((state.frame_count ?? 1) - 1);
    }
    this.facts.textContent = state.facts ?? "";
    const chip = (each) =>
      make("span", { class: "cp-chip", style: `background: ${each.color}; color: ${each.ink}` }, String(each.id));
    // Keys go on working after a click into the list.
    const focused = this.people.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    this.people.replaceChildren(
      ...(state.people ?? []).map((each) =>
        make(
          "button",
          {
            type: "button", role: "listitem", class: "cl-person", "data-id": each.id,
            "aria-pressed": String(each.id === chosen || each.id === second),
            onclick: (event) => {
              this.clicks += 1;
              this.choose(each.id, event.shiftKey);
            },
          },
          chip(each), `${each.said} `, make("small", {}, each.where),
        ),
      ),
    );
    if (focused) this.people.querySelector(`[data-id="${focused}"]`)?.focus({ preventScroll: true });
    const restore = (id) =>
      make(
        "button",
        {
          type: "button", disabled: busy || state.read_only ? "" : null, "data-restore": id,
          onclick: () => {
            this.clicks += 1;
            this.send({ do: "edit", op: "restore", details: { object_id: id } });
          },
        },
        `Restore ${id}`,
      );
    this.gone.replaceChildren(...(state.deleted ?? []).map(restore));
  }

  #key(event) {
    const typing = event.target.matches("input:not([type=range]), select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = {
      x: "swap", j: "merge", s: "split", f: "follow", Delete: "delete", z: "undo", y: "redo",
    };
    const tools = { c: "choose", a: "on", b: "beside", r: "box" };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key in acts) this.#act(acts[key]);
    else if (key in tools) this.#use(tools[key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function render({ model, el }) {
  const labeller = new Labeller(model, el);
  labeller.root.labeller = labeller;
  return () => labeller.close();
}
