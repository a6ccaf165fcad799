"""Reading a configuration's keys with their types, ranges and aliases.

Every refusal names file, key and expectation. A key that is null counts as absent, as it does in ``transformers``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ridgepoint.errors import RidgepointError

ALIASES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "n_embed", "emb_dim", "dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "num_decoder_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num", "num_attention_groups"),
    "head_dim": ("attention_head_dim", "kv_channels", "d_kv"),
    "intermediate_size": ("n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "hidden_dim"),
    "max_position_embeddings": ("n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts"),
    "num_experts_per_tok": (
        "num_experts_per_token", "experts_per_token", "moe_top_k", "moe_topk", "moe_k", "num_selected_experts",
        "top_k_experts",
    ),
    "moe_intermediate_size": ("moe_ffn_hidden_size", "expert_ffn_hidden_size"),
    "num_shared_experts": ("n_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "dtype": ("torch_dtype",),
    "hidden_act": ("activation_function", "activation"),
    "type_vocab_size": ("n_types",),
}  # fmt: skip
"""Other names that families write for the same thing."""

_MOST: Mapping[str, int] = {
    "hidden_size": 10**6,
    "num_hidden_layers": 10**4,
    "num_attention_heads": 10**5,
    "num_key_value_heads": 10**5,
    "head_dim": 10**5,
    "vocab_size": 10**8,
    "num_experts": 10**5,
    "max_position_embeddings": 10**10,
    "sliding_window": 10**12,
    "attention_chunk_size": 10**12,
}
_MOST_OTHER = 10**7
"""Sizes above these are typing errors, not models."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})
MISSING = object()


@dataclass(frozen=True)
class Fields:
    """The keys of one JSON object: ``where`` names the file, ``path`` the place in it.

    ``defaults`` says what a missing key means.

    >>> f = Fields({"n_embd": 768, "n_head": -3}, "config.json")
    >>> f.count("hidden_size"), f.count("num_hidden_layers", 12)
    (768, 12)
    >>> f.count("num_attention_heads")
    Traceback (most recent call last):
    ridgepoint.errors.RidgepointError: config.json: `n_head` must be a whole number of at least 1, not -3
    """

    values: Mapping[str, Any]
    where: str
    path: str = ""
    defaults: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)

    def with_defaults(self, defaults: Mapping[str, Any]) -> Fields:
        """The same keys, where a missing one means what ``defaults`` says."""
        return replace(self, defaults={**self.defaults, **defaults})

    def find(self, key: str) -> tuple[str, Any]:
        """The name that ``key`` is written under and its value; ``MISSING`` where it is absent or null."""
        for name in (key, *ALIASES.get(key, ())):
            value = self.values.get(name)
            if value is not None:
                return name, value
        return key, self.defaults.get(key, MISSING)

    def has(self, *keys: str) -> bool:
        """Whether every one of the keys is written and not null."""
        return all(self.find(key)[1] is not MISSING for key in keys)

    def count(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number from ``least`` to the largest sensible one; required where there is no ``default``."""
        name, value = self.find(key)
        if value is MISSING:
            if default is None:
                raise self.missing(key, f"a whole number of at least {least}")
            return default
        whole = _whole(value)
        if whole is None or whole < least:
            raise self.refuse(name, f"a whole number of at least {least}", value)
        most = _MOST.get(key, _MOST_OTHER)
        if whole > most:
            raise self.refuse(name, f"at most {most:,}", value)
        return whole

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        name, value = self.find(key)
        if value is MISSING:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false", value)
        return value

    def real(self, key: str, default: float, least: float = 0.0, most: float = 1e6) -> float:
        """A finite number between ``least`` and ``most``."""
        name, value = self.find(key)
        if value is MISSING:
            return default
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not least <= value <= most:
            raise self.refuse(name, f"a number from {least:g} to {most:g}", value)
        return float(value)

    def text(self, key: str, default: str = "") -> str:
        """A text; anything else is refused."""
        name, value = self.find(key)
        if value is MISSING:
            return default
        if not isinstance(value, str):
            raise self.refuse(name, "a text", value)
        return value

    def items(self, key: str) -> list[Any] | None:
        """A list, or ``None`` where the key is absent."""
        name, value = self.find(key)
        if value is MISSING:
            return None
        if not isinstance(value, list | tuple):
            raise self.refuse(name, "a list", value)
        return list(value)

    def names(self, key: str, known: frozenset[str], length: int | None = None) -> list[str] | None:
        """A list of texts out of ``known``, of that length; ``None`` where the key is absent."""
        items = self.items(key)
        if items is None:
            return None
        if length is not None and len(items) != length:
            raise self.error(
                f"`{self.path}{key}` must name {length} layers, as `num_hidden_layers` says, not {len(items)}"
            )
        for item in items:
            if not isinstance(item, str) or item not in known:
                raise self.refuse(key, "a list of " + ", ".join(sorted(known)), item)
        return items

    def counts(self, key: str, length: int | None = None) -> list[int] | None:
        """A list of whole numbers of at least 0, of that length; ``None`` where the key is absent."""
        items = self.items(key)
        if items is None:
            return None
        whole = [_whole(item) for item in items]
        if any(item is None or item < 0 for item in whole) or (length is not None and len(items) != length):
            size = "" if length is None else f"{length} "
            raise self.error(f"`{self.path}{key}` must be a list of {size}whole numbers of at least 0")
        return [item for item in whole if item is not None]

    def table(self, key: str) -> Fields | None:
        """The object under ``key``, or ``None`` where it is absent."""
        name, value = self.find(key)
        if value is MISSING:
            return None
        if not isinstance(value, Mapping):
            raise self.refuse(name, "an object", value)
        return Fields(value, self.where, f"{self.path}{name}.")

    def missing(self, key: str, expectation: str) -> RidgepointError:
        """The error for a required key that is not there."""
        others = ALIASES.get(key, ())
        hint = f"also read as {', '.join(others)}" if others else "add it"
        return RidgepointError(
            "bad_config", f"{self.where}: `{self.path}{key}` is missing; it must be {expectation}", hint
        )

    def refuse(self, name: str, expectation: str, value: object) -> RidgepointError:
        """The error for a value that is not what the key needs."""
        return self.error(f"`{self.path}{name}` must be {expectation}, not {shown(value)}")

    def error(self, problem: str, hint: str = "") -> RidgepointError:
        """An error about this file."""
        return RidgepointError("bad_config", f"{self.where}: {problem}", hint)


def _whole(value: object) -> int | None:
    """The whole number that ``value`` is, if it is one (4096.0 counts, true does not)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return None


def shown(value: object) -> str:
    """A value as an error message shows it: short, whatever it is.

    >>> shown("x" * 100), shown([1, 2]), shown(None)
    ("'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…'", 'a list', 'null')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a number of more than 18 digits"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 40 else f"'{value[:37]}…'"
    return "a list" if isinstance(value, list | tuple) else "an object"
