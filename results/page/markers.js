// The markers of the plots, under the letters that the other figures know them by.

const TURN = 2 * Math.PI;

/** Corners of a regular polygon, the first at `angle` (a share of a turn, 0 to the right). */
function corners(count, angle, radius) {
  return Array.from({ length: count }, (_, place) => {
    const at = TURN * (angle + place / count);
    return [radius * Math.cos(at), radius * Math.sin(at)];
  });
}

function plus(angle) {
  const quarter = [[0.36, -1], [0.36, -0.36], [1, -0.36]];
  return [0, 0.25, 0.5, 0.75].flatMap((turn) =>
    quarter.map(([x, y]) => {
      const at = TURN * (turn + angle);
      return [x * Math.cos(at) - y * Math.sin(at), x * Math.sin(at) + y * Math.cos(at)];
    }));
}

function star() {
  const outer = corners(5, -0.25, 1.2);
  const inner = corners(5, -0.15, 0.5);
  return outer.flatMap((point, place) => [point, inner[place]]);
}

// Around (0, 0); of about the same area.
const SHAPES = {
  s: corners(4, 0.125, 1.2),
  "^": corners(3, -0.25, 1.25),
  v: corners(3, 0.25, 1.25),
  "<": corners(3, 0.5, 1.25),
  ">": corners(3, 0, 1.25),
  D: corners(4, 0, 1.25),
  d: corners(4, 0, 1.3).map(([x, y]) => [0.6 * x, y]),
  P: plus(0),
  X: plus(0.125),
  h: corners(6, -0.25, 1.1),
  "*": star(),
  p: corners(5, -0.25, 1.15),
};

/** A method's marker around (0, 0); a ring for the references, which have none. */
function marker(method, radius) {
  const shape = SHAPES[method.marker];
  const ring = method.marker === "";
  const mark = shape
    ? draw("polygon", { points: shape.map((point) => point.map((v) => (v * radius).toFixed(2)).join(",")).join(" ") })
    : draw("circle", { r: ring ? 0.9 * radius : radius });
  mark.setAttribute("class", ring ? "mark ring" : "mark");
  mark.style.setProperty("--colour", method.colour);
  return mark;
}

/** The methods that are drawn, with their markers. */
function legend(host, methods) {
  host.replaceChildren(...methods.map((method) => make(
    "li", {},
    draw("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, marker(method, 5)),
    method.label,
  )));
}
