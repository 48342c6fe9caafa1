// Axes of the plots: scales, ticks, the frame.

const MARGIN = { top: 12, right: 16, bottom: 48, left: 52 };

/** Round numbers from `low` to `high`, about `count` of them. */
function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((size) => size >= rough);
  const ticks = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place += 1) {
    ticks.push(place * step);
  }
  return ticks;
}

/** 1, 2, 5, 10, … from `low` to `high`; round numbers at even steps where these are too few. */
function logTicks(low, high, count) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    ticks.push(...[1, 2, 5].map((m) => m * 10 ** power));
  }
  const within = ticks.filter((tick) => tick >= low && tick <= high);
  if (within.length < 3) return linearTicks(low, high, Math.max(5, count));
  const every = Math.ceil(within.length / (count + 2));
  return within.filter((_, place) => place % every === 0);
}

/** The range of values with room at both ends; a range of its own for a single value. */
function padded(values, log) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (log) {
    const room = high > low ? (high / low) ** 0.06 : 1.5;
    return [low / room, high * room];
  }
  const room = high > low ? 0.06 * (high - low) : Math.max(1, 0.1 * Math.abs(high));
  return [low - room, high + room];
}

/** From values of a range to pixels of another. */
function scale([low, high], [from, to], log = false) {
  const place = log ? Math.log : (value) => value;
  const start = place(low);
  const length = place(high) - start;
  return (value) => from + ((place(value) - start) / length) * (to - from);
}

/**
 * An empty chart that fills the width of its host.
 * @param axes `{x, y}`, each `{range, log, title, text}`; `text` writes a tick
 * @returns the svg, the two scales and the box `{left, right, top, bottom}` of the data
 */
function chart(host, axes, height, name) {
  const width = Math.max(260, host.clientWidth);
  const box = {
    left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom,
  };
  const x = scale(axes.x.range, [box.left, box.right], axes.x.log);
  const y = scale(axes.y.range, [box.bottom, box.top]);
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": name });
  const count = Math.max(3, Math.floor((box.right - box.left) / 90));
  const xs = axes.x.ticks ?? (axes.x.log ? logTicks : linearTicks)(...axes.x.range, count);
  const grid = draw("g", { class: "axes", "aria-hidden": "true" });
  for (const tick of xs) {
    const at = x(tick).toFixed(1);
    grid.append(
      draw("line", { x1: at, x2: at, y1: box.top, y2: box.bottom }),
      draw("text", { x: at, y: box.bottom + 18, "text-anchor": "middle" }, axes.x.text(tick)),
    );
  }
  for (const tick of linearTicks(...axes.y.range, 6)) {
    const at = y(tick).toFixed(1);
    grid.append(
      draw("line", { x1: box.left, x2: box.right, y1: at, y2: at }),
      draw("text", { x: box.left - 8, y: at, "text-anchor": "end", "dominant-baseline": "central" }, axes.y.text(tick)),
    );
  }
  grid.append(
    draw("text", { class: "title", x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, axes.x.title),
    draw("text", { class: "title", "text-anchor": "middle", transform: `translate(13 ${(box.top + box.bottom) / 2}) rotate(-90)` }, axes.y.title),
  );
  svg.append(grid);
  host.replaceChildren(svg);
  return { svg, x, y, box };
}

/** Where in a chart the pointer is, in its pixels. */
function within(svg, event) {
  const { left, top } = svg.getBoundingClientRect();
  return [event.clientX - left, event.clientY - top];
}

/** The d of a path through points. */
function path(points) {
  return points.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** A sentence where there is nothing to draw. */
function empty(host, sentence) {
  host.replaceChildren(make("p", { class: "empty" }, sentence));
}
