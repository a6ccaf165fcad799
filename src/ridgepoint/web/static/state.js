// Scenarios, and how a link holds them. The part after # is not sent to any server.
//   #model=…&on=8xh100-sxm&task=decode&batch=32&plan.tp=8&input.nodes=1000&apply=…~model=…      one part per scenario
//   the first part may say view=… (the tab), active=… (the scenario that is shown) and serve.rate=… (what a simulation serves)

export const MOST = 4;
export const FIRST = { model: "llama-3.1-8b", machine: "h100-sxm", task: "decode", sizes: { batch: "32", context: "8192" }, inputs: {}, plan: {}, apply: [], config: null };
// What arrives at a simulated deployment.
export const LOAD = { rate: "4", prompt: "1024", output: "256", spread: "lognormal", arrivals: "poisson", requests: "1000", engine: "vllm", ttft: "500ms", tpot: "50ms", seed: "0" };

export const state = { scenarios: [copy(FIRST)], active: 0, view: "result", load: { ...LOAD } };

export const current = () => state.scenarios[state.active];

export function copy(scenario) {
  return structuredClone(scenario);
}

// The body that the interface takes.
export function body(scenario) {
  const name = scenario.model || "pasted";
  const task = { name: scenario.task, ...scenario.sizes };
  if (Object.keys(scenario.inputs).length) task.inputs = scenario.inputs;
  return { model: scenario.config ? { config: scenario.config, name } : scenario.model, machine: scenario.machine, task, plan: plain(scenario.plan), apply: scenario.apply };
}

// Flags are kept as text, as a link holds them.
function plain(plan) {
  return Object.fromEntries(Object.entries(plan).map(([key, value]) => [key, value === "true" ? true : value === "false" ? false : value]));
}

function part(scenario) {
  const said = new URLSearchParams();
  said.set("model", scenario.model);
  said.set("on", scenario.machine);
  said.set("task", scenario.task);
  for (const [key, value] of Object.entries(scenario.sizes)) said.set(key, value);
  for (const [key, value] of Object.entries(scenario.inputs)) said.set(`input.${key}`, value);
  for (const [key, value] of Object.entries(scenario.plan)) said.set(`plan.${key}`, value);
  for (const technique of scenario.apply) said.append("apply", technique);
  if (scenario.config) said.set("config", JSON.stringify(scenario.config));
  return said;
}

export function link() {
  const parts = state.scenarios.map(part);
  if (state.view !== "result") parts[0].set("view", state.view);
  if (state.active) parts[0].set("active", state.active);
  for (const [key, value] of Object.entries(state.load)) if (value !== LOAD[key]) parts[0].set(`serve.${key}`, value);
  return "#" + parts.map((said) => said.toString()).join("~");
}

function read(text) {
  const found = { ...copy(FIRST), sizes: {}, apply: [] };
  for (const [key, value] of new URLSearchParams(text)) {
    if (key === "model") found.model = value;
    else if (key === "on") found.machine = value;
    else if (key === "task") found.task = value;
    else if (key === "apply") found.apply.push(value);
    else if (key === "config") try { found.config = JSON.parse(value); } catch { /* the name alone is left */ }
    else if (key.startsWith("input.")) found.inputs[key.slice(6)] = value;
    else if (key.startsWith("plan.")) found.plan[key.slice(5)] = value;
    else if (key !== "view" && key !== "active" && !key.startsWith("serve.")) found.sizes[key] = value;
  }
  return found;
}

export function load(hash) {
  const text = hash.replace(/^#/, "");
  if (!text.includes("=")) return;
  const parts = text.split("~").slice(0, MOST);
  const first = new URLSearchParams(parts[0]);
  state.scenarios = parts.map(read);
  state.view = first.get("view") || "result";
  state.load = Object.fromEntries(Object.entries(LOAD).map(([key, usual]) => [key, first.get(`serve.${key}`) ?? usual]));
  state.active = Math.min(Math.max(Number(first.get("active")) || 0, 0), parts.length - 1);
}

// A machine's name: how many, which, and what is changed: 8x h100-sxm @ bandwidth=4.8T
export function splitMachine(name) {
  const [, count, rest] = /^(?:(\d+(?:[x×]\d+)?)[x×])?(.*)$/s.exec(name);
  const custom = rest === "custom" || rest.startsWith("custom:");
  const at = custom ? rest.indexOf(":") : rest.indexOf("@");
  const base = at < 0 ? rest : rest.slice(0, at);
  const pairs = at < 0 ? [] : rest.slice(at + 1).split(",").map((pair) => pair.split("=").map((side) => side.trim()));
  return { count: count || "1", base, custom, figures: Object.fromEntries(pairs.filter((pair) => pair.length === 2)) };
}

export function joinMachine({ count, base, custom, figures }) {
  const said = Object.entries(figures).map(([key, value]) => `${key}=${value}`).join(",");
  return (count && count !== "1" ? `${count}x` : "") + base + (said ? (custom ? ":" : "@") + said : "");
}
