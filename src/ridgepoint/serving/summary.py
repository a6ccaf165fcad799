"""The JSON document of a simulation: design §10's keys, plain values only."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ridgepoint.document import plain
from ridgepoint.serving.capacity import STATE_ONLY
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.outcome import Outcome
from ridgepoint.serving.series import series, shares_over_time
from ridgepoint.serving.statistics import Summary

Document = dict[str, Any]
CONDITIONS = ("tiers", "adapters", "failures", "scaling", "budget")


def document(found: Outcome) -> Document:
    """The simulation as JSON knows it."""
    given, span = found.deployment, found.span_s
    tokens = float(found.requests.output[found.completed].sum())
    read = float(found.requests.prompt[found.completed].sum())
    return _plain_table({
        "model": given.model.name,
        "machine": given.machine_name,
        "plan": plan_of(given),
        "workload": _workload(found),
        "requests": {
            "total": len(found.requests),
            "completed": int(found.completed.sum()),
            "failed": found.failed,
            "shed": found.shed,
            "put_back": found.put_back,
            "restarted": int(found.columns["restarted"].sum()),
        },
        "ttft_s": summary_document(found.summary("ttft_s")),
        "tpot_s": summary_document(found.summary("tpot_s")),
        "itl_s": found.token_gap_s,
        "latency_s": summary_document(found.summary("latency_s")),
        "throughput": {
            "requests_per_s": found.requests_per_s,
            "tokens_per_s": found.tokens_per_s,
            "prompt_tokens_per_s": read / max(span, 1e-12),
        },
        "goodput": {
            "requests_per_s": found.goodput_per_s,
            "attainment": found.attainment,
            "slo": asdict(found.slo),
        },
        "queue": asdict(found.queue),
        "utilization": found.utilization,
        "cache": _cache(found),
        "shares": found.shares,
        "bottleneck": next(iter(found.shares), None),
        "span_s": span,
        "devices": found.devices,
        "energy_j": found.energy_j,
        "energy_j_per_token": None if found.energy_j is None else found.energy_j / max(tokens, 1.0),
        "cost_usd": found.cost_usd,
        "cost_usd_per_million_tokens": None if found.cost_usd is None else 1e6 * found.cost_usd / max(tokens, 1.0),
        "series": series(found),
        "shares_over_time": shares_over_time(found),
        "switched_on": sum(found.on_s) / max(len(found.replicas) * span, 1e-12),
        "events": [{"time_s": e.time_s, "replica": e.replica, "what": e.what} for e in found.events],
        "assumptions": list(given.assumptions),
        "warnings": list(found.warnings),
        "citations": list(found.citations),
    })  # fmt: skip


def plan_of(given: Deployment) -> Document:
    """How it is run: degrees, engine, scheduler, routing."""
    layout = given.passes.layout
    degrees = {name: getattr(layout, name) for name in ("tp", "pp", "dp", "ep", "cp")}
    return {
        **degrees,
        "replicas": given.replicas,
        "devices_per_replica": given.devices_per_replica,
        "prefill_replicas": given.prefill_replicas,
        "weights": dict(given.passes.run.formats.weights)["default"],
        "kv": given.complete_plan.kv or given.passes.run.formats.kv,
        "engine": given.engine,
        "routing": given.routing,
        "scheduling": asdict(given.rules),
        "speculation": None if given.speculation is None else asdict(given.speculation),
        "power_cap_w": given.power_cap_w,
        "reading": None if given.reading is None else {"machine": given.reading.machine.name, **plan_of(given.reading)},
        "mixed_replicas": given.mixed_replicas,
        "sharing": given.sharing,
        **{name: None if (one := getattr(given, name)) is None else asdict(one) for name in CONDITIONS},
    }


def summary_document(found: Summary | None) -> Document | None:
    """Mean, percentiles and their intervals; None where there are none."""
    if found is None:
        return None
    values = asdict(found)
    return {**{name: values[name] for name in ("mean", "p50", "p90", "p99")}, "interval": values["interval"]}


def _workload(found: Outcome) -> Document:
    requests = found.requests
    return {
        "source": requests.source,
        "rate_per_s": requests.rate or None,
        "prompt_mean": float(requests.prompt.mean()),
        "output_mean": float(requests.output.mean()),
    }


def _cache(found: Outcome) -> Document:
    mean, most = found.cache_use
    read = float(found.requests.prompt[found.completed].sum())
    return {
        "tokens_per_replica": found.cache.blocks * found.cache.block if found.cache.block < STATE_ONLY else None,
        "sequences_per_replica": found.cache.blocks if found.cache.block >= STATE_ONLY else None,
        "mean_use": mean,
        "largest_use": most,
        "prefix_hit_rate": float(found.columns["cached_tokens"].sum()) / max(read, 1.0),
        "fetched_tokens": found.fetched,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _plain_table(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return plain(value)


def _plain_table(table: Document) -> Document:
    return {name: _plain(item) for name, item in table.items()}
