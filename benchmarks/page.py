"""How fast the local page is answered, and how large a report is: what makes sliders feel alive."""

from typing import Any

import ridgepoint as rp
from benchmarks.estimates import best_of
from benchmarks.registry import benchmark
from ridgepoint.report.html_estimate import estimate_page
from ridgepoint.web import api

DECODE: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "machine": "h100-sxm",
    "task": {"name": "decode", "batch": 32, "context": 8192},
}
EXPERTS: dict[str, Any] = {
    "model": "deepseek-v3",
    "machine": "8xh200-sxm",
    "task": {"name": "decode", "batch": 128, "context": 4096},
}


@benchmark("page.estimate", measures="one answer of the page with its charts, Llama-8B decode", unit="s", target=0.1)
def estimate() -> float:
    """Seconds of one answer, best of ten; every one is of another batch."""
    return _answers(DECODE)


@benchmark("page.estimate_experts", measures="the same, DeepSeek-V3 on eight devices", unit="s", target=0.1)
def experts() -> float:
    """Seconds of one answer, best of ten."""
    return _answers(EXPERTS)


def _answers(body: dict[str, Any]) -> float:
    batches = iter(range(1, 100))

    def answer() -> None:
        api.estimate({**body, "task": {**body["task"], "batch": next(batches)}, "view": True})

    return best_of(10, answer)


@benchmark("page.sweep", measures="a heat map of 99 points with its chart", unit="s", target=0.3)
def sweep() -> float:
    """Seconds of one answer, best of five."""
    vary = {"batch": "1:1024:log2", "context": "512:128k:log2"}
    return best_of(5, lambda: api.sweep({**DECODE, "vary": vary}))


@benchmark("report.size", measures="HTML report of a decode step", unit="kB", target=500.0)
def size() -> float:
    """Kilobytes of the file."""
    est = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=32, context=8192))
    return len(estimate_page(est).encode()) / 1e3
