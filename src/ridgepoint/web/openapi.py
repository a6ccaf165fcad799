"""The OpenAPI document of the interface, made of the table of routes."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from ridgepoint.request import PLAN_KEYS
from ridgepoint.search.axes import DEGREES, FLAGS, NUMBERS, SIZES
from ridgepoint.tasks import TASKS
from ridgepoint.web.routes import JSON, ROUTES, Route

_COUNT = {"oneOf": [{"type": "number"}, {"type": "string", "description": "8k = 8192"}]}
_ERRORS = {"400": "wrong input", "403": "another site asks", "413": "too large", "415": "no JSON", "500": "a defect"}


@cache
def openapi() -> dict[str, Any]:
    """The whole document, version 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ridgepoint",
            "version": version("ridgepoint"),
            "description": "What limits an AI workload on a machine. The interface of the local page; names are those of the "
            "command line, units are SI and stand in the names.",
        },
        "paths": {route.path: {route.method.lower(): _operation(route)} for route in ROUTES},
        "components": {"schemas": _schemas()},
    }


def _operation(route: Route) -> dict[str, Any]:
    answer: dict[str, Any] = {"type": "array" if route.method == "GET" and route.path != "/api/choices" else "object"}
    content = {route.media: {"schema": answer if route.media == JSON else {"type": "string"}}}
    responses: dict[str, Any] = {"200": {"description": route.summary, "content": content}}
    envelope = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses |= {code: {"description": said, "content": envelope} for code, said in _ERRORS.items()}
    operation: dict[str, Any] = {
        "operationId": route.path.removeprefix("/api/").replace(".", "_") + ("_list" if route.method == "GET" else ""),
        "summary": route.summary,
        "responses": responses,
    }
    if route.method == "POST":
        body: dict[str, Any] = {"type": "object", "properties": route.properties, "required": list(route.required)}
        schema = {"allOf": [{"$ref": "#/components/schemas/Scenario"}, body]} if route.scenario else body
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation


def _schemas() -> dict[str, Any]:
    plan = {name: _plan_field(name) for name in PLAN_KEYS}
    task = {"name": {"type": "string", "enum": list(TASKS)}, **dict.fromkeys(SIZES, _COUNT)}
    inputs = {"type": "object", "description": "further sizes of a network's input", "additionalProperties": _COUNT}
    pasted = {
        "type": "object",
        "description": "what is in a config.json",
        "properties": {"config": {"type": "object"}, "name": {"type": "string"}},
        "required": ["config"],
    }
    error = {name: {"type": "string"} for name in ("kind", "message", "hint")}
    return {
        "Model": {"oneOf": [{"type": "string", "description": "a name of the catalogue"}, pasted]},
        "Scenario": {
            "type": "object",
            "properties": {
                "model": {"$ref": "#/components/schemas/Model"},
                "machine": {"type": "string", "description": "8xh100-sxm, h100-sxm@bandwidth=4.8T, custom:bf16=400T,…"},
                "task": {"type": "object", "properties": {**task, "inputs": inputs}, "additionalProperties": False},
                "plan": {"type": "object", "properties": plan, "additionalProperties": False},
                "apply": {"type": "array", "items": {"type": "string"}, "description": "techniques, name:key=value"},
            },
            "required": ["model", "machine"],
        },
        "Error": {
            "type": "object",
            "properties": {"error": {"type": "object", "properties": error, "required": list(error)}},
            "required": ["error"],
        },
    }


def _plan_field(name: str) -> dict[str, Any]:
    if name in FLAGS:
        return {"type": "boolean"}
    return {"type": "number"} if name in NUMBERS else _COUNT if name in DEGREES else {"type": "string"}
