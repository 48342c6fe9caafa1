// Accuracy against cost: each method at each compression, and the front.

const COSTS = {
  macs: { title: "MACs of the student (log scale)", log: true, text: shortQuantity },
  latency_1: { title: "Latency, batch of 1 (ms)", log: false, text: (v) => String(Number(v.toPrecision(3))) },
  latency_32: { title: "Latency, batch of 32 (ms)", log: false, text: (v) => String(Number(v.toPrecision(3))) },
};

// Pixels from which the pointer finds a point.
const REACH = 24;

/**
 * The points that no other beats: none costs at most as much and is at least as accurate; the first
 * of those that are alike. From cheap to dear.
 */
function front(points) {
  const best = [];
  const byCost = [...points].sort((a, b) => a.cost - b.cost || b.entry.mean - a.entry.mean);
  for (const point of byCost) {
    const last = best[best.length - 1];
    if (!last || point.entry.mean > last.entry.mean) best.push(point);
  }
  return best;
}

/** What the reader is told of a point, line by line. */
function pointLines(entry) {
  const compression = entry.compression === 0 ? "uncompressed" : `${share(entry.compression)} asked, ${fixed(entry.removed, 1)} % removed`;
  const latency = entry.latency_1 === null && entry.latency_32 === null
    ? "no latency"
    : `latency ${milliseconds(entry.latency_1)} ms (1), ${milliseconds(entry.latency_32)} ms (32)`;
  const seeds = entry.seeds.map((seed, place) => `${seed}: ${fixed(entry.accuracies[place], 1)}`).join(", ");
  return [
    entry.method.label,
    compression,
    `accuracy ${spread(entry)}`,
    `${quantity(entry.macs)} MACs`,
    latency,
    `seeds ${seeds}`,
  ];
}

/** The tooltip of a host: shown at a place within it, and kept inside. */
function showTip(host, lines, left, top) {
  hideTip(host);
  const [first, ...others] = lines;
  const tip = make("div", { class: "tip", "aria-hidden": "true" }, make("strong", {}, first), ...others.map((line) => make("span", {}, line)));
  host.append(tip);
  const room = host.clientWidth - tip.offsetWidth;
  tip.style.left = `${Math.max(0, Math.min(room, left - tip.offsetWidth / 2))}px`;
  const above = top - tip.offsetHeight - 14;
  tip.style.top = `${above < 0 ? top + 14 : above}px`;
}

function hideTip(host) {
  host.querySelector(".tip")?.remove();
}

class Pareto {
  constructor(data, update) {
    this.data = data;
    this.host = document.getElementById("pareto");
    this.note = document.getElementById("pareto-note");
    this.legend = document.getElementById("pareto-legend");
    for (const name of ["setting", "x"]) {
      const select = document.getElementById(name);
      select.addEventListener("change", () => update({ [name]: select.value }));
    }
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(this.host); });
  }

  /** Draw what the leaderboard shows of one setting. */
  show(state, setting, task) {
    fillSelect(document.getElementById("x"), [["macs", "MACs"], ["latency_1", "latency, batch of 1"], ["latency_32", "latency, batch of 32"]], state.x);
    const x = state.x in COSTS ? state.x : "macs";
    const of = filtered(this.data.entries, { ...state, task }).filter((entry) => entry.setting === setting);
    const points = of.filter((entry) => entry[x] > 0).map((entry) => ({ entry, cost: entry[x] }));
    legend(this.legend, distinct(points.map((point) => point.entry.method)));
    this.note.textContent = this.describe(of, points, task, x);
    if (!points.length) {
      empty(this.host, of.length ? "No row of this setting has this cost." : "No row of this setting passes the filters.");
      return;
    }
    this.draw(points, x, task);
  }

  describe(entries, points, task, x) {
    const what = task === "average" ? "average over tasks" : task;
    const without = entries.length - points.length;
    const parts = [`${plural(points.length, "point")}, ${what}; the line joins the points that no other beats.`];
    if (without) parts.push(`${plural(without, "row")} without this cost left out.`);
    if (x !== "macs") {
      const timed = distinct(points.map(({ entry }) => `${entry.device || "unknown device"}${entry.threads === null ? "" : `, ${plural(entry.threads, "thread")}`}`));
      parts.push(`Timed on ${timed.join("; ")}.`);
      if (timed.length > 1) parts.push("Times of different devices are not to be compared.");
    }
    return parts.join(" ");
  }

  draw(points, x, task) {
    const cost = COSTS[x];
    const axes = {
      x: { range: padded(points.map((point) => point.cost), cost.log), log: cost.log, title: cost.title, text: cost.text },
      y: { range: padded(points.map((point) => point.entry.mean)), title: "Target accuracy (%)", text: (v) => String(Number(v.toFixed(2))) },
    };
    const name = `Accuracy against ${x === "macs" ? "MACs" : "latency"}, ${task}. Arrow keys go from point to point.`;
    const plot = chart(this.host, axes, 440, name);
    const line = front(points).map((point) => [plot.x(point.cost), plot.y(point.entry.mean)]);
    plot.svg.append(draw("path", { class: "front", d: path(line), "aria-hidden": "true" }));
    // ITMC is drawn last, on top.
    const order = [...points].sort((a, b) => (a.entry.method.group === "itmc") - (b.entry.method.group === "itmc"));
    const marks = new Map(order.map((point) => [point, this.mark(point, plot)]));
    plot.svg.append(...marks.values());
    this.hover(plot.svg, points.map((point) => [plot.x(point.cost), plot.y(point.entry.mean), marks.get(point)]));
    this.walk([...points].sort((a, b) => a.cost - b.cost).map((point) => marks.get(point)));
  }

  mark({ entry, cost }, plot) {
    const [left, top] = [plot.x(cost), plot.y(entry.mean)];
    const lines = pointLines(entry);
    const show = () => showTip(this.host, lines, left, top);
    const hide = () => hideTip(this.host);
    return draw("g", {
      class: "point", transform: `translate(${left.toFixed(1)} ${top.toFixed(1)})`,
      role: "img", tabindex: -1, "aria-label": lines.join("; "),
      onpointshow: show, onfocus: show, onpointhide: hide, onblur: hide,
    }, draw("circle", { class: "focus", r: 10 }), marker(entry.method, 5.5));
  }

  /** The pointer tells of the nearest point, since points may lie on one another. */
  hover(svg, placed) {
    let shown = null;
    const turnTo = (next) => {
      if (next === shown) return;
      shown?.classList.remove("near");
      shown?.dispatchEvent(new Event("pointhide"));
      next?.classList.add("near");
      shown = next;
      // Without the pointer the point that the keyboard is at tells of itself again.
      const focused = svg.querySelector(".point:focus");
      (next ?? focused)?.dispatchEvent(new Event("pointshow"));
    };
    svg.addEventListener("pointermove", (event) => {
      const [x, y] = within(svg, event);
      const distance = ([left, top]) => Math.hypot(left - x, top - y);
      const nearest = placed.reduce((a, b) => (distance(b) < distance(a) ? b : a));
      turnTo(distance(nearest) <= REACH ? nearest[2] : null);
    });
    svg.addEventListener("pointerleave", () => turnTo(null));
  }

  /** One stop for the tab key; the arrows go from point to point, Home and End to the ends. */
  walk(marks) {
    marks[0].setAttribute("tabindex", 0);
    marks.forEach((mark, place) => mark.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: place + 1, ArrowUp: place + 1, ArrowLeft: place - 1, ArrowDown: place - 1, Home: 0, End: marks.length - 1 };
      if (!(event.key in steps)) return;
      event.preventDefault();
      const next = marks[Math.max(0, Math.min(marks.length - 1, steps[event.key]))];
      marks.forEach((other) => other.setAttribute("tabindex", other === next ? 0 : -1));
      next.focus();
    }));
  }
}
