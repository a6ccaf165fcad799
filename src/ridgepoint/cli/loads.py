"""What arrives: a trace, requests at a rate, conversations or clients that wait, and which options belong to which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ridgepoint.cli.numbers import per_second, whole_number
from ridgepoint.cli.panels import valued
from ridgepoint.errors import RidgepointError
from ridgepoint.units import parse_quantity

if TYPE_CHECKING:
    from ridgepoint.serving.workload import Requests

LOAD = "Load"
Trace = Annotated[Path | None, valued("--trace", "FILE", "arrivals and lengths: arrival_s,input_tokens,…", LOAD)]
Rate = Annotated[str | None, valued("--rate", "R", "requests per second; with --trace its gaps are scaled", LOAD)]
Prompt = Annotated[
    str | None, valued("--prompt", "LENGTH", "1k, lognormal:1k:0.8, uniform:128:2k … (lognormal:1k)", LOAD)
]
Output = Annotated[str | None, valued("--output", "LENGTH", "as --prompt (lognormal:256)", LOAD)]
Arrivals = Annotated[
    str | None, valued("--arrivals", "KIND", "poisson, even, bursty:CV or diurnal:DEPTH:PERIOD (poisson)", LOAD)
]
Seed = Annotated[int, valued("--seed", "N", "of everything drawn", LOAD)]
DEFAULT_REQUESTS = 2000
_LENGTHS = ("--prompt", "--output")
TAKES: dict[str, tuple[str, ...]] = {
    "--trace": ("--rate", "--hash-tokens"),
    "--turns": ("--rate", *_LENGTHS, "--think", "--system"),
    "--concurrency": _LENGTHS,
    "--rate": (*_LENGTHS, "--arrivals"),
}
"""What says the load, first that is given → options that say more about it."""
_USUAL: dict[str, Any] = {
    "--prompt": "lognormal:1k",
    "--output": "lognormal:256",
    "--arrivals": "poisson",
    "--think": "10s",
    "--system": "0",
    "--hash-tokens": 512,
}


def kind_of(said: Mapping[str, Any]) -> str:
    """Which option says the load: ``said`` holds the values by option, None where one is left out.

    >>> kind_of({"--rate": "10", "--trace": None})
    '--rate'

    Errors: ``bad_usage`` where none or two of them do, and for options that say nothing about it.
    """
    given = [option for option, value in said.items() if value is not None]
    kind = next((option for option in TAKES if option in given), None)
    both = ("--rate" in given, "--concurrency" in given)
    if kind is None or (kind == "--concurrency" and all(both)):
        raise RidgepointError(
            "bad_usage", "say what arrives: one of --trace, --rate and --concurrency", "add --trace FILE or --rate 10"
        )
    for option in given:
        if option != kind and option not in TAKES[kind]:
            homes = " or ".join(home for home, options in TAKES.items() if option in options)
            hint = f"it belongs to {homes}" if homes else f"leave out one of {kind} and {option}"
            raise RidgepointError("bad_usage", f"{option} says nothing about a load of {kind}", hint)
    if kind == "--turns" and "--rate" not in given:
        raise RidgepointError("bad_usage", "--turns needs a rate of conversations", "add --rate R")
    return kind


def load_of(said: Mapping[str, Any], count: int | None, seed: int) -> Requests:
    """The requests that options say: ``count`` of them (by default all of a trace, else 2,000 or ten of each client)."""
    from ridgepoint.serving.workload import client_requests, poisson_requests, session_requests

    kind = kind_of(said)
    value: dict[str, Any] = {**_USUAL, **{name: v for name, v in said.items() if v is not None}}
    if kind == "--trace":
        return traced(value["--trace"], value.get("--rate"), count, value["--hash-tokens"])
    lengths = (value["--prompt"], value["--output"])
    if kind == "--turns":
        shared, pause = whole_number("--system", value["--system"], least=0), parse_quantity(value["--think"], "s")
        many = count or DEFAULT_REQUESTS
        if not value["--turns"] >= 1.0:
            raise RidgepointError(
                "bad_option", f"--turns is {value['--turns']:g}", "a conversation has at least 1 turn"
            )
        return session_requests(per_second(value["--rate"]), many, *lengths, value["--turns"], pause, seed, shared)
    if kind == "--rate":
        return poisson_requests(
            per_second(value["--rate"]), count or DEFAULT_REQUESTS, *lengths, value["--arrivals"], seed
        )
    clients = whole_number("--concurrency", value["--concurrency"])
    return client_requests(clients, count or max(DEFAULT_REQUESTS, 10 * clients), *lengths, seed)


def traced(path: Path, rate: str | None, count: int | None, hashed: int = 512) -> Requests:
    """The first requests of a trace, at another rate where one is given."""
    from ridgepoint.serving.trace_file import read_trace

    found = read_trace(path, hashed)
    found = found if count is None else found.first(count)
    return found if rate is None else found.at_rate(per_second(rate))
