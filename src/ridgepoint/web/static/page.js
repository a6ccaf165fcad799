// The page: loads the catalogue, keeps form, link and answers together.

import { get, later, latest, post } from "./ask.js";
import { adopt, adoptMachine, dropTechnique, make, setUp, show } from "./form.js";
import { body, copy, current, link, load, MOST, state } from "./state.js";
import { serveBody, setUpServing, showServing } from "./serving.js";
import { adviceBody, showAdvice, showCompare, showPapers, showResult, showSweep, showWrong, setUpSweep, sweepBody } from "./views.js";

const $ = (id) => document.getElementById(id);
const TABS = { result: "Result", sweep: "Sweep", compare: "Compare", advice: "What would help", serving: "Serving", papers: "Papers" };
const VIEWS = { sweep: () => showSweep(model, () => changed({ view: false })), compare: showCompare, advice: showAdvice, serving: showServing, papers: () => showPapers(loadScenario) };
const askEstimate = latest("/api/estimate");
let model = null;
let known = { model: "", machine: "" };

async function start() {
  load(location.hash);
  tabs();
  $("plan-box").open = innerWidth > 900;
  try {
    const [models, machines, choices, techniques] = await Promise.all(["models", "machines", "choices", "techniques"].map((name) => get(`/api/${name}`)));
    setUp({ models, machines, choices, techniques }, changed);
    setUpServing(write);
    await refresh();
  } catch (error) { showWrong(error, choose); }
  addEventListener("hashchange", () => { if (location.hash !== link()) { load(location.hash); setUpServing(write); mark(); refresh(); } });
}

// Something was changed by the user: `what` may say that the model or the machine is another.
function changed(what = {}) {
  write();
  soon(what);
}

const soon = later(40, (what) => refresh(what));
const write = later(150, () => history.replaceState(null, "", link()));

async function refresh(what = {}) {
  chips();
  try {
    await learn();
    show();
    await answer();
    history.replaceState(null, "", link());
    if (state.view !== "result" && what.view !== false) viewSoon();
  } catch (error) {
    if (error.name === "AbortError") return;
    show();
    showWrong(error, choose);
  }
}

const viewSoon = later(150, () => VIEWS[state.view]?.());

// What the form needs to know about the model and the machine.
async function learn() {
  const scenario = current();
  const asked = body(scenario);
  const names = { model: JSON.stringify(asked.model), machine: scenario.machine };
  if (known.model !== names.model) {
    model = await post("/api/model", { model: asked.model });
    known.model = names.model;
  }
  adopt(model);
  if (known.machine !== names.machine) {
    adoptMachine(await post("/api/machine", { machine: scenario.machine }));
    known.machine = names.machine;
  }
}

async function answer() {
  $("results").classList.add("stale");
  showResult(await askEstimate({ ...body(current()), view: true }));
}

function choose(field, name) {
  if (field === "technique") dropTechnique(name);
  else current()[field] = name;
  if (field === "model") current().config = null;
  changed();
}

function loadScenario(scenario) {
  if (state.scenarios.length < MOST) { state.scenarios.push(scenario); state.active = state.scenarios.length - 1; } else state.scenarios[state.active] = scenario;
  open("result");
  refresh();
  say("The paper's scenario is loaded");
}

// Scenarios ----------------------------------------------------------------------------------------------------------------

function chips() {
  const chip = (scenario, i) => {
    const letter = String.fromCharCode(65 + i);
    const pick = make("button", { type: "button", "aria-pressed": String(i === state.active), on: { click: () => { state.active = i; refresh(); } } }, `${letter}  ${scenario.model} on ${scenario.machine}`);
    const drop = make("button", { type: "button", "aria-label": `Remove scenario ${letter}`, on: { click: () => { state.scenarios.splice(i, 1); state.active = Math.min(state.active, state.scenarios.length - 1); refresh(); } } }, "×");
    return make("div", { class: "chip" }, pick, ...(state.scenarios.length > 1 ? [drop] : []));
  };
  const add = make("button", { type: "button", "aria-label": "Add a scenario to compare", on: { click: () => { state.scenarios.push(copy(current())); state.active = state.scenarios.length - 1; refresh(); } } }, "+ compare");
  $("scenarios").replaceChildren(...state.scenarios.map(chip), ...(state.scenarios.length < MOST ? [add] : []));
}

// Tabs ---------------------------------------------------------------------------------------------------------------------

function tabs() {
  const names = Object.keys(TABS);
  if (!(state.view in TABS)) state.view = "result";
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    open(names[(names.indexOf(state.view) + step + names.length) % names.length]);
    $(`tab-${state.view}`).focus();
  };
  $("tabs").replaceChildren(...names.map((name) => make("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, on: { click: () => open(name), keydown: move } }, TABS[name])));
  mark();
}

function mark() {
  $("results").dataset.view = state.view;
  for (const name of Object.keys(TABS)) {
    const chosen = name === state.view;
    $(`tab-${name}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${name}`).tabIndex = chosen ? 0 : -1;
    $(`panel-${name}`).hidden = !chosen;
  }
}

function open(name) {
  state.view = name;
  mark();
  write();
  VIEWS[name]?.();
}

// Sharing and files --------------------------------------------------------------------------------------------------------

const quiet = later(2500, () => { $("said").textContent = ""; });
function say(text) { $("said").textContent = text; quiet(); }

async function copyText(text, done) {
  try { await navigator.clipboard.writeText(text); say(done); } catch { say("The browser does not allow copying here"); }
}

function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// The report and the figures are those of the view that is open, as far as it has any.
const REPORTS = {
  result: ["report", () => body(current())],
  sweep: ["sweep.html", () => sweepBody(model)],
  advice: ["advise.html", adviceBody],
  serving: ["simulate.html", serveBody],
};
const FIGURES = { result: ["estimate", () => body(current())], sweep: ["sweep", () => sweepBody(model)], advice: ["advise", adviceBody], serving: ["simulate", serveBody] };
const NAMES = { result: "ridgepoint", sweep: "sweep", advice: "advice", serving: "simulation" };

async function file(kinds) {
  const view = state.view in kinds ? state.view : "result";
  const [path, asked] = kinds[view];
  return [NAMES[view], await post(`/api/${path}`, asked())];
}

const FILES = {
  html: async () => { const [name, text] = await file(REPORTS); save(`${name}.html`, "text/html", text); },
  json: async () => { const [name, { view, ...figures }] = await file(FIGURES); save(`${name}.json`, "application/json", JSON.stringify(figures, null, 2)); },
  toml: async () => save("scenario.toml", "application/toml", await post("/api/scenario", body(current()))),
  csv: async () => { setUpSweep(); save("sweep.csv", "text/csv", await post("/api/sweep.csv", sweepBody(model))); },
};

for (const button of document.querySelectorAll("[data-file]")) {
  button.addEventListener("click", async () => {
    $("download").open = false;
    try { await FILES[button.dataset.file](); say("Saved"); } catch (error) { say(error.message); }
  });
}
$("share").addEventListener("click", () => { history.replaceState(null, "", link()); copyText(location.href, "The link holds the whole scenario"); });
for (const button of document.querySelectorAll(".command button")) button.addEventListener("click", () => copyText(button.previousElementSibling.textContent, "Copied"));
for (const id of ["sweep-up", "sweep-across", "sweep-column"]) $(id).addEventListener("change", () => VIEWS.sweep());
for (const id of ["objective", "quality"]) $(id).addEventListener("change", () => VIEWS.advice());
$("question").addEventListener("input", later(200, () => VIEWS.papers()));
addEventListener("click", (event) => { if (!event.target.closest("#download")) $("download").open = false; });
addEventListener("keydown", (event) => { if (event.key === "Escape") { $("download").open = false; $("tip").hidden = true; } });

// The tip: what a mark says, under the pointer and beside the focus -----------------------------------------------------------

function tip(event) {
  const found = event.target.closest?.(".rp-mark");
  $("tip").hidden = !found;
  if (!found) return;
  $("tip").textContent = found.getAttribute("aria-label") || found.dataset.said;
  const box = found.getBoundingClientRect();
  const [x, y] = event.type === "focusin" ? [box.left + box.width / 2, box.bottom] : [event.clientX, event.clientY];
  $("tip").style.left = `${Math.max(4, Math.min(x + 12, innerWidth - $("tip").offsetWidth - 8))}px`;
  $("tip").style.top = `${y + 14 + $("tip").offsetHeight > innerHeight ? y - $("tip").offsetHeight - 10 : y + 14}px`;
}
for (const kind of ["pointermove", "focusin"]) addEventListener(kind, tip, { passive: true });

start();
