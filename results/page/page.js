// The page: one state, and the parts that show it.

/** Follow the system's colours until the reader asks for others. */
function setUpColours() {
  const button = document.getElementById("colours");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.colours ?? (system.matches ? "dark" : "light")) === "dark";
  const say = () => { button.textContent = isDark() ? "Light colours" : "Dark colours"; };
  button.addEventListener("click", () => {
    document.documentElement.dataset.colours = isDark() ? "light" : "dark";
    say();
  });
  system.addEventListener("change", say);
  button.hidden = false;
  say();
}

/** Links to sections leave the address alone: the reader's choices stand there. */
function setUpLinks() {
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    link.addEventListener("click", (event) => {
      const section = document.querySelector(link.getAttribute("href"));
      event.preventDefault();
      section.setAttribute("tabindex", -1);
      section.focus({ preventScroll: true });
      section.scrollIntoView();
    });
  }
}

/** A state without filters that nothing here can pass, as a link made for another page may have. */
function cleaned(data, state) {
  const unknown = Object.keys(FILTERS).filter((name) =>
    state[name] !== ALL && !data.entries.some((entry) => FILTERS[name](entry) === state[name]));
  return { ...state, ...Object.fromEntries(unknown.map((name) => [name, ALL])) };
}

/** The setting that the plots show: the one chosen, where the filters leave it. */
function chooseSetting(data, state) {
  const left = filtered(data.entries, { ...state, q: "" }, ["suite", "backbone", "protocol"]);
  const settings = distinct(left.map((entry) => entry.setting));
  const options = settings.map((setting) => [String(data.settings.indexOf(setting)), setting.title]);
  const chosen = fillSelect(document.getElementById("setting"), options, state.setting);
  return data.settings[Number(chosen)];
}

/** The task of the plots: the filter's, or the average where the filter has none of this setting. */
function chooseTask(data, state, setting) {
  return setting.tasks.includes(state.task) ? state.task : "average";
}

function start() {
  const data = readData();
  let state = cleaned(data, readState());
  const update = (changes) => {
    state = cleaned(data, { ...state, ...changes });
    writeState(state);
    show();
  };
  const leaderboard = new Leaderboard(data, update);
  const plots = [new Pareto(data, update), new Curves(data, update)];
  const showPlots = () => {
    const setting = chooseSetting(data, state);
    if (!setting) return;
    plots.forEach((plot) => plot.show(state, setting, chooseTask(data, state, setting)));
  };
  const show = () => {
    leaderboard.show(state);
    showPlots();
  };
  addEventListener("hashchange", () => {
    state = cleaned(data, readState());
    show();
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    // A phone's address bar changes the height alone.
    if (innerWidth === width) return;
    width = innerWidth;
    showPlots();
  });
  show();
}

setUpColours();
setUpLinks();
start();
