"""Every address of the interface in one table: the application and its OpenAPI document are made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ridgepoint.web import api, knowledge

JSON, HTML, CSV, TOML = "application/json", "text/html", "text/csv", "application/toml"
SCENARIO = "Scenario"
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
    Route("POST", "/api/advise", knowledge.advise, scenario=True, properties={"objective": _NAME, "quality": _NAME}),
    Route("POST", "/api/papers", knowledge.papers, properties={"question": _NAME}),
    Route("POST", "/api/paper", knowledge.paper, properties={"slug": _NAME}, required=("slug",)),
)
