"""Rows of tuned submissions (MLPerf inference): the best layout that fits, on the benchmark's own requests.

A submission to a benchmark is tuned: layout, batch and formats are its own choice and not in the row. It is predicted as the
highest throughput over all the layouts that the fleet search knows (``serving/layouts.py``), in 8-bit floating point where the
machine computes in it, else with 4-bit weights, which is how published submissions meet the closed division's accuracy.
Replicas are independent, so that nodes and boards without a link between them serve side by side.

- Offline: all requests are there at the start; as many run as the cache holds, and nobody waits for a first token.
- Server: Poisson arrivals at the highest rate that keeps the benchmark's limits. They hold for the 99th percentile there and
  for means here.

Requests, limits: ``loadgen/mlperf.conf`` and the reference implementations of github.com/mlcommons/inference (``language/*``):
tokens per sample of the accuracy runs, latencies of the server scenario, width of the beam. Prompts of OpenOrca are not stated:
the set samples equally from four parts of FLAN, whose mean prompts Wang et al. 2023 (arXiv 2306.04751, table 1) give.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import msgspec
import numpy as np

from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures, with_formats
from ridgepoint.evidence.serve_rows import bound_of, decode_step, prefill_among_others, prefill_step, steady_figures
from ridgepoint.evidence.step_rows import stand_in
from ridgepoint.formats import FORMATS
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.catalog import find_model
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.plan import Plan
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.engines import engines
from ridgepoint.serving.loops import Pace, Steady, closed_loop, open_loop
from ridgepoint.serving.offers import Bucket, Offer, Space, offers_on
from ridgepoint.serving.operating import paces


@dataclass(frozen=True)
class Benchmark:
    """Mean tokens of its prompts and answers, limits of its server scenario, and sequences that a request decodes."""

    prompt: float
    output: float
    ttft_s: float | None
    tpot_s: float | None
    beams: float = 1.0


OPEN_ORCA = (266.0 + 291.1 + 2.0 * 355.7) / 4.0
"""Chain of thought, natural instructions, and FLAN twice (T0 is counted as FLAN): Llama tokens."""
GSM8K, MBXP = 662.0, 170.0
"""A problem after five solved ones, as the reference implementation prints one; a signature with its comment: assumed."""
NEWS = 781.0 + 45.0
"""An article of CNN / Daily Mail (See et al. 2017) behind the instruction of the reference implementation."""
BENCHMARKS = {
    "llama2-70b": Benchmark(OPEN_ORCA, 294.45, 2.0, 0.2),
    "llama2-70b-interactive": Benchmark(OPEN_ORCA, 294.45, 0.45, 0.04),
    "mixtral-8x7b": Benchmark((OPEN_ORCA + GSM8K + MBXP) / 3.0, 144.84, 2.0, 0.2),
    # 20 seconds for a whole summary.
    "gptj": Benchmark(NEWS, 69.0, None, 20.0 / 69.0, beams=4.0),
}
WIDER = 2.0
"""How much wider the interval is: lengths vary, prompts are assumed, and how well others tuned nobody knows."""


def tuned_figures(rows: Rows, model: Model | Network, machine: Machine) -> Figures:
    """Throughput of all replicas, and the latencies of one, at the best layout; ``machine`` is one device.

    Errors: ``InexpressibleError`` where the lengths of the benchmark's requests are not known, or nothing fits.
    """
    name = rows.tag("bench").removesuffix(".9").removesuffix("-99")
    if isinstance(model, Network) or name not in BENCHMARKS:
        raise InexpressibleError(f"lengths of the requests of benchmark '{name}' are not known")
    if rows.tag("scenario") not in _BEST:
        raise InexpressibleError(f"scenario '{rows.tag('scenario')}' of a tuned submission is not modelled")
    each = [_row(rows, int(i), BENCHMARKS[name], model, machine) for i in rows.index]
    return {
        metric: Figure(*(np.array([getattr(found[metric], part) for found in each], dtype=float) for part in _PARTS))
        for metric in each[0]
    }


_PARTS = ("value", "roofline", "spread")


def _row(rows: Rows, place: int, asked: Benchmark, model: Model, machine: Machine) -> Figures:
    plan, names = Plan(), ("fp8+kv8",) if FORMATS[machine.arithmetic("fp8").format].bits == 8 else ("int4",)
    if rows.text("precision"):
        plan, names = with_formats(plan, rows, model, machine), ("given",)
    engine = stated_engine(rows.table.extra[place]) or stand_in("serve", "")
    best: tuple[float, Offer, Steady] | None = None
    one = Rows(rows.table, np.array([place]))
    devices, nodes = (float(one.number(column, 1.0)[0]) for column in ("devices", "nodes"))
    for offer, pace in _ways(model.name, machine.name, asked, plan, names, engine):
        replicas = np.floor(devices / nodes / offer.devices) * nodes
        found = _BEST[rows.tag("scenario")](pace, asked)
        if found is not None and replicas and (best is None or replicas * found.requests_per_s > best[0]):
            best = float(replicas * found.requests_per_s), offer, found
    if best is None:
        raise InexpressibleError("no layout of the model fits the machine within the benchmark's limits")
    return _figures(best[1], best[2], asked, best[0] / float(best[2].requests_per_s))


def stated_engine(extra: dict[str, object]) -> str:
    """The engine that a submission names, among its software or in its platform; empty where it names none.

    >>> stated_engine({"software": "TensorRT 10.2.0"}), stated_engine({"software": "vLLM 0.5.2"}), stated_engine({})
    ('trtllm', 'vllm', '')
    """
    said = f"{extra.get('software', '')} {extra.get('platform', '')}".lower()
    return next((engine for word, engine in _SAID.items() if word in said), "")


_SAID = {"tensorrt": "trtllm", "_trt": "trtllm", "vllm": "vllm", "sglang": "sglang"}


@cache
def _ways(
    model: str, machine: str, asked: Benchmark, plan: Plan, names: tuple[str, ...], engine: str
) -> list[tuple[Offer, Pace]]:
    """Every layout of a replica that fits, and how fast it steps for requests of that many sequences."""
    size = (asked.prompt, asked.output)
    offers, _ = offers_on(
        find_model(model), find_machine(machine), (Bucket(1.0, *size),), Space(plan, engine, names, splits=False)
    )
    timed = ((offer, _pace(offer.deployment, asked)) for offer in offers)
    return [(offer, pace) for offer, pace in timed if pace is not None]


def _pace(given: Deployment, asked: Benchmark) -> Pace | None:
    """Step times of a replica that is called from the same process: nothing between it and LoadGen delays tokens."""
    whole, shared = paces(given, [(asked.prompt, asked.output), (asked.prompt / asked.beams, asked.output)])
    if whole is None or shared is None:
        return None
    whole = replace(whole, engine=msgspec.structs.replace(whole.engine, lag=0.0, request_s=0.0))
    return whole if asked.beams == 1.0 else _of_beams(whole, given, asked, shared.capacity)


def _of_beams(whole: Pace, given: Deployment, asked: Benchmark, sequences: float) -> Pace:
    """Sequences of a beam keep one copy of the prompt, in shared blocks of the cache, and each reads it for itself."""
    count = np.unique(np.rint(np.geomspace(asked.beams, max(sequences, asked.beams), len(whole.concurrency))))
    context = asked.prompt + asked.output / 2.0
    decode = decode_step(given.model, given.machine, given.plan, engines()[given.engine], count, context).seconds
    first, further = (np.interp(count, whole.concurrency, seconds) for seconds in (whole.prompt_s, whole.further_s))
    return replace(
        whole,
        concurrency=count / asked.beams,
        decode_s=np.asarray(decode),
        prompt_s=first,
        further_s=further,
        capacity=float(count[-1]) / asked.beams,
    )


def _offline(pace: Pace, asked: Benchmark) -> Steady:
    found = closed_loop(pace, np.array([pace.capacity]))
    return Steady(
        *(_one(getattr(found, name)) for name in ("running", "ttft_s", "tpot_s", "service_s", "wait_s", "output"))
    )


def _server(pace: Pace, asked: Benchmark) -> Steady | None:
    curve = open_loop(pace)
    rate = curve.most_within(asked.ttft_s, asked.tpot_s)
    met = curve.at(rate) if rate > 0.0 else None
    if met is None:
        return None
    service = met[0] + (asked.output - 1.0) * met[1]
    return Steady(rate * service, *met, service, 0.0, asked.output)


_BEST = {"offline": _offline, "server": _server}


def _one(value: Num) -> float:
    return float(np.asarray(value).ravel()[0])


def _figures(offer: Offer, found: Steady, asked: Benchmark, replicas: float) -> Figures:
    given = offer.deployment
    run = given.model, given.machine, given.plan, engines()[given.engine]
    each = decode_step(*run, found.running * asked.beams, asked.prompt + asked.output / 2.0)
    first = prefill_step(*run, asked.prompt)
    among = prefill_among_others(*run, asked.prompt, asked.output, found.running)
    of_replica = steady_figures(given.machine, found, bound_of(found, each, first, among), each, among)
    return {
        metric: Figure(figure.value * times, figure.roofline * times, figure.spread * WIDER)
        for metric, figure in of_replica.items()
        for times in (replicas if metric in _SUMMED else 1.0,)
    }


_SUMMED = ("throughput_tok_s", "throughput_samples_s", "power_w")
