"""The JSON document of an estimate: design §10's keys, plain values only. A sweep gives lists for numbers.

>>> from ridgepoint.estimates import estimate
>>> from ridgepoint.tasks import Decode
>>> doc = document(estimate("llama-3.1-8b", on="h100-sxm", task=Decode(batch=32, context=8192)))
>>> doc["task"], doc["bottleneck"], doc["memory"]["fits"]
({'name': 'decode', 'batch': 32, 'context': 8192}, 'hbm', True)
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgepoint.cost.evaluate import Component
from ridgepoint.cost.utilization import arithmetic_utilization, memory_utilization
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.models.parameters import active_parameters, total_parameters
from ridgepoint.tasks.layout import resolve_formats
from ridgepoint.tasks.networks import formats_of

if TYPE_CHECKING:
    from ridgepoint.estimates import Estimate
    from ridgepoint.scenario import Scenario

Document = dict[str, Any]


def document(est: Estimate) -> Document:
    """Everything that ``est`` says, as values that JSON knows; what does not apply is null."""
    given = est.scenario
    return {
        "model": given.model.name,
        "machine": given.machine.name,
        "task": {"name": given.task.name, **{name: plain(v) for name, v in sizes(given).items()}},
        "plan": _plan(est),
        "mode": est.mode,
        **_answers(est),
        "memory": _memory(est),
        "ops": [_op(c, est.shape) for c in est.cost.components if np.any(np.asarray(c.time_s) > 0.0)],
        "unknown": [{"name": op.label or op.kind, "kind": op.kind} for op in est.cost.unknown],
        "unknown_share": plain(est.cost.unknown_share),
        "assumptions": list(est.assumptions),
        "warnings": list(est.warnings),
        "citations": list(est.citations),
        "model_detail": _model(given.model),
        "machine_detail": _machine(given.machine),
    }


def _answers(est: Estimate) -> Document:
    return {
        "time_s": plain(est.time_s),
        "bound_s": plain(est.bound_s),
        "interval_s": [plain(end) for end in est.interval_s],
        "headroom": plain(est.headroom),
        "throughput": {
            "tokens_per_s": plain(est.tokens_per_s) if has_tokens(est) else None,
            "samples_per_s": plain(est.samples_per_s),
        },
        "ttft_s": plain(est.ttft_s),
        "tpot_s": plain(est.tpot_s),
        "bottleneck": plain(est.bottleneck),
        "shares": {resource: plain(share) for resource, share in est.shares.items()},
        "limits": {resource: plain(gain) for resource, gain in est.limits.items()},
        "utilization": {
            "arithmetic": plain(arithmetic_utilization(est.cost)),
            "memory": plain(memory_utilization(est.cost)),
        },
        "devices": plain(est.devices),
        "power_w": plain(est.power_w),
        "energy_j": plain(est.energy_j),
        "cost_usd": plain(est.cost_usd),
        **_per_token(est),
    }


def sizes(given: Scenario) -> dict[str, Any]:
    """The sizes of the task that mean something for the model: a network takes those of its input only."""
    found = given.task.sizes()
    if isinstance(given.model, Network):
        found = {name: v for name, v in found.items() if name in ("batch", "steps", *dict(given.model.inputs))}
    return found


def has_tokens(est: Estimate) -> bool:
    """Whether the task counts tokens; networks count samples only."""
    return bool(np.all(np.asarray(est.tokens_per_s) > 0.0))


def _per_token(est: Estimate) -> Document:
    spent: dict[str, Any] = dict.fromkeys(("energy_j_per_token", "cost_usd_per_million_tokens"))
    if has_tokens(est):
        tokens = est.tokens_per_s * est.time_s
        spent["energy_j_per_token"] = None if est.energy_j is None else plain(est.energy_j / tokens)
        spent["cost_usd_per_million_tokens"] = None if est.cost_usd is None else plain(1e6 * est.cost_usd / tokens)
    return spent


def _plan(est: Estimate) -> Document:
    """The whole plan as it was run: degrees that were derived, formats by role."""
    given, layout = est.scenario, est.built.layout
    whole = {f.name: plain(getattr(given.plan, f.name)) for f in fields(given.plan)}
    whole |= {name: plain(getattr(layout, name)) for name in ("tp", "pp", "dp", "ep", "cp")}
    whole["techniques"] = list(given.techniques)
    if isinstance(given.model, Network):
        acts, weights = formats_of(given.model, given.plan)
        return whole | {"weights": weights, "acts": acts}
    formats, _ = resolve_formats(given.model, given.plan)
    by_component = dict(formats.weights)
    return whole | {
        "weights": by_component["default"],
        "weights_by_component": by_component,
        "acts": formats.inputs,
        "kv": formats.kv,
    }


def _memory(est: Estimate) -> Document:
    ledger = est.memory
    away = {name.replace("/", "_"): size for name, size in ledger.away.items()}
    return {f"{name}_gb": plain(size / 1e9) for name, size in {**ledger.entries, **away}.items()} | {
        "total_gb": plain(ledger.total_bytes / 1e9),
        "capacity_gb": plain(ledger.capacity_bytes / 1e9),
        "usable_gb": plain(ledger.usable_bytes / 1e9),
        "fits": plain(ledger.fits),
        "max_batch": plain(est.max_batch),
        "max_context": plain(est.max_context),
    }


def _op(component: Component, shape: tuple[int, ...]) -> Document:
    named = ("count", "time_s", "critical_s", "bound_s", "flop", "bytes")
    amounts = {name: plain(np.broadcast_to(getattr(component, name), shape)) for name in named}
    binding = plain(np.broadcast_to(bound_by(component), shape))
    return {"name": component.label, "kind": component.kind, **amounts, "bound_by": binding}


def bound_by(component: Component) -> Any:
    """The resource that a component waits for most: a name, or an array of names over a sweep."""
    parts = component.critical_by_resource
    if not any(np.any(np.asarray(t) > 0.0) for t in parts.values()):
        parts = component.busy_s
    if not parts:
        return None
    names = np.array(list(parts))
    found = names[np.argmax(np.stack(np.broadcast_arrays(*parts.values())), axis=0)]
    return str(found) if np.ndim(found) == 0 else found


def _model(model: Model | Network) -> Document:
    if isinstance(model, Network):
        return {"title": model.title or model.name, "family": model.family, "domain": model.domain}
    stack = model.main
    return {
        "title": model.title or model.name,
        "parameters": plain(total_parameters(model)),
        "active_parameters": plain(active_parameters(model)),
        "layers": stack.depth,
        "hidden": stack.hidden,
        "max_context": model.max_context or None,
        "source": model.source or None,
    }


def _machine(machine: Machine) -> Document:
    price = machine.device.price
    return {
        "title": machine.device.title,
        "devices": machine.devices,
        "nodes": machine.nodes,
        "memory_gb": plain(machine.memory_bytes / 1e9),
        "memory_bytes_per_s": plain(machine.memory_bytes_per_s),
        "usd_per_device_hour": None if price is None else plain(price.usd_per_hour),
        "labels": {name: machine.resource_label(name) for name in (*machine.device.engines, *machine.device.memory)},
    }


def plain(value: Any) -> Any:
    """``value`` as JSON knows it: whole numbers without a fraction, lists for arrays, null for what is not finite.

    >>> plain(32.0), plain(np.float64(0.5)), plain(float("inf")), plain(np.array([1.0, np.nan])), plain(np.bool_(True))
    (32, 0.5, None, [1, None], True)
    """
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()] if value.ndim else plain(value.item())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return None if not np.isfinite(value) else int(value) if value.is_integer() and abs(value) < 1e15 else value
    return value
