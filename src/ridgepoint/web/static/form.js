// The form: what can be said about a scenario, shown and read back. It never computes; it changes the state and says so.

import { current, joinMachine, splitMachine, state } from "./state.js";

const $ = (id) => document.getElementById(id);
const LENGTHS = ["context", "prompt", "seq", "output"];
const LONGEST = 2 ** 20;
const TRAINING = ["micro_batch", "zero_stage", "recompute", "optimizer", "schedule"];
const CUSTOM = { bf16: "400T", memory: "64G", bandwidth: "2T" };
const UNITS = { memory: "B", cache: "B", bandwidth: "B/s", "cache-bandwidth": "B/s", link: "B/s", network: "B/s", host: "B/s", tdp: "W", price: "$/h" };
const ORDER = ["bandwidth", "memory", "bf16", "fp16", "fp8", "link", "network", "price", "tdp"];
const NAMES = { memory: "memory", cache: "cache", bandwidth: "memory bandwidth", "cache-bandwidth": "cache bandwidth", link: "link between devices", network: "network", host: "link to the host", tdp: "power limit", price: "price" };
const FORMATS = ["bf16", "fp16", "fp8", "int8", "mxfp8", "fp4", "nvfp4", "mxfp4", "int4", "int3", "int2", "fp32"];
const WORDS = { image_px: "image side (pixels)", seq: "tokens per sequence", prompt: "prompt tokens", output: "output tokens", context: "context tokens", batch: "batch" };

let known = { techniques: [], model: null, machine: null, formats: FORMATS };
let changed = () => {};

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, action] of Object.entries(value)) element.addEventListener(event, action);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export function setUp(catalogue, onChange) {
  changed = onChange;
  known = { ...known, ...catalogue, formats: FORMATS.filter((name) => catalogue.choices.formats.includes(name)) };
  $("models").replaceChildren(...catalogue.models.map((m) => make("option", { value: m.name }, m.title)));
  $("machines").replaceChildren(...catalogue.machines.map((m) => make("option", { value: m.name }, m.title)), make("option", { value: "custom" }, "a machine of your own"));
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("model").addEventListener("change", () => setModel($("model").value.trim()));
  $("machine").addEventListener("change", setMachine);
  $("count").addEventListener("change", setMachine);
  $("task").addEventListener("change", () => { setTask($("task").value); changed(); });
  $("reset-figures").addEventListener("click", () => { const m = splitMachine(current().machine); changeMachine({ ...m, figures: m.custom ? { ...CUSTOM } : {} }); });
  $("use-config").addEventListener("click", useConfig);
  $("technique-filter").addEventListener("input", showTechniques);
}

function setModel(name) {
  const scenario = current();
  scenario.model = name;
  scenario.config = null;
  changed({ model: true });
}

function useConfig() {
  $("config-wrong").textContent = "";
  try {
    const config = JSON.parse($("config").value);
    if (config === null || typeof config !== "object" || Array.isArray(config)) throw new Error("it holds no JSON object");
    const scenario = current();
    scenario.config = config;
    scenario.model = String(config._name_or_path || config.model_type || "pasted").split("/").pop().slice(0, 80) || "pasted";
    changed({ model: true });
  } catch (error) {
    $("config-wrong").textContent = `This is no config.json: ${error.message}`;
  }
}

function setMachine() {
  const typed = splitMachine($("machine").value.trim());
  const now = splitMachine(current().machine);
  const count = typed.count !== "1" ? typed.count : $("count").value.trim() || "1";
  const same = typed.base === now.base && !Object.keys(typed.figures).length;
  const figures = same ? now.figures : typed.base === "custom" && !Object.keys(typed.figures).length ? { ...CUSTOM } : typed.figures;
  $("machine").value = typed.base;
  changeMachine({ ...typed, count, figures });
}

function changeMachine(machine) {
  current().machine = joinMachine(machine);
  changed({ machine: true });
}

// Another task keeps the sizes that it shares with the one before.
function setTask(name) {
  const scenario = current();
  const usual = known.model?.tasks[name] || {};
  const before = { ...scenario.sizes, ...scenario.inputs };
  scenario.task = name;
  scenario.sizes = {};
  scenario.inputs = {};
  for (const [size, value] of Object.entries(usual)) put(scenario, size, before[size] ?? String(value));
  for (const key of TRAINING) if (name !== "train") delete scenario.plan[key];
  if (!["prefill", "decode", "generate"].includes(name)) delete scenario.plan.kv;
}

function put(scenario, size, value) {
  const own = known.choices.tasks[scenario.task] || [];
  (own.includes(size) ? scenario.sizes : scenario.inputs)[size] = value;
}

const kind = (model) => (model.layers ? "tokens" : "network");
const tasksOf = { tokens: "", network: "" };

// A model was read: its tasks replace those of the one before. From one kind of model to another and back keeps the task of each.
export function adopt(model) {
  const scenario = current();
  const before = known.model;
  known.model = model;
  if (before && kind(before) !== kind(model)) {
    const task = tasksOf[kind(model)];
    tasksOf[kind(before)] = scenario.task;
    if (task !== scenario.task) setTask(task in model.tasks ? task : model.usual_task);
  }
  const usual = model.tasks[scenario.task];
  const given = Object.keys({ ...scenario.sizes, ...scenario.inputs });
  if (!usual) setTask(model.tasks[model.usual_task] ? model.usual_task : Object.keys(model.tasks)[0]);
  else if (given.length !== Object.keys(usual).length || given.some((size) => !(size in usual))) setTask(scenario.task);
}

export function adoptMachine(machine) {
  known.machine = machine;
}

export function show() {
  const scenario = current();
  const machine = splitMachine(scenario.machine);
  set($("model"), scenario.model);
  set($("machine"), machine.base);
  set($("count"), machine.count);
  $("model-about").textContent = aboutModel(scenario);
  $("machine-about").textContent = aboutMachine();
  const tasks = Object.keys(known.model?.tasks || { [scenario.task]: {} });
  $("task").replaceChildren(...tasks.map((name) => make("option", { value: name, selected: name === scenario.task }, name)));
  showSizes(scenario);
  showFigures(machine);
  showPlan(scenario);
  showTechniques();
}

// What is being typed stays.
function set(input, value) {
  if (document.activeElement !== input) input.value = value;
}

function aboutModel(scenario) {
  const model = known.model;
  if (!model) return "";
  const parts = [scenario.config ? "pasted configuration" : model.title];
  if (model.parameters) parts.push(`${short(model.parameters).replace("G", "B")} parameters`);
  if (model.layers) parts.push(`${model.layers} layers`);
  if (model.max_context) parts.push(`context ${model.max_context.toLocaleString("en")}`);
  return parts.join(" · ");
}

function aboutMachine() {
  const machine = known.machine;
  if (!machine) return "";
  const parts = [machine.title, `${short(machine.memory_bytes)}B at ${short(machine.memory_bytes_per_s)}B/s`];
  if (machine.flop_per_s) parts.push(`${short(machine.flop_per_s)}FLOP/s in 16 bit`);
  return parts.join(" · ");
}

export function short(value) {
  for (const [scale, letter] of [[1e15, " P"], [1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]]) if (value >= scale) return trim(value / scale) + letter;
  return trim(value) + " ";
}

const trim = (value) => String(Number(value.toPrecision(3)));

// A slider on a logarithmic scale with the value beside it, both saying the same.
export function slider(id, words, value, [low, high], read, onInput, reset) {
  const number = read(value);
  const place = Number.isFinite(number) && number > 0 ? Math.log2(number) : low;
  const text = make("input", { id, value, inputmode: "numeric", spellcheck: "false" });
  const range = make("input", { type: "range", min: low, max: high, step: 0.25, value: place, "aria-label": `${words}, slider`, tabindex: 0 });
  range.addEventListener("input", () => { text.value = onInput(2 ** Number(range.value)); });
  text.addEventListener("change", () => { onInput(text.value.trim()); const now = read(text.value); if (now > 0) range.value = Math.log2(now); });
  const label = make("label", { for: id }, words);
  if (reset) label.append(" ", make("b", {}, reset));
  return make("div", { class: "slider" }, label, range, text);
}

export const amount = (text) => {
  const [, digits, letter] = /^\s*([\d.]+(?:e[+-]?\d+)?)\s*([kKMG]?)\s*$/.exec(String(text)) || [];
  return digits ? Number(digits) * { "": 1, k: 1024, K: 1024, M: 2 ** 20, G: 2 ** 30 }[letter] : NaN;
};

let shownSizes = "";
function showSizes(scenario) {
  const all = { ...scenario.sizes, ...scenario.inputs };
  const key = [state.active, scenario.task, ...Object.keys(all)].join();
  if (key === shownSizes) {
    for (const [size, value] of Object.entries(all)) {
      const input = $(`size-${size}`);
      if (input && input !== document.activeElement && input.value !== String(value)) { input.value = value; const range = input.parentElement.querySelector("[type=range]"); if (amount(value) > 0 && document.activeElement !== range) range.value = Math.log2(amount(value)); }
    }
    return;
  }
  shownSizes = key;
  $("sizes").replaceChildren(...Object.entries(all).map(([size, value]) => {
    const high = LENGTHS.includes(size) ? Math.log2(Math.max(Math.min(known.model?.max_context || LONGEST, LONGEST), 1024)) : size === "batch" ? 12 : 14;
    const onInput = (typed) => {
      const said = typeof typed === "number" ? String(Math.max(1, Math.round(typed))) : typed;
      put(current(), size, said);
      changed();
      return said;
    };
    return slider(`size-${size}`, WORDS[size] || size.replaceAll("_", " "), value, [0, high], amount, onInput);
  }));
}

const quantity = (text) => {
  const [, digits, letter] = /^\s*([\d.]+(?:e[+-]?\d+)?)\s*([kKMGTP]?)/.exec(String(text)) || [];
  return digits ? Number(digits) * { "": 1, k: 1e3, K: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 }[letter] : NaN;
};

const written = (value) => short(value).replace(" ", "").trim();

let shownFigures = "";
function showFigures(machine) {
  const rank = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  const sheet = Object.fromEntries(Object.entries(known.machine?.figures || {}).sort(([a], [b]) => rank(a) - rank(b)));
  const key = JSON.stringify([state.active, machine, Object.keys(sheet)]);
  if (key === shownFigures) return;
  shownFigures = key;
  const focused = document.activeElement?.closest?.("#figures");
  if (focused) return;  // the slider in use keeps its place
  $("figures").replaceChildren(...Object.entries(sheet).map(([name, value]) => {
    const now = machine.figures[name] ?? written(value);
    const middle = Math.log2(quantity(now));
    const onInput = (typed) => {
      const said = typeof typed === "number" ? written(typed) : typed;
      const m = splitMachine(current().machine);
      m.figures[name] = said;
      current().machine = joinMachine(m);
      changed({ machine: true });
      return said;
    };
    const unit = UNITS[name] || "FLOP/s";
    const words = `${NAMES[name] || `peak in ${name}`} (${unit})`;
    return slider(`figure-${name}`, words, now, [middle - 4, middle + 4], quantity, onInput, name in machine.figures && !machine.custom ? "changed" : "");
  }));
}

function field(name, words, options, placeholder = "") {
  const value = current().plan[name] ?? "";
  const onChange = (event) => {
    const said = event.target.value.trim();
    if (said) current().plan[name] = said; else delete current().plan[name];
    changed();
  };
  const id = `plan-${name}`;
  const input = options
    ? make("select", { id, on: { change: onChange } }, ...options.map(([said, text]) => make("option", { value: said, selected: said === value }, text)))
    : make("input", { id, value, inputmode: "numeric", placeholder, on: { change: onChange } });
  return make("div", { class: "field" }, make("label", { for: id }, words), input);
}

let shownPlan = "";
function showPlan(scenario) {
  const key = JSON.stringify([state.active, scenario.task, scenario.plan, known.model?.kind]);
  if (key === shownPlan) return;
  shownPlan = key;
  const formats = [["", "default"], ...known.formats.map((name) => [name, name])];
  const serving = ["prefill", "decode", "generate"].includes(scenario.task);
  const flag = (on, off) => [["", "default"], ["true", on], ["false", off]];
  const degrees = ["tp", "pp", "dp", "ep", "cp"].map((name) => field(name, name, null, "auto"));
  const groups = [
    [field("weights", "weights", formats), field("acts", "products read", formats), serving && field("kv", "KV cache", formats)],
    degrees,
    [field("graph_capture", "launches", flag("in a graph", "one by one")), field("compiled", "mode", flag("compiled", "eager")), field("fused_attention", "attention", flag("one kernel", "unfused"))],
  ];
  if (scenario.task === "train") groups.push([
    field("micro_batch", "micro-batch", null, "auto"),
    field("zero_stage", "ZeRO stage", [["", "0"], ["1", "1"], ["2", "2"], ["3", "3"]]),
    field("recompute", "recompute", [["", "none"], ["selective", "selective"], ["full", "full"]]),
    field("optimizer", "optimizer", [["", "adam"], ["adam8bit", "adam8bit"], ["adafactor", "adafactor"], ["lion", "lion"], ["sgd", "sgd"]]),
    field("schedule", "schedule", [["", "1f1b"], ["gpipe", "gpipe"], ["interleaved", "interleaved"], ["zero_bubble", "zero bubble"]]),
  ]);
  const focus = document.activeElement?.id;
  $("plan").replaceChildren(...groups.map((group) => make("div", { class: group === degrees ? "fields five" : "fields" }, ...group.filter(Boolean))));
  if (focus?.startsWith("plan-")) $(focus)?.focus();
}

function parsed(text) {
  const at = text.indexOf(":");
  const name = at < 0 ? text : text.slice(0, at);
  const pairs = at < 0 ? [] : text.slice(at + 1).split(",").map((pair) => pair.split("="));
  return { name, values: Object.fromEntries(pairs.filter((pair) => pair.length === 2)) };
}

const said = ({ name, values }) => {
  const given = Object.entries(values).map(([key, value]) => `${key}=${value}`).join(",");
  return given ? `${name}:${given}` : name;
};

export function addTechnique(name) {
  if (!current().apply.some((text) => parsed(text).name === name)) current().apply.push(name);
  $("techniques-box").open = true;
  changed();
}

export function dropTechnique(name) {
  current().apply = current().apply.filter((text) => parsed(text).name !== name);
}

let shownTechniques = "";
function showTechniques() {
  const applied = current().apply.map(parsed);
  const wanted = $("technique-filter").value.trim().toLowerCase();
  $("techniques-count").textContent = applied.length ? `(${applied.length} on)` : "";
  const key = JSON.stringify([state.active, current().apply, wanted]);
  if (key === shownTechniques) return;
  shownTechniques = key;
  if (!document.activeElement?.closest?.("#applied input")) $("applied").replaceChildren(...applied.map(appliedBox));
  const on = new Set(applied.map((one) => one.name));
  const found = known.techniques.filter((t) => !on.has(t.name) && `${t.name} ${t.title} ${t.mechanism.join(" ")}`.toLowerCase().includes(wanted));
  $("techniques").replaceChildren(...found.map((t) => make("li", {}, make("button", { type: "button", title: t.summary, on: { click: () => addTechnique(t.name) } }, t.name, make("small", {}, t.title)))));
}

function appliedBox(one) {
  const technique = known.techniques.find((t) => t.name === one.name);
  const drop = () => { dropTechnique(one.name); changed(); };
  const head = make("div", { class: "head" }, make("strong", {}, one.name), make("button", { type: "button", "aria-label": `Switch ${one.name} off`, on: { click: drop } }, "×"));
  const box = make("div", { class: "applied" }, head);
  if (!technique) return box;
  box.append(make("p", {}, `${technique.title}. ${technique.quality}`));
  const inputs = technique.parameters.map((p) => {
    const id = `apply-${one.name}-${p.name}`;
    const change = (event) => {
      current().apply = current().apply.map((text) => {
        const now = parsed(text);
        if (now.name !== one.name) return text;
        const value = event.target.value.trim();
        if (value && value !== String(p.default)) now.values[p.name] = value; else delete now.values[p.name];
        return said(now);
      });
      changed();
    };
    return make("div", { class: "field" }, make("label", { for: id, title: `${p.meaning}: ${p.range}` }, p.name), make("input", { id, value: one.values[p.name] ?? String(p.default), on: { change } }));
  });
  if (inputs.length) box.append(make("div", { class: "fields" }, ...inputs));
  return box;
}
