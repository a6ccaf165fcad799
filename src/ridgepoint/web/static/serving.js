// Serving: what arrives, asked of the scenario's model and machine; a simulation on the server, drawn by it.

import { latest, later } from "./ask.js";
import { make, slider, amount } from "./form.js";
import { body, current, state } from "./state.js";
import { failed, fill } from "./views.js";

const $ = (id) => document.getElementById(id);
const ask = latest("/api/simulate");
const SPREADS = [["lognormal", "log-normal"], ["exponential", "exponential"], ["fixed", "all equal"]];
const ARRIVALS = [["poisson", "Poisson"], ["bursty:2", "in bursts"], ["even", "even"]];
const COUNTS = ["200", "1000", "2000", "5000"];
const ENGINES = ["vllm", "sglang", "trtllm"];
const soon = later(250, () => showServing());

// The body that the interface takes; the scenario's task does not matter here.
export function serveBody() {
  const { model, machine, plan, apply } = body(current());
  const load = state.load;
  const shaped = (tokens) => (load.spread === "fixed" ? tokens : `${load.spread}:${tokens}`);
  return {
    model, machine, plan, apply, engine: load.engine,
    load: { rate: load.rate, prompt: shaped(load.prompt), output: shaped(load.output), arrivals: load.arrivals, requests: load.requests, seed: load.seed },
    goals: { ttft: load.ttft, tpot: load.tpot },
  };
}

export function setUpServing(changed) {
  const put = (name, value) => { state.load[name] = value; changed(); soon(); };
  const range = (name, words, ends, tidy) => slider(`load-${name}`, words, state.load[name], ends, amount, (typed) => {
    const said = typeof typed === "number" ? String(tidy(typed)) : typed;
    put(name, said);
    return said;
  });
  const tokens = (name, words) => range(name, words, [0, 15], (value) => Math.max(1, Math.round(value)));
  const choice = (name, words, options) => make("div", { class: "field" }, make("label", { for: `load-${name}` }, words),
    make("select", { id: `load-${name}`, on: { change: (event) => put(name, event.target.value) } },
      ...withOwn(options, state.load[name]).map(([value, text]) => make("option", { value, selected: value === state.load[name] }, text))));
  const text = (name, words, placeholder) => make("div", { class: "field" }, make("label", { for: `load-${name}` }, words),
    make("input", { id: `load-${name}`, value: state.load[name], placeholder, spellcheck: "false", on: { change: (event) => put(name, event.target.value.trim()) } }));
  $("load").replaceChildren(
    make("div", { class: "loads" }, range("rate", "requests per second", [-4, 10], (value) => Number(value.toPrecision(2))), tokens("prompt", "prompt tokens, mean"), tokens("output", "output tokens, mean")),
    make("div", { class: "fields six" },
      choice("spread", "lengths", SPREADS), choice("arrivals", "arrivals", ARRIVALS), choice("requests", "simulated", COUNTS.map((n) => [n, Number(n).toLocaleString("en")])),
      choice("engine", "engine", ENGINES.map((name) => [name, name])), text("ttft", "first token within", "500ms"), text("tpot", "each further within", "50ms")),
  );
}

// A link may say what the list does not offer.
const withOwn = (options, value) => (options.some(([known]) => known === value) ? options : [[value, value], ...options]);

export async function showServing() {
  const box = $("serving");
  box.classList.add("stale");
  if (!box.childElementCount) box.replaceChildren(make("p", { class: "busy" }, `Simulating ${Number(state.load.requests).toLocaleString("en")} requests …`));
  try {
    const found = await ask({ ...serveBody(), view: true });
    const { verdict, facts, charts, grounds } = found.view;
    fill(box, `${verdict}<p class="about"></p>${facts}${charts}${grounds}`);
    box.querySelector("p.about").textContent = found.view.subjects;
    $("command-serving").textContent = found.command;
    box.classList.remove("stale");
  } catch (error) {
    if (error.name === "AbortError") return;
    box.classList.remove("stale");
    $("command-serving").textContent = "";
    failed(box)(error);
  }
}
