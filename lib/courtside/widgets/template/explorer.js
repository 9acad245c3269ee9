// Exploring prompts: a frame with what each prompt finds in it, side by side, and a strip over the video.

import { Link, hideLastState } from "./link.js";
import { clock } from "./clip.js";
import { make } from "./dom.js";
import { decodeRuns, rgbOf, tint } from "./masks.js";
import { withArrays } from "./unpack.js";

const PICTURES_KEPT = 60;

class Explorer {
  constructor(model, el) {
    this.model = model;
    this.link = new Link(model);
    this.link.onwait = (waiting) => this.tell(waiting ? "Waiting for the kernel\u2026" : "");
    this.shown = hideLastState(model.get("view"));
    this.answers = new Map();
    this.pictures = new Map();
    this.asking = false;
    this.#build(el);
    this.fresh = () => this.#update();
    for (const name of ["prompts", "frame", "threshold", "run"]) model.on(`change:${name}`, this.fresh);
    this.#update();
  }

  close() {
    for (const name of ["prompts", "frame", "threshold", "run"]) this.model.off(`change:${name}`, this.fresh);
    this.link.close();
    this.shown();
  }

  tell(text, wrong = false) {
    this.status.textContent = text;
    this.status.classList.toggle("cl-wrong", wrong);
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  #build(el) {
    const { frame_count } = this.model.get("facts");
    this.typed = make("input", {
      type: "text", placeholder: "player in white", "aria-label": "A prompt", class: "ce-typed",
      onkeydown: (event) => {
        event.stopPropagation();
        if (event.key === "Enter") this.add(this.typed.value);
      },
    });
    this.slider = make("input", {
      type: "range", min: 0, max: frame_count - 1, step: 1, "aria-label": "Frame",
      oninput: () => this.set("frame", Number(this.slider.value)),
    });
    this.threshold = make("input", {
      type: "range", min: 0.05, max: 0.95, step: 0.01, "aria-label": "Threshold",
      oninput: () => this.set("threshold", Number(this.threshold.value)),
    });
    this.now = make("output", { class: "ce-now" });
    this.sure = make("output", { class: "ce-sure" });
    this.status = make("p", { class: "cl-status", role: "status" });
    this.panels = make("div", { class: "ce-panels" });
    this.strip = make("div", { class: "ce-strip" });
    this.out = make("input", { type: "text", "aria-label": "Folder of the run", value: this.model.get("out") });
    this.out.addEventListener("change", () => this.set("out", this.out.value));
    this.track = make("button", { type: "button", onclick: () => this.#track() }, "Track with these prompts");
    this.runs = make("p", { class: "ce-run", role: "status" });
    const row = (...parts) => make("div", { class: "cl-row" }, ...parts);
    const add = make("button", { type: "button", onclick: () => this.add(this.typed.value) }, "Ask");
    this.root = make(
      "div",
      { class: "cl ce", "data-lm-suppress-shortcuts": "true" },
      row(this.typed, add),
      make("label", { class: "ce-slide" }, "Frame", this.slider, this.now),
      make("label", { class: "ce-slide" }, "Threshold", this.threshold, this.sure),
      this.status, this.panels, this.strip,
      row(this.track, " into ", this.out),
      this.runs,
    );
    el.append(this.root);
  }

  add(text) {
    const prompt = text.trim().replace(/\s+/g, " ");
    if (!prompt) return;
    this.typed.value = "";
    this.tell("");
    const prompts = this.model.get("prompts");
    if (!prompts.includes(prompt)) this.set("prompts", [...prompts, prompt]);
    else this.#update();
  }

  remove(prompt) {
    this.set("prompts", this.model.get("prompts").filter((each) => each !== prompt));
  }

  async #track() {
    try {
      const { content } = await this.link.ask({ do: "track" });
      this.tell(content.said ?? "");
    } catch (error) {
      this.tell(error.message, true);
    }
  }

  #update() {
    const [frame, threshold] = [this.model.get("frame"), this.model.get("threshold")];
    const { times_s } = this.model.get("facts");
    this.slider.value = String(frame);
    this.threshold.value = String(threshold);
    this.now.textContent = `${clock(times_s[frame], 2)}, frame ${frame}`;
    this.sure.textContent = threshold.toFixed(2);
    this.runs.textContent = this.model.get("run").said ?? "";
    this.#draw();
    this.#ask();
  }

  /** What is not known yet, the frame in view first; one question at a time, so that a newer wish comes next. */
  #wanted() {
    const [frame, prompts] = [this.model.get("frame"), this.model.get("prompts")];
    if (!this.pictures.has(frame)) return { do: "picture", frame };
    const known = (at, prompt) => this.answers.has(`${at} ${prompt}`);
    for (const at of [frame, ...this.model.get("facts").sampled]) {
      for (const prompt of prompts) if (!known(at, prompt)) return { do: "ask", frame: at, prompt };
    }
    return null;
  }

  async #ask() {
    if (this.asking) return;
    this.asking = true;
    for (let wish = this.#wanted(); wish; wish = this.#wanted()) {
      try {
        const { content, bytes } = await this.link.ask(wish);
        if (wish.do === "picture") {
          this.pictures.set(wish.frame, await createImageBitmap(new Blob([bytes], { type: "image/jpeg" })));
          if (this.pictures.size > PICTURES_KEPT) this.pictures.delete(this.pictures.keys().next().value);
        } else this.answers.set(`${wish.frame} ${wish.prompt}`, withArrays(content.answer, bytes));
      } catch (error) {
        this.tell(error.message, true);
        if (wish.do === "picture") break;
        // Back to where it can be corrected.
        this.typed.value ||= wish.prompt;
        this.remove(wish.prompt);
      }
      this.#draw();
    }
    this.asking = false;
  }

  #draw() {
    const [frame, threshold] = [this.model.get("frame"), this.model.get("threshold")];
    const prompts = this.model.get("prompts");
    const panels = new Map([...this.panels.children].map((each) => [each.dataset.prompt, each]));
    this.panels.replaceChildren(
      ...prompts.map((prompt, place) => {
        const panel = panels.get(prompt) ?? this.#panel(prompt);
        this.#paint(panel, this.pictures.get(frame), this.answers.get(`${frame} ${prompt}`), threshold, place);
        return panel;
      }),
    );
    this.#drawStrip(prompts, threshold);
  }

  #panel(prompt) {
    const remove = make(
      "button",
      { type: "button", title: "Remove", "aria-label": `Remove ${prompt}`, onclick: () => this.remove(prompt) },
      "\u00d7",
    );
    return make(
      "figure",
      { "data-prompt": prompt },
      make("figcaption", {}, make("b", {}, prompt), " ", make("span", { class: "ce-count" }), remove),
      make("canvas", { role: "img" }),
    );
  }

  #paint(panel, picture, answer, threshold, place) {
    const canvas = panel.querySelector("canvas");
    const said = panel.querySelector(".ce-count");
    const sure = answer ? [...answer.scores].filter((score) => score >= threshold) : [];
    const mean = sure.reduce((sum, score) => sum + score, 0) / sure.length;
    said.textContent = this.#count(answer, sure, mean);
    panel.dataset.found = answer ? String(sure.length) : "";
    canvas.setAttribute("aria-label", `${panel.dataset.prompt}: ${said.textContent}`);
    if (!picture) return;
    Object.assign(canvas, { width: picture.width, height: picture.height });
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    if (!answer) return;
    const { masks } = answer;
    const stamp = document.createElement("canvas");
    const colors = this.model.get("facts").colors;
    sure.forEach((score, row) => {
      const [x, y, width, height] = masks.boxes.subarray(4 * row, 4 * row + 4);
      if (!width || !height) return;
      const mask = decodeRuns(masks.runs, masks.starts[row], masks.starts[row + 1], width, height);
      Object.assign(stamp, { width, height });
      const pixels = tint(mask, width, height, rgbOf(colors[place % colors.length]), 110);
      stamp.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
      context.drawImage(stamp, x, y);
      const text = score.toFixed(2);
      context.font = "600 11px system-ui, sans-serif";
      const wide = context.measureText(text).width + 6;
      context.fillStyle = "rgba(12, 16, 22, 0.8)";
      context.fillRect(x, Math.max(0, y - 14), wide, 14);
      context.fillStyle = "#fff";
      context.fillText(text, x + 3, Math.max(0, y - 14) + 11);
    });
  }

  #count(answer, sure, mean) {
    if (!answer) return "\u2026";
    return sure.length ? `${sure.length} found, mean score ${mean.toFixed(2)}` : "0 found";
  }

  #drawStrip(prompts, threshold) {
    const { sampled, times_s } = this.model.get("facts");
    const head = sampled.map((frame) => make("th", { scope: "col" }, clock(times_s[frame], 1)));
    const cell = (prompt, frame) => {
      const answer = this.answers.get(`${frame} ${prompt}`);
      const sure = answer ? [...answer.scores].filter((score) => score >= threshold) : [];
      const mean = sure.length ? sure.reduce((sum, score) => sum + score, 0) / sure.length : 0;
      const said = this.#count(answer, sure, mean);
      const bar = make("i", { style: `height: ${Math.round(100 * mean)}%` });
      const go = make(
        "button",
        {
          type: "button", title: said, "aria-label": `Frame ${frame}: ${said}`,
          onclick: () => this.set("frame", frame),
        },
        make("span", {}, answer ? String(sure.length) : "\u2026"),
        make("span", { class: "ce-bar" }, bar),
      );
      return make("td", { "data-found": answer ? sure.length : "" }, go);
    };
    const rows = prompts.map((prompt) =>
      make("tr", {}, make("th", { scope: "row" }, prompt), ...sampled.map((frame) => cell(prompt, frame))),
    );
    const caption = "How many each prompt finds in sampled frames; the bar is their mean score, full at 1";
    this.strip.replaceChildren(
      ...(prompts.length
        ? [
            make(
              "table",
              {},
              make("caption", {}, caption),
              make("thead", {}, make("tr", {}, make("td", {}), ...head)),
              make("tbody", {}, ...rows),
            ),
          ]
        : []),
    );
  }
}

function render({ model, el }) {
  const explorer = new Explorer(model, el);
  explorer.root.explorer = explorer;
  return () => explorer.close();
}
