// What an opened row tells: seeds, records, commands, hyper-parameters, citation.

/** `{"tau": 4}` as `tau = 4`; nested values stay as JSON writes them. */
function assignments(json) {
  const pairs = Object.entries(JSON.parse(json));
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  return pairs.map(([name, value]) => `${name} = ${text(value)}`).join(", ");
}

function term(name, ...value) {
  return [make("dt", {}, name), make("dd", {}, ...value)];
}

function seedTable(entry) {
  const cells = entry.seeds.map((seed, place) => make(
    "tr", {},
    make("th", { scope: "row" }, String(seed)),
    make("td", { class: "number" }, fixed(entry.accuracies[place], 2)),
  ));
  const head = make("tr", {}, make("th", { scope: "col" }, "Seed"), make("th", { scope: "col", class: "number" }, "Accuracy %"));
  return make("table", { class: "seeds" }, make("thead", {}, head), make("tbody", {}, ...cells));
}

/** One run: what it is, its record, and the command that makes it again. */
function runItem(run) {
  const what = `${run.task}, seed ${run.seed}`;
  const when = `finished ${run.finished.slice(0, 10)}`;
  const commit = run.commit ? `commit ${run.commit.slice(0, 12)}` : "commit not recorded";
  const command = run.command
    ? make("div", { class: "command" }, make("code", {}, run.command), copyButton(run.command, `the command of ${what}`))
    : make("p", { class: "quiet" }, "The record has no command: it is of an older schema.");
  return make(
    "li", {},
    make("p", {}, make("strong", {}, what), ` record ${run.record}, ${commit}, ${when}`),
    command,
  );
}

function commands(data, entry) {
  const runs = entry.runs.map((place) => data.runs[place]);
  const every = distinct(runs.map((run) => run.command).filter(Boolean)).join("\n");
  const head = runs.length === 1 ? "The run behind this number" : `The ${runs.length} runs behind this number`;
  return [
    make("h4", {}, head, runs.length > 1 && every ? copyButton(every, "all commands of this row", "Copy all") : ""),
    make("ul", { class: "runs" }, ...runs.map(runItem)),
  ];
}

/** The content of an opened row. */
function details(data, entry) {
  const runs = entry.runs.map((place) => data.runs[place]);
  const knobs = distinct(runs.map((run) => run.knobs)).map((json) => assignments(json) || "none");
  const commits = distinct(runs.map((run) => run.commit).filter(Boolean));
  const conditions = [entry.setting.training, entry.setting.data].map(assignments).filter(Boolean);
  const threads = entry.threads === null ? "" : `, ${plural(entry.threads, "thread")}`;
  return [
    seedTable(entry),
    make(
      "dl", {},
      ...term("Accuracy", `${spread(entry)}, ${entry.setting.selection}`),
      ...term("Setting", entry.setting.title),
      ...term("Hyper-parameters", knobs.join("; ")),
      ...term("Training and data", conditions.join("; ") || "not recorded"),
      ...term("Timed on", entry.device ? `${entry.device}${threads}` : "not recorded"),
      ...term("Commit", commits.join(", ") || "not recorded"),
      ...term("Cite", entry.method.citation || "no citation in the records"),
    ),
    ...commands(data, entry),
  ];
}
