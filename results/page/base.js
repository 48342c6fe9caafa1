// What all parts of the page use: its data, elements, numbers as text.

const NOTHING = "—";

/** Rows of values under the names of their columns, as objects. */
function objects({ columns, rows }) {
  return rows.map((row) => {
    const made = {};
    columns.forEach((name, place) => { made[name] = row[place]; });
    return made;
  });
}

/** The page's data; entries are linked to their setting, method and runs. */
function readData() {
  const raw = JSON.parse(document.getElementById("data").textContent);
  const text = (place) => raw.texts[place];
  const settings = objects(raw.settings);
  const methods = objects(raw.methods);
  const runs = objects(raw.runs).map((run) => ({
    ...run,
    command: text(run.command),
    commit: text(run.commit),
    finished: text(run.finished),
    knobs: text(run.knobs),
  }));
  const entries = objects(raw.entries).map((entry, index) => {
    const setting = settings[entry.setting];
    const method = methods[entry.method];
    const words = [method.label, method.name, setting.suite, setting.backbone, setting.protocol];
    return {
      ...entry,
      index,
      setting,
      method,
      text: [...words, entry.task, method.group].join(" ").toLowerCase(),
    };
  });
  const curves = new Map(objects(raw.curves).map((curve) => [curve.run, curve]));
  return { metric: raw.metric, settings, methods, runs, entries, curves };
}

/**
 * An element with attributes, listeners (names that begin with "on") and children.
 * Children are elements or texts; texts are never read as HTML.
 */
function make(name, attributes = {}, ...children) {
  return furnish(document.createElement(name), attributes, children);
}

/** The same for SVG. */
function draw(name, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Distinct values, in the order in which they come. */
function distinct(values) {
  return [...new Set(values)];
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** `81.2`, with a real minus sign; a dash where there is no number. */
function fixed(value, decimals) {
  return value === null ? NOTHING : value.toFixed(decimals).replace("-", "−");
}

/** `1.80 M`: three digits. */
function quantity(value) {
  if (value === null) return NOTHING;
  const units = ["", " k", " M", " G", " T", " P"];
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const whole = unit === 0 && Number.isInteger(value);
  const decimals = whole || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return value.toFixed(decimals) + units[unit];
}

/** The same without zeros at the end: `1.8 M`. */
function shortQuantity(value) {
  return quantity(value).replace(/\.(\d*?)0+(?= |$)/, (_, rest) => (rest ? `.${rest}` : ""));
}

/** `62.5 %` of 0.625. */
function share(value) {
  return `${Number((100 * value).toFixed(2))} %`;
}

/** `81.2 ± 0.9 (n = 3)`. */
function spread(entry) {
  const sd = entry.sd === null ? "" : ` ± ${fixed(entry.sd, 1)}`;
  return `${fixed(entry.mean, 1)}${sd} (n = ${entry.seeds.length})`;
}

function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** A button that copies a text; nothing where the browser cannot. */
function copyButton(text, what, head = "Copy") {
  if (!navigator.clipboard) return "";
  const button = make("button", { type: "button", class: "copy", "aria-label": `Copy ${what}` }, head);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => { button.textContent = head; }, 1500);
  });
  return button;
}
