// The table of errors or suspects: sorted, filtered, a page at a time; a row is a way to its moment.

import { clock } from "./clip.js";
import { make, markOf } from "./dom.js";

export const PAGE = 100;

const byName = new Intl.Collator(undefined, { numeric: true });

const COLUMNS = {
  time: (row) => row.frame,
  length: (row) => row.duration_s,
  kind: (row) => row.kind,
  who: (row) => row.name,
  cause: (row) => row.cause,
};

/** The rows of the wanted kinds and cause that hold every word of `text`. */
export function filterRows(rows, { kinds, cause = "", text = "" }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => {
    if (!kinds.has(row.kind) || (cause && row.cause !== cause)) return false;
    const said = `${row.name} ${row.guess} frame ${row.frame}`.toLowerCase();
    return words.every((word) => said.includes(word));
  });
}

/** The rows in order of a column; equals stay in order of time. */
export function sortRows(rows, column, descending = false) {
  const key = COLUMNS[column];
  const turn = descending ? -1 : 1;
  const compare = (a, b) => (typeof a === "number" ? a - b : byName.compare(a, b));
  return [...rows].sort((a, b) => turn * compare(key(a), key(b)) || a.frame - b.frame || a.index - b.index);
}

/** How often each value of a column occurs, most frequent first, as [value, count]. */
export function tally(rows, column) {
  const counts = new Map();
  for (const row of rows) counts.set(row[column], (counts.get(row[column]) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

/** The table of a clip's rows; `onchoose(row)` follows a click, `onfilter(rows)` tells which are shown. */
export class RowTable {
  constructor(clip) {
    this.clip = clip;
    this.onchoose = () => {};
    this.onfilter = () => {};
    this.filter = { kinds: new Set(Object.keys(clip.kinds)), cause: "", text: "" };
    this.order = { column: "time", descending: false };
    this.page = 0;
    this.chosen = null;
    this.body = make("tbody");
    this.heads = {};
    this.count = make("p", { class: "cp-count", role: "status" });
    this.pages = make("div", { class: "cp-pages" });
    this.root = make("div", { class: "cp-table" }, this.#filters(), this.#table(), this.pages);
    this.update();
  }

  /** Applies filter and order, and shows the page with the chosen row where it is among them. */
  update() {
    const { column, descending } = this.order;
    this.rows = sortRows(filterRows(this.clip.rows, this.filter), column, descending);
    const place = this.rows.indexOf(this.chosen);
    this.page = place < 0 ? 0 : Math.floor(place / PAGE);
    for (const [name, head] of Object.entries(this.heads)) {
      const how = name === column ? (descending ? "descending" : "ascending") : "none";
      head.setAttribute("aria-sort", how);
    }
    const all = this.clip.rows.length;
    const shown = this.rows.length;
    const noun = all === 1 ? this.clip.words.one : this.clip.words.many;
    this.count.textContent = shown === all ? `${all} ${noun}` : `${shown} of ${all} ${noun}`;
    this.#fill();
    this.onfilter(this.rows);
  }

  /** Marks a row as the chosen one and brings it into view. */
  choose(row) {
    this.chosen = row;
    const place = this.rows.indexOf(row);
    const page = place < 0 ? this.page : Math.floor(place / PAGE);
    if (page !== this.page) {
      this.page = page;
      this.#fill();
    }
    for (const line of this.body.children) {
      const own = line.row === row;
      line.setAttribute("aria-selected", own);
      if (!own) continue;
      // Scrolling the box alone leaves the page where it is.
      const box = this.box.getBoundingClientRect();
      const at = line.getBoundingClientRect();
      const head = this.box.querySelector("thead").offsetHeight;
      if (at.top < box.top + head) this.box.scrollTop += at.top - box.top - head;
      else if (at.bottom > box.bottom) this.box.scrollTop += at.bottom - box.bottom;
    }
  }

  /** The row `step` places from the chosen one, or else the next in time from `frame`; null at the ends. */
  beside(step, frame) {
    const place = this.rows.indexOf(this.chosen);
    if (place >= 0) return this.rows[place + step] ?? null;
    const inTime = [...this.rows].sort((a, b) => a.frame - b.frame);
    if (step > 0) return inTime.find((row) => row.frame > frame) ?? null;
    return inTime.findLast((row) => row.frame < frame) ?? null;
  }

  #filters() {
    const counts = new Map(tally(this.clip.rows, "kind"));
    const kinds = Object.entries(this.clip.kinds).map(([name, kind]) => {
      const button = make(
        "button",
        {
          type: "button",
          class: "cp-choice",
          "aria-pressed": "true",
          title: kind.about,
          disabled: counts.has(name) ? null : "",
        },
        markOf(kind),
        `${kind.label} `,
        make("b", {}, String(counts.get(name) ?? 0)),
      );
      button.addEventListener("click", () => {
        const on = !this.filter.kinds.has(name);
        if (on) this.filter.kinds.add(name);
        else this.filter.kinds.delete(name);
        button.setAttribute("aria-pressed", on);
        this.update();
      });
      return button;
    });
    const causes = tally(this.clip.rows, "cause").map(([cause, count]) =>
      make("option", { value: cause }, `${cause} (${count})`),
    );
    const any = make("option", { value: "" }, "Any cause");
    const chosen = make("select", { "aria-label": "Likely cause" }, any, ...causes);
    chosen.addEventListener("change", () => {
      this.filter.cause = chosen.value;
      this.update();
    });
    const hint = { placeholder: "Player, track, frame", "aria-label": "Search the rows" };
    const search = make("input", { type: "search", ...hint });
    search.addEventListener("input", () => {
      this.filter.text = search.value;
      this.update();
    });
    const group = make("div", { class: "cp-kinds", role: "group", "aria-label": "Kinds shown" }, ...kinds);
    const find = make("div", { class: "cp-find" }, search, chosen);
    return make("div", { class: "cp-filters" }, group, find, this.count);
  }

  #table() {
    const titles = { time: "Time", length: "Length", kind: "What", who: "Who", cause: "Likely cause" };
    const heads = Object.entries(titles).map(([name, title]) => {
      const arrow = make("span", { class: "cp-arrow", "aria-hidden": "true" });
      const button = make("button", { type: "button" }, title, arrow);
      button.addEventListener("click", () => {
        const again = this.order.column === name;
        this.order = { column: name, descending: again ? !this.order.descending : name === "length" };
        this.update();
      });
      this.heads[name] = make("th", { scope: "col", role: "columnheader", class: `cp-${name}` }, button);
      return this.heads[name];
    });
    const table = make(
      "table",
      { role: "table", "aria-label": this.clip.words.title },
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)),
      this.body,
    );
    this.body.setAttribute("role", "rowgroup");
    this.body.addEventListener("click", (event) => {
      const line = event.target.closest("tr");
      if (line?.row) this.onchoose(line.row);
    });
    const region = { tabindex: 0, role: "region", "aria-label": this.clip.words.title };
    this.box = make("div", { class: "cp-rows", ...region }, table);
    return this.box;
  }

  #fill() {
    const first = this.page * PAGE;
    const shown = this.rows.slice(first, first + PAGE);
    this.body.replaceChildren(...shown.map((row) => this.#line(row)));
    this.box.scrollTop = 0;
    const count = Math.ceil(this.rows.length / PAGE);
    const turn = (step) =>
      make(
        "button",
        {
          type: "button",
          disabled: this.page + step < 0 || this.page + step >= count ? "" : null,
          onclick: () => {
            this.page += step;
            this.#fill();
          },
        },
        step < 0 ? "Previous page" : "Next page",
      );
    this.pages.hidden = count < 2;
    this.pages.replaceChildren(turn(-1), make("span", {}, `page ${this.page + 1} of ${count}`), turn(1));
    if (!this.rows.length) {
      const said = this.clip.rows.length ? "Nothing fits this filter." : this.clip.words.none;
      const cell = make("td", { colspan: 5, role: "cell", class: "cp-none" }, said);
      this.body.replaceChildren(make("tr", { role: "row" }, cell));
    }
  }

  #line(row) {
    const kind = this.clip.kinds[row.kind];
    const time = clock(row.time_s, 2);
    const cell = (name, ...content) => make("td", { role: "cell", class: `cp-${name}` }, ...content);
    const who = row.name || `track ${this.clip.layers.tracks.names[row.who]}`;
    const about = `${time}, ${kind.label}, ${who}: show it`;
    const outside = row.frame >= this.clip.shown;
    const where = outside ? " (after the video in this page)" : "";
    const go = make("button", { type: "button", "aria-label": about, disabled: outside ? "" : null }, time);
    const line = make(
      "tr",
      { role: "row", "aria-selected": row === this.chosen },
      cell("time", go, make("small", {}, `frame ${row.frame}`)),
      cell("length", row.duration_s ? `${row.duration_s.toFixed(2)} s` : "\u2013"),
      cell("kind", markOf(kind), kind.label),
      cell("who", ...this.#chips(row.chips), row.name),
      cell("cause", make("b", {}, row.cause), ` ${row.guess}${where}`),
    );
    line.row = row;
    return line;
  }

  /** The tracks of a row: one, or from which to which. */
  #chips(tracks) {
    const { names, colors, inks } = this.clip.layers.tracks;
    return [...new Set(tracks)].flatMap((who, i) => {
      const style = `background:${colors[who]};color:${inks[who]}`;
      const chip = make("span", { class: "cp-chip", style }, names[who]);
      return i ? [make("span", {}, "\u2192 "), chip] : [chip];
    });
  }
}
