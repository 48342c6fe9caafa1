// The leaderboard: columns, filters, sorting, rows in portions.

// Rows that are drawn at a time: few enough that a change shows at once.
const PORTION = 100;

/** A column of figures. */
function figures(key, head, title, text, value = (entry) => entry[key]) {
  return { key, head, title, text: (entry) => text(value(entry)), value, number: true };
}

/** A column of words. */
function words(key, head, title, value) {
  return { key, head, title, text: (entry) => value(entry) || NOTHING, value, number: false };
}

const milliseconds = (value) => (value === null ? NOTHING : value.toPrecision(3));

const COLUMNS = [
  words("label", "Method", "The method; a row opens to its seeds, records and commands", (e) => e.method.label),
  figures("mean", "Accuracy %", "Target accuracy, mean over seeds", (v) => fixed(v, 1)),
  figures("sd", "± sd", "Standard deviation over seeds (ddof 1), in points", (v) => fixed(v, 1)),
  figures("n", "n", "Number of seeds", String, (e) => e.seeds.length),
  figures("compression", "Asked", "Share of MACs to be removed, as asked", share),
  figures("removed", "Removed %", "Share of MACs removed, as reached, in percent", (v) => fixed(v, 1)),
  figures("macs", "MACs", "Multiply-adds of the student for one image", quantity),
  figures("parameters", "Parameters", "Parameters of the student", quantity),
  figures("bytes", "Bytes", "Size of the student's file", quantity),
  figures("activations", "Activations", "Outputs of all layers for one image", quantity),
  figures("latency_1", "Latency 1, ms", "Median latency of a batch of 1 image", milliseconds),
  figures("latency_32", "Latency 32, ms", "Median latency of a batch of 32 images", milliseconds),
  words("task", "Task", "Source and target, or the average over the tasks", (e) => e.task),
  words("group", "Group", "References are not compressed", (e) => e.method.group),
  words("suite", "Suite", "", (e) => e.setting.suite),
  words("backbone", "Backbone", "", (e) => e.setting.backbone),
  words("protocol", "Protocol", "", (e) => e.setting.protocol),
  words("selection", "Epoch", "How the epoch was chosen", (e) => e.setting.selection),
  words("device", "Device", "Where the runs were made and timed", (e) => e.device),
];

const FILTERS = {
  suite: (entry) => entry.setting.suite,
  backbone: (entry) => entry.setting.backbone,
  protocol: (entry) => entry.setting.protocol,
  compression: (entry) => String(entry.compression),
  task: (entry) => entry.task,
  group: (entry) => entry.method.group,
};

/** The entries that pass the filters named; every word of the search must be in an entry. */
function filtered(entries, state, names = Object.keys(FILTERS)) {
  const wanted = names.filter((name) => state[name] !== ALL);
  const searched = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  return entries.filter((entry) =>
    wanted.every((name) => FILTERS[name](entry) === state[name])
    && searched.every((word) => entry.text.includes(word)));
}

/** The entries by a column; equal ones keep their order, missing figures come last either way. */
function sorted(entries, sort) {
  const [key, direction] = sort.split(":");
  const column = COLUMNS.find((candidate) => candidate.key === key);
  if (!column) return entries;
  const sign = direction === "descending" ? -1 : 1;
  const compare = column.number ? (a, b) => a - b : new Intl.Collator("en", { numeric: true }).compare;
  const missing = (value) => value === null || value === "";
  return entries
    .map((entry) => [column.value(entry), entry])
    .sort(([a], [b]) => (missing(a) || missing(b) ? missing(a) - missing(b) : sign * compare(a, b)))
    .map(([, entry]) => entry);
}

/** What a click on a column's head asks for: figures begin with the highest, words with A. */
function nextSort(sort, column) {
  const [key, direction] = sort.split(":");
  const first = column.number ? "descending" : "ascending";
  if (key !== column.key) return `${column.key}:${first}`;
  return `${column.key}:${direction === "ascending" ? "descending" : "ascending"}`;
}

/** The table with its filters; `update` takes what the reader changes. */
class Leaderboard {
  constructor(data, update) {
    this.data = data;
    this.update = update;
    this.opened = new Set();
    this.limit = PORTION;
    this.body = document.querySelector("#leaderboard tbody");
    this.count = document.getElementById("count");
    this.more = document.getElementById("more");
    this.more.addEventListener("click", () => this.showMore());
    this.heads();
    this.filters();
  }

  heads() {
    const titles = { ...Object.fromEntries(COLUMNS.map((c) => [c.key, c.title])), mean: `${this.data.metric}, mean over seeds` };
    const cells = COLUMNS.map((column) => make(
      "th", { scope: "col", class: column.number ? "number" : null, "data-key": column.key },
      make("button", {
        type: "button",
        title: titles[column.key] || null,
        onclick: () => this.update({ sort: nextSort(this.state.sort, column) }),
      }, column.head),
    ));
    document.querySelector("#leaderboard thead tr").replaceChildren(...cells);
  }

  filters() {
    const search = document.getElementById("q");
    search.addEventListener("input", () => this.update({ q: search.value }));
    for (const name of Object.keys(FILTERS)) {
      const select = document.getElementById(name);
      fillSelect(select, this.options(name), ALL);
      select.addEventListener("change", () => this.update({ [name]: select.value }));
    }
    document.getElementById("reset").addEventListener("click", () => this.update({ ...START }));
  }

  /** Show the entries of a state; the first portion of them, where these are others than before. */
  show(state) {
    const before = this.state;
    const same = before && ["q", "sort", ...Object.keys(FILTERS)].every((name) => before[name] === state[name]);
    this.state = state;
    if (same) return;
    this.limit = PORTION;
    this.showFilters(state);
    for (const head of document.querySelectorAll("#leaderboard thead th")) {
      const [key, direction] = state.sort.split(":");
      if (key === head.dataset.key) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    }
    this.rows = sorted(filtered(this.data.entries, state), state.sort);
    this.body.replaceChildren();
    this.append(0);
  }

  /** What a filter offers: all, and the values that occur. */
  options(name) {
    const values = distinct(this.data.entries.map(FILTERS[name]));
    if (name !== "compression") return [[ALL, "all"], ...values.map((value) => [value, value])];
    const texts = values.sort((a, b) => a - b).map((value) => [value, Number(value) === 0 ? "uncompressed" : share(Number(value))]);
    return [[ALL, "all"], ...texts];
  }

  /** Let the controls say what the state says, which may come from the address. */
  showFilters(state) {
    for (const name of ["q", ...Object.keys(FILTERS)]) {
      const control = document.getElementById(name);
      if (control.value !== state[name]) control.value = state[name];
    }
  }

  /** Append the rows from `start` up to the limit. */
  append(start) {
    const shown = this.rows.slice(start, this.limit);
    for (const entry of shown) {
      this.body.append(this.row(entry));
      if (this.opened.has(entry.index)) this.body.append(this.detailRow(entry));
    }
    if (!this.rows.length) {
      this.body.append(make("tr", {}, make("td", { colspan: COLUMNS.length }, "Nothing passes these filters.")));
    }
    const rest = this.rows.length - Math.min(this.limit, this.rows.length);
    this.more.hidden = rest === 0;
    this.more.textContent = `Show ${Math.min(PORTION, rest)} more of ${rest.toLocaleString("en")}`;
    const total = this.data.entries.length.toLocaleString("en");
    const visible = rest ? `, the first ${this.limit.toLocaleString("en")} shown` : "";
    this.count.textContent = `${this.rows.length.toLocaleString("en")} of ${total} rows${visible}`;
  }

  showMore() {
    const start = this.limit;
    this.limit += PORTION;
    this.append(start);
    // The button may be gone, and focus with it: go on at the first new row.
    this.body.querySelector(`[data-entry="${this.rows[start].index}"]`).focus();
  }

  row(entry) {
    const [first, ...others] = COLUMNS;
    const open = this.opened.has(entry.index);
    const button = make("button", {
      type: "button",
      "data-entry": entry.index,
      "aria-expanded": String(open),
      "aria-controls": open ? `details-${entry.index}` : null,
      onclick: () => this.toggle(entry, button),
    }, first.text(entry));
    return make(
      "tr", { class: entry.method.group === "itmc" ? "ours" : null },
      make("th", { scope: "row" }, button),
      ...others.map((column) => make("td", { class: column.number ? "number" : null }, column.text(entry))),
    );
  }

  detailRow(entry) {
    return make(
      "tr", { class: "details", id: `details-${entry.index}` },
      make("td", { colspan: COLUMNS.length }, make("div", {}, ...details(this.data, entry))),
    );
  }

  toggle(entry, button) {
    const row = button.closest("tr");
    const open = !this.opened.has(entry.index);
    button.setAttribute("aria-expanded", String(open));
    if (open) {
      this.opened.add(entry.index);
      row.after(this.detailRow(entry));
      button.setAttribute("aria-controls", `details-${entry.index}`);
    } else {
      this.opened.delete(entry.index);
      row.nextElementSibling.remove();
      button.removeAttribute("aria-controls");
    }
  }
}
