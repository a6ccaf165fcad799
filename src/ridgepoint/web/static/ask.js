// Questions to the interface: JSON in, JSON or text out. What is wrong is thrown as Wrong, with the message and what to do.

export class Wrong extends Error {
  constructor(error) {
    super(error.message);
    this.kind = error.kind;
    this.hint = error.hint || "";
  }
}

const unreachable = { kind: "unreachable", message: "the program behind this page does not answer", hint: "start `ridgepoint serve` again" };

async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Wrong(unreachable);
  }
  if (response.ok) return response;
  let body = {};
  try { body = await response.json(); } catch { /* said below */ }
  throw new Wrong(body.error || unreachable);
}

export async function get(path) {
  return (await answered(path)).json();
}

export async function post(path, body, signal) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal };
  const response = await answered(path, options);
  return (response.headers.get("content-type") || "").startsWith("application/json") ? response.json() : response.text();
}

// A question that is asked again and again: only the last one is answered.
export function latest(path) {
  let running = null;
  return async (body) => {
    running?.abort();
    running = new AbortController();
    return post(path, body, running.signal);
  };
}

export function later(milliseconds, action) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}
