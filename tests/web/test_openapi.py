"""The OpenAPI document says what is there."""

from typing import Any

from ridgepoint.request import PLAN_KEYS
from ridgepoint.web.openapi import openapi
from ridgepoint.web.routes import ROUTES


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*(references(v) for v in value.values()))
    return set().union(*(references(v) for v in value)) if isinstance(value, list) else set()


def test_every_address_is_described(page: Any) -> None:
    told = page.get("/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    assert {(m.upper(), path) for path, item in told["paths"].items() for m in item} == {
        (r.method, r.path) for r in ROUTES
    }
    names = [operation["operationId"] for item in told["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for item in told["paths"].values() for operation in item.values())


def test_every_reference_leads_somewhere() -> None:
    told = openapi()
    assert references(told) <= {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    assert set(told["components"]["schemas"]["Scenario"]["properties"]["plan"]["properties"]) == set(PLAN_KEYS)
