"""What the page can ask about serving: a simulation of requests, bounded in size."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.report.html import facts
from ridgepoint.report.html_simulation import body as sections
from ridgepoint.report.html_simulation import grounds, simulation_page, verdict_html
from ridgepoint.report.simulation import facts as fact_rows
from ridgepoint.report.simulation import subjects
from ridgepoint.request import Request
from ridgepoint.serving.deployment import Deployment, deployment
from ridgepoint.serving.engines import servers
from ridgepoint.serving.outcome import Outcome, Slo
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.summary import document
from ridgepoint.serving.workload import Requests, client_requests, poisson_requests
from ridgepoint.units import parse_count, parse_quantity
from ridgepoint.web.commands import command
from ridgepoint.web.scenarios import KEYS, LONGEST_NAME, Asked, bad, read_scenario, table

Body = Mapping[str, Any]
LOAD = ("rate", "concurrency", "prompt", "output", "arrivals", "requests", "seed")
GOALS = ("ttft", "tpot", "latency")
PLAN = ("weights", "acts", "kv", "tp", "pp", "dp", "ep", "cp", "memory_fraction")
"""Fields of a plan that a deployment takes, those of ``ridgepoint simulate``."""
MOST_REQUESTS, MOST_REPLICAS, LONGEST_REQUEST, MOST_TOKENS = 5_000, 64, 2**20, 5e7
"""What one request may simulate."""
AT_ONCE = 2
"""Simulations that run at the same time; others wait ``PATIENCE_S`` and are then refused."""
PATIENCE_S = 20.0
_SLOTS = threading.BoundedSemaphore(AT_ONCE)
USUAL = {
    "rate": "4",
    "prompt": "lognormal:1k",
    "output": "lognormal:256",
    "arrivals": "poisson",
    "requests": "1000",
    "seed": "0",
}


@dataclass(frozen=True)
class Question:
    """A deployment, what arrives at it, what it should keep, and the same on the command line."""

    given: Deployment
    load: Requests
    goals: Slo
    seed: int
    command: str

    def run(self) -> Outcome:
        """The simulation, when a slot is free.

        Errors: ``busy`` where none gets free in time.
        """
        if not _SLOTS.acquire(timeout=PATIENCE_S):
            raise RidgepointError("busy", f"{AT_ONCE} simulations are running", "ask again when they are done")
        try:
            return simulate_requests(self.given, self.load, self.goals, self.seed)
        finally:
            _SLOTS.release()


def simulate(body: Body) -> dict[str, Any]:
    """Serve requests one by one: the document of ``simulate --json``, the command, and its report where ``view`` is true.

    The scenario's task is not looked at; techniques are refused.
    """
    asked = _question(body)
    found = asked.run()
    view = {"view": _view(found)} if body.get("view") else {}
    return {**document(found), "command": asked.command, **view}


def simulation(body: Body) -> str:
    """The report of ``simulate --html``."""
    asked = _question(body)
    return simulation_page(asked.run(), asked.command)


def _view(found: Outcome) -> dict[str, str]:
    return {
        "verdict": verdict_html(found),
        "subjects": " · ".join(subjects(found)),
        "facts": facts(fact_rows(found)),
        "charts": "".join(sections(found)),
        "grounds": "".join(grounds(found)),
    }


def _question(body: Body) -> Question:
    given = table(body, "the body", (*KEYS, "load", "goals", "engine", "view"))
    asked = read_scenario({key: value for key, value in given.items() if key in KEYS})
    engine = given.get("engine", "vllm")
    if not isinstance(engine, str) or engine not in servers():
        raise bad(f"engine is '{str(engine)[:40]}'", "use one of " + ", ".join(servers()))
    load = USUAL | _texts(given.get("load", {}), "load", LOAD)
    goals = _texts(given.get("goals", {}), "goals", GOALS)
    served = _deployment(asked, engine)
    slo = Slo(*(_seconds(goals.get(name), f"goals.{name}") for name in GOALS))
    seed = _whole(load, "seed", 2**31)
    said = _command(asked.request, load, goals, engine)
    return Question(served, _requests(load, seed), slo, seed, said)


def _deployment(asked: Asked, engine: str) -> Deployment:
    request = asked.request
    if request.apply:
        names = ", ".join(text.partition(":")[0] for text in request.apply)
        raise bad(f"a simulation takes no techniques, and {names} is on", "switch it off, or say formats in the plan")
    for name in request.plan:
        if name not in PLAN:
            raise bad(f"a simulation takes no plan.{name}", "leave it at its default; it takes " + ", ".join(PLAN))
    bare = replace(request, task="decode", sizes={}, inputs={})
    scenario = asked.resolve(bare)
    found = deployment(scenario.model, scenario.machine, scenario.plan, engine)  # type: ignore[arg-type]
    if found.replicas > MOST_REPLICAS:
        raise bad(
            f"{found.replicas} replicas", f"simulate at most {MOST_REPLICAS} here; ridgepoint simulate takes more"
        )
    return found


def _requests(load: Mapping[str, str], seed: int) -> Requests:
    count = _whole(load, "requests", MOST_REQUESTS)
    lengths = (load["prompt"], load["output"])
    if "concurrency" in load:
        clients = _whole(load, "concurrency", MOST_REQUESTS)
        found = client_requests(clients, max(count, clients), *lengths, seed)
    else:
        found = poisson_requests(_rate(load["rate"]), count, *lengths, load["arrivals"], seed)
    total = (found.prompt + found.output).astype(np.float64)
    if total.max() > LONGEST_REQUEST or total.sum() > MOST_TOKENS:
        asks = f"{total.sum():,.0f} tokens in all, up to {total.max():,.0f} in a request"
        raise bad(asks, f"ask for at most {MOST_TOKENS:,.0f} and {LONGEST_REQUEST:,}")
    return found


def _texts(value: object, where: str, known: tuple[str, ...]) -> dict[str, str]:
    """Values as text; what is empty is not said."""
    found = {}
    for name, said in table(value, where, known).items():
        if isinstance(said, bool) or not isinstance(said, str | int | float) or len(str(said)) > LONGEST_NAME:
            raise bad(f"{where}.{name} is no value", "write one number or one short text")
        if str(said).strip():
            found[name] = str(said).strip()
    return found


def _rate(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.0 < found < 1e6:
        raise bad(f"load.rate is '{text[:40]}'", "write requests per second, like 4")
    return found


def _whole(load: Mapping[str, str], name: str, most: int) -> int:
    found = parse_count(load[name])
    least = 0 if name == "seed" else 1
    if found != int(found) or not least <= found <= most:
        raise bad(f"load.{name} is '{load[name][:40]}'", f"write a whole number from {least} to {most:,}")
    return int(found)


def _seconds(text: str | None, where: str) -> float | None:
    if text is None:
        return None
    found = parse_quantity(text, "s")
    if found <= 0.0:
        raise bad(f"{where} is '{text[:40]}'", "write a time, like 500ms")
    return found


def _command(request: Request, load: Mapping[str, str], goals: Mapping[str, str], engine: str) -> str:
    """The same with ``ridgepoint simulate``."""
    words = [part for name in LOAD for part in (f"--{name}", load.get(name, ""))]
    if "concurrency" in load:
        for name in ("--rate", "--arrivals"):
            words[words.index(name) + 1] = ""
    words += [part for name in GOALS for part in (f"--{name}", goals.get(name, ""))]
    bare = replace(request, task=None, sizes={}, inputs={}, apply=())
    return command("simulate", bare, "--engine", engine if engine != "vllm" else "", *words)
