"""Claims as data: for each figure that a paper reports, the scenarios that it holds for (design §7).

``catalog/claims/*.toml`` holds no reported value: it says what to compute. What the paper reports stands in the papers'
catalogue and is joined only after the prediction is made, so that it cannot feed it.

    [[claim]]
    slug = "kivi"                       # row of the papers' catalogue
    index = 1                           # position in the row's claims; left out where the paper states no such figure
    quantity = "time_per_sample"        # what to compare, where the metric's usual one is not meant
    assumptions = [["A100 80 GB", "paper"], ["Llama-2 7B", "ordinary"]]
    [claim.baseline]
    model = "llama-2-7b"
    machine = "a100-sxm-80gb"
    task = { name = "decode", batch = "largest", context = 4096 }
    [claim.changed]                     # what differs from the baseline
    apply = ["kv-quantization:format=int2"]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import msgspec

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.evidence.claim_files import claim_files
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.huggingface import read_config
from ridgepoint.request import Request, sizes_of, to_scenario
from ridgepoint.scenario import Scenario, scenario
from ridgepoint.techniques.registry import applied

SOURCES = ("paper", "ordinary", "guess")
"""Where an assumption comes from: the paper as known, a well-known configuration, or a stated guess."""
LARGEST = "largest"


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario as a claim writes it; in ``changed`` only what differs from the baseline.

    ``config`` is a Hugging Face configuration for a model that the catalogue does not name. ``anew``: the techniques stand in
    place of the baseline's, not after them.
    """

    model: str = ""
    machine: str = ""
    config: dict[str, Any] = {}
    task: dict[str, Any] = {}
    plan: dict[str, Any] = {}
    apply: list[str] = []
    anew: bool = False


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A load and the devices that may serve it, in place of a scenario: what is compared is the hourly cost of the cheapest
    fleet. Lengths as in ``plan serve`` (``lognormal:1k``); ``machines`` are single devices, with prices of their own where the
    paper's differ from the catalogue's.
    """

    model: str
    machines: list[str]
    rate: float
    prompt: str
    output: str
    ttft_s: float | None = None
    tpot_s: float | None = None
    splits: bool = False
    requests: int = 2000


class Served(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deployment under a load, in place of a scenario: what is compared is the highest rate within goals, as the time (or
    the cost) of one request. ``slowdowns``: goals for ``ttft``, ``tpot`` and ``latency`` by percentile (``p90``), over what
    a request takes alone on ``reference``. ``reading``: machine that reads the prompts for ``machine``.
    ``chunked``: whether prompts are cut to the token budget.
    """

    model: str
    machine: str
    reference: str
    tp: int
    prompt: str
    output: str
    slowdowns: dict[str, dict[str, float]]
    prefill_replicas: int = 0
    reading: str = ""
    power_cap_w: float | None = None
    token_budget: int = 2048
    max_sequences: int = 512
    requests: int = 1000
    engine: str = "vllm"
    chunked: bool = True


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry. ``index`` is None for an effect that the paper does not put into a number.

    ``compare`` and ``unit`` override what the row's metric and unit mean. ``note`` explains a miss after it was seen.
    """

    slug: str
    baseline: Said = Said()
    changed: Said | None = None
    index: int | None = None
    metric: str = ""
    quantity: str = ""
    part: str = ""
    baseline_part: str = ""
    compare: str = ""
    unit: str = ""
    assumptions: list[tuple[str, str]] = []
    note: str = ""
    fleets: tuple[Fleet, Fleet] | None = None
    """Baseline and changed fleet, in place of scenarios."""
    served: tuple[Served, Served] | None = None
    """Baseline and changed deployment under load, in place of scenarios."""


@dataclass(frozen=True)
class Pair:
    """The two scenarios of a claim; without a change both are the same."""

    baseline: Scenario
    changed: Scenario
    said: Mapping[str, Any] = field(default_factory=dict)


@cache
def claims() -> tuple[Claim, ...]:
    """Every claim of the catalogue, file by file.

    Errors: ``bad_claim`` with the file and what is wrong.
    """
    return tuple(_read())


def _read() -> Iterator[Claim]:
    for file, entries in claim_files().items():
        try:
            found = msgspec.convert(entries, list[Claim])
        except msgspec.ValidationError as error:
            raise RidgepointError("bad_claim", f"{file}: {error}", "mend the entry") from None
        for claim in found:
            wrong = [source for _, source in claim.assumptions if source not in SOURCES]
            if wrong:
                hint = "use one of " + ", ".join(SOURCES)
                raise RidgepointError("bad_claim", f"{file}: {claim.slug}: assumption from '{wrong[0]}'", hint)
            yield claim


def pair(claim: Claim) -> Pair:
    """The scenarios of a claim.

    Errors: those of names, sizes, plans and techniques.
    """
    changed = merged(claim.baseline, claim.changed)
    before = as_scenario(claim.baseline)
    after = before if claim.changed is None else as_scenario(changed)
    return Pair(before, after, {"baseline": plain_said(claim.baseline), "changed": plain_said(changed)})


def merged(base: Said, change: Said | None) -> Said:
    """``base`` with what ``change`` says instead; its techniques come after the baseline's.

    A task of another name starts afresh.
    """
    if change is None:
        return base
    same = "name" not in change.task or change.task["name"] == base.task.get("name")
    other = bool(change.model or change.config)
    return Said(
        change.model if other else base.model,
        change.machine or base.machine,
        change.config if other else base.config,
        {**(base.task if same else {}), **change.task},
        {**base.plan, **change.plan},
        [*([] if change.anew else base.apply), *change.apply],
    )


def as_scenario(said: Said) -> Scenario:
    """The scenario that an entry says; a batch of ``largest`` is the largest that fits."""
    task = dict(said.task)
    name = task.pop("name", None)
    wanted = task.get("batch") == LARGEST
    if wanted:
        task["batch"] = 1
    own = set(sizes_of(name)) if name else set(task)
    inputs = {key: value for key, value in task.items() if key not in own}
    sizes = {key: value for key, value in task.items() if key in own}
    machine = said.machine
    request = Request(said.model, machine, name, sizes, said.plan, inputs, tuple(said.apply))
    found = _of_config(said, request) if said.config else to_scenario(request)
    return _with_largest_batch(found) if wanted else found


def _of_config(said: Said, request: Request) -> Scenario:
    """A scenario whose model is a configuration written in the claim."""
    name = said.model or str(said.config.get("model_type", "model"))
    model = read_config(said.config, name, name)
    stand_in = to_scenario(replace(request, model="llama-2-7b", apply=()))  # for the task and the plan alone
    found = scenario(model, find_machine(said.machine), stand_in.task, stand_in.plan)
    return applied(found, request.apply)


def _with_largest_batch(given: Scenario) -> Scenario:
    largest = Estimate(given).max_batch
    if not largest or largest < 1:
        raise RidgepointError(
            "does_not_fit", f"not even one sample of {given.model.name} fits {given.machine.name}", ""
        )
    return replace(given, task=replace(given.task, batch=float(largest)))


def plain_said(said: Said) -> dict[str, Any]:
    """A scenario as an entry writes it, without what it leaves out."""
    found = {name: getattr(said, name) for name in ("model", "machine", "config", "task", "plan", "apply")}
    return {name: value for name, value in found.items() if value}
