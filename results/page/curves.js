// Target accuracy after each epoch, seed by seed and their mean, and when channels were removed.

/** The curve of one seed: the mean over its runs, one a task; null where their epochs differ. */
function seedCurve(curves) {
  const lengths = distinct(curves.map((curve) => curve.accuracy.length));
  if (lengths.length !== 1 || lengths[0] === 0) return null;
  const values = curves[0].accuracy.map((_, epoch) => mean(curves.map((curve) => curve.accuracy[epoch])));
  return { values, events: distinct(curves.flatMap((curve) => curve.events)), starts: curves[0].starts };
}

/** The curves of an entry by seed, and what is missing of them. */
function curvesOf(data, entry) {
  const seeds = entry.seeds.map((seed) => {
    const curves = entry.runs
      .filter((place) => data.runs[place].seed === seed)
      .map((place) => data.curves.get(place));
    const made = curves.length && curves.every(Boolean) ? seedCurve(curves) : null;
    return made && { seed, ...made };
  });
  const found = seeds.filter(Boolean);
  const length = Math.max(0, ...found.map((curve) => curve.values.length));
  const alike = found.filter((curve) => curve.values.length === length);
  const average = Array.from({ length }, (_, epoch) => mean(alike.map((curve) => curve.values[epoch])));
  return { entry, seeds: found, average, without: entry.seeds.length - found.length };
}

class Curves {
  constructor(data, update) {
    this.data = data;
    this.host = document.getElementById("curves");
    this.note = document.getElementById("curves-note");
    this.readout = document.getElementById("curves-readout");
    this.legend = document.getElementById("curves-legend");
    for (const name of ["method", "beside", "at"]) {
      const select = document.getElementById(name);
      select.addEventListener("change", () => update({ [name]: select.value }));
    }
  }

  /** Draw one method, and perhaps another beside it, at one compression. */
  show(state, setting, task) {
    const here = this.data.entries.filter((entry) =>
      entry.setting === setting && entry.task === task && entry.runs.some((run) => this.data.curves.has(run)));
    const compressions = distinct(here.map((entry) => entry.compression)).sort((a, b) => a - b);
    const options = compressions.map((value) => [String(value), value === 0 ? "uncompressed" : share(value)]);
    const first = compressions.find((value) => value > 0);
    const at = fillSelect(document.getElementById("at"), options, state.at || String(first ?? ""));
    const of = here.filter((entry) => String(entry.compression) === at);
    const names = of.map((entry) => [entry.method.name, entry.method.label]);
    const method = fillSelect(document.getElementById("method"), names, state.method || "itmc");
    // References, which are not compressed, may stand beside whatever is.
    const others = here.filter((entry) => entry.method.name !== method && (of.includes(entry) || entry.compression === 0));
    const beside = fillSelect(document.getElementById("beside"), [["", "none"], ...others.map((entry) => [entry.method.name, entry.method.label])], state.beside);
    const entries = [of.find((entry) => entry.method.name === method), others.find((entry) => entry.method.name === beside)];
    this.draw(entries.filter(Boolean).map((entry) => curvesOf(this.data, entry)), task);
  }

  draw(drawn, task) {
    const shown = drawn.filter((of) => of.seeds.length);
    legend(this.legend, shown.map((of) => of.entry.method));
    this.note.textContent = shown.length ? this.describe(shown, task) : "";
    this.readout.textContent = "";
    if (!shown.length) {
      empty(this.host, this.data.curves.size ? "No curve of this task and compression is in this page." : "The records have no curves.");
      return;
    }
    const values = shown.flatMap((of) => of.seeds.flatMap((curve) => curve.values));
    const last = Math.max(...shown.map((of) => of.average.length));
    const ticks = linearTicks(1, last, 8).map(Math.round);
    const axes = {
      x: { range: [0.5, last + 0.5], ticks: distinct(ticks.filter((tick) => tick >= 1)), title: "Epoch", text: String },
      y: { range: padded(values), title: "Target accuracy (%)", text: (v) => String(Number(v.toFixed(2))) },
    };
    const plot = chart(this.host, axes, 380, `Target accuracy by epoch, ${task}. Left and right arrow keys read the epochs.`);
    shown.forEach((of, place) => plot.svg.append(this.lines(of, plot, place)));
    this.reader(shown, plot, last);
  }

  describe(shown, task) {
    const what = task === "average" ? "average over tasks" : task;
    const parts = [`${what[0].toUpperCase()}${what.slice(1)}: the thick line is the mean over seeds, thin lines are seeds, ticks on the axis mark epochs that ended with channels removed.`];
    for (const of of shown) {
      const stages = of.seeds[0].starts;
      if (stages.length > 1) {
        const text = stages.map(([name, start]) => `${name} from epoch ${start + 1}`).join(", ");
        parts.push(`${of.entry.method.label}: ${text}.`);
      }
      if (of.without) parts.push(`${of.entry.method.label}: ${plural(of.without, "seed")} without a curve.`);
    }
    return parts.join(" ");
  }

  /** The lines of one method, and its pruning events on the axis. */
  lines(of, plot, place) {
    const group = draw("g", { class: place ? "curve beside" : "curve", "aria-hidden": "true" });
    group.style.setProperty("--colour", of.entry.method.colour);
    const points = (values) => path(values.map((value, epoch) => [plot.x(epoch + 1), plot.y(value)]));
    if (of.seeds.length > 1) {
      group.append(...of.seeds.map((curve) => draw("path", { class: "seed", d: points(curve.values) })));
    }
    group.append(draw("path", { class: "mean", d: points(of.average) }));
    const bottom = plot.box.bottom - 10 * place;
    for (const event of distinct(of.seeds.flatMap((curve) => curve.events))) {
      const at = plot.x(event + 1).toFixed(1);
      group.append(draw("line", { class: "event", x1: at, x2: at, y1: bottom, y2: bottom - 9 }));
    }
    return group;
  }

  /** A line over the plot that reads an epoch: by the pointer, or by the arrow keys. */
  reader(shown, plot, last) {
    const line = draw("line", { class: "reader", y1: plot.box.top, y2: plot.box.bottom, visibility: "hidden" });
    plot.svg.append(line);
    plot.svg.setAttribute("tabindex", 0);
    let epoch = 0;
    const read = (next) => {
      epoch = Math.max(1, Math.min(last, next));
      const at = plot.x(epoch).toFixed(1);
      for (const [name, value] of Object.entries({ x1: at, x2: at, visibility: "visible" })) line.setAttribute(name, value);
      const texts = shown
        .filter((of) => epoch <= of.average.length)
        .map((of) => `${of.entry.method.label} ${fixed(of.average[epoch - 1], 1)} %`);
      this.readout.textContent = `Epoch ${epoch}: ${texts.join(", ")}`;
    };
    plot.svg.addEventListener("pointermove", (event) => {
      const [x] = within(plot.svg, event);
      read(Math.round(0.5 + ((x - plot.box.left) / (plot.box.right - plot.box.left)) * last));
    });
    plot.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      read(epoch + step);
    });
  }
}
