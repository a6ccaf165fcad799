"""What a list of models shows of one: counts and shapes."""

from __future__ import annotations

from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import Experts, LatentAttention, Model, SelfAttention
from ridgepoint.models.catalog import Entry, find_model, model_entries
from ridgepoint.models.networks.catalog import Entry as NetworkEntry
from ridgepoint.models.networks.catalog import network_entries, to_network
from ridgepoint.models.networks.network import Network
from ridgepoint.models.parameters import active_parameters, total_parameters

Facts = dict[str, Any]
_EMPTY: Facts = dict.fromkeys(("active_parameters", "layers", "hidden", "heads", "kv_heads", "max_context"))


def listing() -> list[Facts]:
    """All models of the catalogue by name. One whose family cannot be read has null shapes."""
    found = [*map(_entry_facts, model_entries()), *map(_network_facts, network_entries())]
    return sorted(found, key=lambda m: str(m["name"]))


def _has_experts(model: Model) -> bool:
    return any(isinstance(layer.feed, Experts) for layer, _ in model.main.layers)


def model_facts(model: Model) -> Facts:
    """Counts and shapes of a transformer; heads are those of its first attention layer.

    >>> facts = model_facts(find_model("llama-3.1-8b"))
    >>> facts["layers"], facts["heads"], facts["kv_heads"], facts["parameters"]
    (32, 32, 8, 8030261248.0)
    """
    stack = model.main
    heads, kv_heads = _heads(model)
    kinds = ("decoder" if model.encoder is None else "encoder–decoder") if model.decoder is not None else "encoder"
    return {
        "name": model.name,
        "title": model.title or model.name,
        "kind": kinds,
        "parameters": total_parameters(model),
        "active_parameters": active_parameters(model) if _has_experts(model) else total_parameters(model),
        "layers": stack.depth,
        "hidden": stack.hidden,
        "heads": heads,
        "kv_heads": kv_heads,
        "max_context": model.max_context or None,
        "published_parameters": model.published_parameters or None,
        "published_active": model.published_active or None,
        "released": None,
        "source": model.source,
        "notes": list(model.notes),
    }


def _heads(model: Model) -> tuple[int | None, int | None]:
    for layer, _ in model.main.layers:
        if isinstance(layer.mixer, SelfAttention):
            return layer.mixer.heads, layer.mixer.kv_heads
        if isinstance(layer.mixer, LatentAttention):
            return layer.mixer.heads, None
    return None, None


def _entry_facts(entry: Entry) -> Facts:
    known = {"released": entry.released, "aliases": list(entry.aliases)}
    try:
        return model_facts(find_model(entry.name)) | known
    except RidgepointError as error:
        named = {"name": entry.name, "title": entry.title, "kind": "unreadable", "parameters": entry.parameters}
        published = {"published_parameters": entry.parameters, "published_active": entry.active_parameters or None}
        return {**named, **_EMPTY, **published, "source": entry.config_source, "notes": [error.message], **known}


def _network_facts(entry: NetworkEntry) -> Facts:
    facts = network_facts(to_network(entry), entry.parameters or None)
    return facts | {"released": entry.released, "aliases": list(entry.aliases)}


def network_facts(net: Network, counted: float | None) -> Facts:
    """What is known of a network; ``counted`` are its parameters."""
    return {
        "name": net.name,
        "title": net.title or net.name,
        "kind": net.domain,
        "parameters": counted,
        **_EMPTY,
        "published_parameters": net.published_parameters or None,
        "published_active": None,
        "released": net.released or None,
        "source": net.source,
        "notes": list(net.notes),
    }
