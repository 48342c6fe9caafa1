// What the reader has chosen; it stands in the address after "#", so that a view can be linked.

const ALL = "";
const START = {
  q: "",
  suite: ALL,
  backbone: ALL,
  protocol: ALL,
  compression: ALL,
  task: "average",
  group: ALL,
  sort: "",
  x: "macs",
  setting: "",
  method: "",
  beside: "",
  at: "",
};

/** The choices in the address; the names of sections stand there too and say nothing. */
function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = { ...START };
  for (const name of Object.keys(START)) {
    if (given.has(name)) state[name] = given.get(name);
  }
  return state;
}

/** Write the choices that differ from the start into the address; no new page in the history. */
function writeState(state) {
  const chosen = Object.entries(state).filter(([name, value]) => value !== START[name]);
  const hash = new URLSearchParams(chosen).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

/**
 * Give a select its options.
 * @param {Array<[string, string]>} options value and text of each
 * @returns {string} what is chosen: `wanted` where it is among them, else the first
 */
function fillSelect(select, options, wanted) {
  const signature = JSON.stringify(options);
  if (select.dataset.options !== signature) {
    select.dataset.options = signature;
    select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  }
  const known = options.some(([value]) => value === wanted);
  select.value = known ? wanted : options.length ? options[0][0] : "";
  select.disabled = options.length < 2;
  return select.value;
}
