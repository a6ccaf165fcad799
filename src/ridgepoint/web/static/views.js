// What is shown: parts of the report as the server draws them, sweeps, comparisons, advice, papers.

import { latest, post } from "./ask.js";
import { addTechnique, amount, make, short } from "./form.js";
import { body, copy, current, FIRST, state } from "./state.js";

const $ = (id) => document.getElementById(id);
const PARTS = ["facts", "warnings", "shares", "limits", "memory", "roofline", "time", "grounds"];
const COLUMNS = { time_s: "time", bottleneck: "bottleneck", tokens_per_s: "tokens per second", samples_per_s: "samples per second", headroom: "time over its limit", memory_gb: "memory", usd_per_million_tokens: "cost per million tokens", energy_j_per_token: "energy per token" };
const RANGES = { batch: [1, 1024], context: [512, 131072], prompt: [512, 131072], output: [16, 4096], seq: [512, 131072], image_px: [128, 1024], steps: [1, 64], frames: [1, 256], tp: [1, 8] };

// Parts come from our own server, which escapes every name in them; the page's policy lets nothing in them run.
export function fill(element, html) {
  const open = new Set([...element.querySelectorAll("details[open] > summary")].map((s) => s.textContent));
  element.innerHTML = html;
  for (const summary of element.querySelectorAll("details > summary")) if (open.has(summary.textContent)) summary.parentElement.open = true;
  for (const title of element.querySelectorAll("svg title")) title.remove();  // the tip says the same
  for (const map of element.querySelectorAll("svg:has([data-x])")) rove(map);
}

// A map is one stop of the tab key; arrow keys move inside.
function rove(map) {
  const cells = [...map.querySelectorAll("[data-x]")];
  const at = (x, y) => cells.find((cell) => Number(cell.dataset.x) === x && Number(cell.dataset.y) === y);
  for (const cell of cells) cell.setAttribute("tabindex", -1);
  cells[0].setAttribute("tabindex", 0);
  map.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] || [];
    const cell = event.target.closest("[data-x]");
    const next = cell && dx != null && at(Number(cell.dataset.x) + dx, Number(cell.dataset.y) + dy);
    if (!next) return;
    event.preventDefault();
    cell.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
}

export function showResult(found) {
  $("wrong").replaceChildren();
  $("results").classList.remove("stale", "failed");
  fill($("verdict"), found.view.verdict);
  for (const part of PARTS) fill($(part), found.view[part]);
  $("command").textContent = found.command;
  document.title = `${found.model} on ${found.machine} – Ridgepoint`;
}

export function showWrong(error, choose) {
  const box = make("div", { class: "error" }, make("strong", {}, capital(error.message)));
  if (error.hint) box.append(make("p", {}, capital(error.hint)));
  const names = /^did you mean (.+)\?$/.exec(error.hint || "");
  const field = { unknown_model: "model", unknown_machine: "machine" }[error.kind];
  if (names && field) for (const name of names[1].split(" or ")) box.append(make("button", { type: "button", on: { click: () => choose(field, name) } }, name));
  const technique = /^([\w-]+) does not apply/.exec(error.message)?.[1];
  if (technique) box.append(make("button", { type: "button", on: { click: () => choose("technique", technique) } }, `Switch ${technique} off`));
  $("wrong").replaceChildren(box);
  $("results").classList.remove("stale");
  $("results").classList.add("failed");
  for (const part of ["verdict", ...PARTS]) $(part).replaceChildren();
  $("command").textContent = "";
}

// A sentence starts with a capital, unless its first word is a name.
const capital = (text) => (/^[a-z]+(?![\w.-])/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text);

export function failed(element) {
  return (error) => {
    if (error.name === "AbortError") return;
    element.replaceChildren(make("div", { class: "error" }, make("strong", {}, capital(error.message)), make("p", {}, capital(error.hint || ""))));
  };
}

// Sweeps ------------------------------------------------------------------------------------------------------------------

const askSweep = latest("/api/sweep");

export function sweepAxes() {
  const scenario = current();
  const names = Object.keys({ ...scenario.sizes, ...scenario.inputs });
  return names.length > 1 ? names : [...names, "tp"];
}

export function setUpSweep() {
  const names = sweepAxes();
  const wanted = { up: $("sweep-up").value, across: $("sweep-across").value };
  const fallback = { up: names[0], across: names[1] };
  for (const side of ["up", "across"]) {
    const chosen = names.includes(wanted[side]) ? wanted[side] : fallback[side];
    $(`sweep-${side}`).replaceChildren(...names.map((name) => make("option", { value: name, selected: name === chosen }, name.replaceAll("_", " "))));
  }
  if ($("sweep-up").value === $("sweep-across").value) $("sweep-across").value = names.find((name) => name !== $("sweep-up").value);
  if (!$("sweep-column").options.length) $("sweep-column").append(...Object.entries(COLUMNS).map(([name, words]) => make("option", { value: name }, words)));
}

function range(name, model) {
  const now = Number((current().sizes[name] ?? current().inputs[name])) || 1;
  let [low, high] = RANGES[name] || [Math.max(1, Math.round(now / 16)), Math.max(16, Math.round(now * 16))];
  if (["context", "prompt", "seq"].includes(name) && model?.max_context) high = Math.max(low * 4, Math.min(high, model.max_context));
  return `${low}:${high}:log2`;
}

export function sweepBody(model) {
  const [up, across] = [$("sweep-up").value, $("sweep-across").value];
  const vary = { [up]: range(up, model) };
  if (across !== up) vary[across] = range(across, model);
  return { ...body(current()), vary, column: $("sweep-column").value };
}

export async function showSweep(model, changed) {
  setUpSweep();
  const asked = sweepBody(model);
  try {
    const found = await askSweep(asked);
    fill($("sweep"), found.view.head + found.view.charts + `<details><summary>All points</summary>${found.view.rows}</details>`);
    const [up, across] = Object.keys(asked.vary);
    $("command-sweep").textContent = found.command;
    const now = [across, up].map((name) => found.vary[name]?.findIndex((value) => Number(value) === Number(valueOf(name))) ?? 0);
    for (const here of $("sweep").querySelectorAll(`[data-x="${now[0]}"][data-y="${now[1]}"]`)) {
      here.classList.add("here");
      here.parentElement.append(here);  // above its neighbours
    }
    const choose = (cell) => {
      put(up, found.vary[up][Number(cell.dataset.y)]);
      if (across) put(across, found.vary[across][Number(cell.dataset.x)]);
      changed();
    };
    for (const cell of $("sweep").querySelectorAll("[data-x]")) {
      cell.addEventListener("click", () => choose(cell));
      cell.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(cell); });
    }
  } catch (error) { failed($("sweep"))(error); }
}

const valueOf = (name) => amount(current().sizes[name] ?? current().inputs[name] ?? current().plan[name] ?? 1);

function put(name, value) {
  const scenario = current();
  if (name in scenario.sizes) scenario.sizes[name] = String(value);
  else if (name in scenario.inputs) scenario.inputs[name] = String(value);
  else scenario.plan[name] = String(value);
}

// Scenarios side by side ---------------------------------------------------------------------------------------------------

const ROWS = [
  ["time", (d) => d.time_s, seconds, -1],
  ["physical limit", (d) => d.bound_s, seconds, -1],
  ["time to first token", (d) => d.ttft_s, seconds, -1],
  ["time per token", (d) => d.tpot_s, seconds, -1],
  ["tokens per second", (d) => d.throughput.tokens_per_s, rounded, 1],
  ["samples per second", (d) => (d.throughput.tokens_per_s ? null : d.throughput.samples_per_s), rounded, 1],
  ["memory per device", (d) => d.memory.total_gb, (v) => `${rounded(v)} GB`, -1],
  ["power", (d) => d.power_w, (v) => `${short(v)}W`, 0],
  ["energy per token", (d) => d.energy_j_per_token, (v) => `${rounded(v)} J`, -1],
  ["cost per million tokens", (d) => d.cost_usd_per_million_tokens, (v) => `$${rounded(v)}`, -1],
];

function seconds(value) {
  for (const [scale, unit] of [[86400, "days"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"]]) if (value >= scale * (scale > 1 ? 1.5 : 1)) return `${rounded(value / scale)} ${unit}`;
  return `${rounded(value * 1e9)} ns`;
}

function rounded(value) {
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
}

export async function showCompare() {
  const answers = await Promise.all(state.scenarios.map((scenario) => post("/api/estimate", { ...body(scenario), view: true }).catch((error) => ({ error }))));
  const letters = state.scenarios.map((_, i) => String.fromCharCode(65 + i));
  const head = make("tr", {}, make("th", { scope: "col" }, ""), ...answers.map((d, i) => make("th", { scope: "col" }, `${letters[i]}: ${state.scenarios[i].model}`, make("br"), state.scenarios[i].machine)));
  const row = (name, cells) => make("tr", {}, make("th", { scope: "row" }, name), ...cells);
  const rows = [row("task", state.scenarios.map((s) => make("td", {}, [s.task, ...Object.entries({ ...s.sizes, ...s.inputs }).map(([k, v]) => `${k} ${v}`)].join(", "))))];
  for (const [name, read, show, better] of ROWS) {
    const values = answers.map((d) => (d.error ? null : read(d)));
    if (values.every((value) => value == null)) continue;
    rows.push(row(name, values.map((value, i) => {
      if (value == null) return make("td", {}, "–");
      const cell = make("td", {}, show(value));
      const ratio = i && values[0] ? value / values[0] : null;
      if (ratio != null) cell.append(" ", make("small", { class: (ratio - 1) * better > 0.005 ? "rp-yes" : (ratio - 1) * better < -0.005 ? "rp-no" : "" }, `${rounded(ratio)}×`));
      return cell;
    })));
  }
  rows.push(row("fits", answers.map((d) => (d.error ? make("td", {}, "–") : make("td", { class: d.memory.fits ? "rp-yes" : "rp-no" }, d.memory.fits ? "yes" : "no")))));
  rows.push(row("bottleneck", answers.map((d) => make("td", {}, d.error ? d.error.message : Object.entries(d.shares).slice(0, 2).map(([r, s]) => `${Math.round(100 * s)} % ${d.labels[r]}`).join(", ")))));
  const note = state.scenarios.length > 1 ? "Ratios are to A." : "Add a scenario above (+) to compare it with this one.";
  const bars = answers.map((d, i) => {
    const box = make("div");
    fill(box, d.error ? "" : d.view.shares + d.view.memory);
    return make("div", {}, make("h2", {}, `${letters[i]}: ${state.scenarios[i].model} on ${state.scenarios[i].machine}`), box);
  });
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  $("compare").style.setProperty("--columns", answers.length);
  $("compare").replaceChildren(make("div", { class: "rp-scroll" }, table), make("p", { class: "about" }, note), make("div", { class: "two" }, ...bars));
}

// Advice -------------------------------------------------------------------------------------------------------------------

const askAdvice = latest("/api/advise");
export const adviceBody = () => ({ ...body(current()), objective: $("objective").value, quality: $("quality").value });

export async function showAdvice() {
  $("advice").replaceChildren(make("p", { class: "busy" }, "Trying every technique …"));
  try {
    const found = await askAdvice(adviceBody());
    const { waterfall, remedies, explained, presuming, hardware } = found.view;
    fill($("advice"), `<h2>One after the other</h2>${waterfall}<h2>Each alone</h2><p class="about">A click switches one on.</p><div class="remedies">${remedies}</div>${explained}${presuming}${hardware}`);
    $("command-advice").textContent = found.command;
    for (const cell of $("advice").querySelectorAll(".remedies tbody td:first-child")) {
      const name = cell.textContent;
      cell.replaceChildren(make("button", { type: "button", "aria-label": `Switch ${name} on`, on: { click: () => addTechnique(name) } }, name));
    }
  } catch (error) { failed($("advice"))(error); }
}

// Papers -------------------------------------------------------------------------------------------------------------------

const askPapers = latest("/api/papers");

export async function showPapers(load) {
  try {
    const found = await askPapers({ question: $("question").value });
    const item = (p) => make("li", {}, make("button", { type: "button", on: { click: () => openPaper(p.slug, load) } }, make("b", {}, p.name), ` ${p.year ?? ""} `, make("span", { class: "state" }, p.state), make("small", {}, p.does)));
    $("papers").replaceChildren(...found.map(item));
    if (!found.length) $("papers").replaceChildren(make("li", {}, "no paper has that in it"));
  } catch (error) { failed($("papers"))(error); }
}

async function openPaper(slug, load) {
  try {
    const p = await post("/api/paper", { slug });
    const box = make("div", { class: "paper" }, make("h2", { tabindex: -1 }, p.title), make("p", { class: "about" }, [p.name, p.year, p.kind, ...p.mechanism.map((m) => m.replaceAll("_", " "))].filter(Boolean).join(" · ")), make("p", {}, `${capital(p.does)}.`));
    if (p.claims.length) {
      const line = (c) => make("li", {}, `${c.metric.replaceAll("_", " ")}: ${c.value == null ? "withheld" : `${c.value} ${c.unit}`}${c.baseline ? `, against ${c.baseline}` : ""}${c.condition ? ` (${c.condition})` : ""}`);
      box.append(make("h3", {}, "What it reports"), make("ul", { class: "rp-notes" }, ...p.claims.map(line)));
    }
    if (p.reason) box.append(make("p", { class: "about" }, `Why there is no more: ${p.reason}.`));
    if (p.workload) {
      const assumed = p.workload.assumed?.length ? ` Not stated by it, and assumed: ${p.workload.assumed.join(", ")}.` : "";
      box.append(make("p", {}, make("button", { type: "button", on: { click: () => load(fromWorkload(p.workload)) } }, "Load its scenario")), make("p", { class: "about" }, p.run + assumed));
    }
    $("paper").replaceChildren(box);
    box.querySelector("h2").focus();
  } catch (error) { failed($("paper"))(error); }
}

function fromWorkload(workload) {
  const { name, ...sizes } = workload.task;
  const text = (values) => Object.fromEntries(Object.entries(values || {}).map(([key, value]) => [key, String(value)]));
  return { ...copy(FIRST), model: workload.model, machine: workload.machine, task: name || "", sizes: text(sizes), inputs: text(workload.inputs), plan: text(workload.plan), apply: [] };
}
