"""Every address of the interface in one table: the application and its OpenAPI document are made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ridgepoint.web import api, knowledge, serving

JSON, HTML, CSV, TOML = "application/json", "text/html", "text/csv", "application/toml"
_NAME = {"type": "string"}


@dataclass(frozen=True)
class Route:
    """One address: how it is asked, what answers, what the answer is, and the properties of the body."""

    method: str
    path: str
    answer: Callable[..., Any]
    media: str = JSON
    scenario: bool = False
    properties: dict[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    file: str = ""
    """Name of the file that a browser saves."""

    @property
    def summary(self) -> str:
        """The first paragraph of the function's documentation."""
        return " ".join((self.answer.__doc__ or "").strip().split("\n\n")[0].split())


_VARY = {
    "vary": {
        "type": "object",
        "description": "axis → values: a list, or text such as 1:256:log2",
        "additionalProperties": {"oneOf": [{"type": "string"}, {"type": "array", "items": {}}]},
    },
    "column": {"type": "string", "description": "column that is charted: time_s, tokens_per_s, bottleneck …"},
}
_TEXT = {"oneOf": [{"type": "string"}, {"type": "number"}]}
_LOAD = {
    "load": {
        "type": "object",
        "description": "rate (requests per second) or concurrency; prompt and output such as 1k or lognormal:1k; "
        f"arrivals such as poisson, even or bursty:2; requests, at most {serving.MOST_REQUESTS:,}; seed",
        "properties": dict.fromkeys(serving.LOAD, _TEXT),
        "additionalProperties": False,
    },
    "goals": {
        "type": "object",
        "description": "times such as 500ms that a request must keep to count as good",
        "properties": dict.fromkeys(serving.GOALS, _TEXT),
        "additionalProperties": False,
    },
    "engine": {"type": "string", "description": "vllm, sglang or trtllm"},
    "view": {"type": "boolean"},
}
_ADVICE = {"objective": _NAME, "quality": _NAME}
_MODEL = {"model": {"$ref": "#/components/schemas/Model"}}

ROUTES = (
    Route("GET", "/api/models", api.models),
    Route("GET", "/api/machines", api.machines),
    Route("GET", "/api/choices", api.choices),
    Route("GET", "/api/techniques", knowledge.techniques),
    Route("POST", "/api/model", api.model, properties=_MODEL, required=("model",)),
    Route("POST", "/api/machine", api.machine, properties={"machine": _NAME}, required=("machine",)),
    Route("POST", "/api/estimate", api.estimate, scenario=True, properties={"view": {"type": "boolean"}}),
    Route("POST", "/api/report", api.report, HTML, scenario=True, file="ridgepoint.html"),
    Route("POST", "/api/scenario", api.toml, TOML, scenario=True, file="scenario.toml"),
    Route("POST", "/api/sweep", api.sweep, scenario=True, properties=_VARY, required=("vary",)),
    Route("POST", "/api/sweep.csv", api.sweep_csv, CSV, True, _VARY, ("vary",), "sweep.csv"),
    Route("POST", "/api/sweep.html", api.sweep_report, HTML, True, _VARY, ("vary",), "sweep.html"),
    Route("POST", "/api/advise", knowledge.advise, scenario=True, properties=_ADVICE),
    Route("POST", "/api/advise.html", knowledge.advice_report, HTML, True, _ADVICE, file="advice.html"),
    Route("POST", "/api/simulate", serving.simulate, scenario=True, properties=_LOAD),
    Route("POST", "/api/simulate.html", serving.simulation, HTML, True, _LOAD, file="simulation.html"),
    Route("POST", "/api/papers", knowledge.papers, properties={"question": _NAME}),
    Route("POST", "/api/paper", knowledge.paper, properties={"slug": _NAME}, required=("slug",)),
)
