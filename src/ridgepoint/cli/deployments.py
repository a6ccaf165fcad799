"""The options that say a deployment: model, machine, formats and layout as everywhere, engine and scheduler besides."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgepoint.cli.numbers import whole_number
from ridgepoint.cli.options import FORMATS, LAYOUT, SETTINGS, filled, parameter, subjects
from ridgepoint.cli.panels import valued
from ridgepoint.errors import RidgepointError
from ridgepoint.plan import Plan
from ridgepoint.request import Request, to_scenario
from ridgepoint.scenario_file import read_request
from ridgepoint.units import parse_quantity

ENGINE = "Engine"
PLAN = tuple(s for s in SETTINGS if s.panel in (FORMATS, LAYOUT) or s.field == "memory_fraction")


@dataclass(frozen=True)
class Own:
    """One option of a deployment: its parameter, its words, what to say about it."""

    name: str
    words: str
    metavar: str
    help: str


OWN = (
    Own("engine", "--engine", "NAME", "vllm, sglang or trtllm: host times, scheduler, admission"),
    Own("policy", "--policy", "NAME", "mixed, prefill_first or static, in place of the engine's"),
    Own("token_budget", "--token-budget", "N", "tokens of one step"),
    Own("max_sequences", "--max-sequences", "N", "sequences that a replica runs at once"),
    Own("max_waiting", "--max-waiting", "N", "requests that may wait on a replica; further ones are refused"),
    Own("shed_after", "--shed-after", "TIME", "requests that waited that long without being begun are dropped"),
    Own("static_batch", "--static-batch", "N", "requests of a static batch"),
    Own("routing", "--routing", "NAME", "least_loaded, round_robin, power_of_two or prefix_aware"),
    Own("prefill_replicas", "--prefill-replicas", "N", "replicas that only read prompts (disaggregation)"),
    Own("prefill_on", "--prefill-on", "MACHINE", "read prompts on these devices, decode on those of --on"),
    Own("prefill_tp", "--prefill-tp", "N", "tensor parallel degree of those"),
    Own(
        "prefill_power_cap",
        "--prefill-power-cap",
        "W",
        "power limit of each of those; --power-cap is for --on alone then",
    ),
    Own("mixed_replicas", "--mixed-replicas", "N", "replicas beside those that do both when they are full"),
    Own("sharing", "--sharing", "P", "part of each device's multiprocessors that reads prompts while the rest decodes"),
    Own(
        "speculate",
        "--speculate",
        "N:P[,P…][:MODEL]",
        "N drafted tokens, each accepted with probability P (or of its own), by a draft MODEL",
    ),
    Own("imbalance", "--expert-imbalance", "F", "tokens of the busiest expert rank over the mean (what chance gives)"),
    Own("host_cache", "--host-cache", "SIZE", "host memory per replica for evicted prefixes"),
    Own("disk_cache", "--disk-cache", "SIZE", "storage per replica for what falls out of host memory"),
    Own("adapters", "--adapters", "N[:RANK:SLOTS:SKEW]", "N low-rank adapters that requests name, SLOTS on a replica"),
    Own("power_cap", "--power-cap", "W", "power limit per device"),
    Own("power_budget", "--power-budget", "W[:LOW]", "of all devices; LOW replicas of low priority slow down first"),
    Own("failures", "--failures", "MTBF[:REPAIR]", "time between failures of a device, and until its replica is back"),
    Own("autoscale", "--autoscale", "N[:LEAST:START]", "N requests per replica; START until a new one serves"),
)
SWITCHES = (
    Own("prefix_cache", "--prefix-cache/--no-prefix-cache", "", "keep prefixes for later"),
    Own("chunked", "--chunked-prefill/--no-chunked-prefill", "", "cut prompts to the token budget of a step"),
)
CONDITIONS = ("host_cache", "disk_cache", "adapters", "power_budget", "failures", "autoscale", "sharing")


def takes_deployment(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter ``given`` is filled with a ``Deployment`` of what was said; its own options follow."""
    shared = [*subjects(), *(parameter(s) for s in PLAN), *(_parameter(o) for o in OWN), *map(_switch, SWITCHES)]
    return filled(command, shared, "given", _deployment)


def _parameter(own: Own) -> inspect.Parameter:
    kind = Annotated[str | None, valued(own.words, own.metavar, own.help, ENGINE)]
    return inspect.Parameter(own.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _switch(own: Own) -> inspect.Parameter:
    flag = typer.Option(own.words, help=own.help, rich_help_panel=ENGINE)
    return inspect.Parameter(own.name, inspect.Parameter.KEYWORD_ONLY, default=True, annotation=Annotated[bool, flag])


def plan_request(values: dict[str, Any]) -> Request:
    """Model, machine and plan of what was said, over a scenario file where one is given."""
    given = [(s, v) for s in PLAN if (v := values[s.parameter]) is not None]
    plan = {s.field: v for s, v in given}
    said = {s.field: s.words.partition("/")[0] for s, _ in given}
    typed = Request(values["model"], values["machine"], plan=plan, said=said)
    if values["model"].endswith(".toml"):
        typed = replace(typed, model=None).over(read_request(Path(values["model"])))
    return replace(typed, task="decode", sizes={}, inputs={})


def _deployment(values: dict[str, Any]) -> Any:
    from ridgepoint.cli.conditions import conditions
    from ridgepoint.serving.deployment import deployment

    asked = to_scenario(plan_request(values))
    if values["imbalance"] is not None:
        asked = replace(asked, plan=replace(asked.plan, expert_imbalance=_factor(values["imbalance"])))
    engine = values["engine"] or "vllm"
    first = deployment(asked.model, asked.machine, asked.plan, engine)  # type: ignore[arg-type]
    if values["static_batch"] is not None and (values["policy"] or first.rules.policy) != "static":
        raise RidgepointError("bad_usage", "--static-batch says nothing without static batches", "add --policy static")
    more = conditions({name: values[name] for name in CONDITIONS})
    reading = _reading(values, first.model, asked.plan, engine, more)
    return deployment(
        first.model,
        asked.machine,
        asked.plan,
        engine,
        scheduling=replace(first.rules, **_rules(values)),
        speculation=_speculation(values["speculate"]),
        routing=values["routing"] or "least_loaded",
        prefill_replicas=whole(values, "prefill_replicas", 0),
        power_cap_w=_watts(values["power_cap"]),
        mixed_replicas=whole(values, "mixed_replicas", 0),
        **more if reading is None else {**more, "reading": reading},
    )


def _reading(values: dict[str, Any], model: Any, plan: Plan, engine: str, more: dict[str, Any]) -> Any:
    """The replicas on other devices that read prompts, where ``--prefill-on`` names some."""
    from ridgepoint.serving.deployment import deployment

    machine = values["prefill_on"]
    if machine is None:
        lone = next(
            (o for o in OWN if o.name in ("prefill_tp", "prefill_power_cap") and values[o.name] is not None), None
        )
        if lone is not None:
            raise RidgepointError(
                "bad_usage", f"{lone.words} says nothing without other devices", "add --prefill-on MACHINE"
            )
        return None
    degree = values["prefill_tp"]
    own = replace(plan, dp=None, tp=plan.tp if degree is None else float(whole(values, "prefill_tp")))
    first = deployment(model, machine, own, engine)
    return deployment(
        model,
        machine,
        own,
        engine,
        scheduling=replace(first.rules, **_rules(values)),
        power_cap_w=_watts(values["prefill_power_cap"]),
        **{name: value for name, value in more.items() if name == "tiers"},
    )


def _watts(text: str | None) -> float | None:
    return None if text is None else parse_quantity(text, "W")


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RidgepointError("bad_option", f"--expert-imbalance is '{text}'", "give a factor of at least 1") from None


def _rules(values: dict[str, Any]) -> dict[str, Any]:
    counts = ("token_budget", "max_sequences", "max_waiting", "static_batch")
    found: dict[str, Any] = {name: whole(values, name) for name in counts if values[name] is not None}
    if values["policy"] is not None:
        found["policy"] = values["policy"]
    if values["shed_after"] is not None:
        found["shed_after_s"] = parse_quantity(values["shed_after"], "s")
    return found | {own.name: values[own.name] for own in SWITCHES}


def whole(values: dict[str, Any], name: str, default: int = 0) -> int:
    """The count that an option says."""
    if values[name] is None:
        return default
    return whole_number(next(own.words for own in OWN if own.name == name), values[name], least=0)


def _speculation(text: str | None) -> Any:
    """What ``--speculate N:P[,P…][:MODEL]`` says."""
    from ridgepoint.serving.scheduling import Speculation

    if text is None:
        return None
    parts = text.split(":")
    try:
        rates = [float(rate) for rate in parts[1].split(",")]
        return Speculation.by_position(int(parts[0]), rates, parts[2] if len(parts) > 2 else None)
    except (ValueError, IndexError):
        raise RidgepointError(
            "bad_option", f"--speculate is '{text}'", "write it like 4:0.7 or 4:0.7:llama-3.2-1b"
        ) from None
