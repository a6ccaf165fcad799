"""Tags of the papers catalogue: what each is called, and how people say it (``catalog/paper_terms.toml``)."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

import msgspec


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tag: its title, phrases that people use for it and, for a mechanism, the catalogue file of its rows."""

    title: str
    words: tuple[str, ...] = ()
    family: str = ""


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The controlled lists, and the idle words of a question: those that say nothing about its subject."""

    idle: frozenset[str]
    mechanism: dict[str, Term]
    bottleneck: dict[str, Term]
    domain: dict[str, Term]


@cache
def terms() -> Terms:
    """All tags that rows may carry.

    >>> terms().mechanism["kv_eviction"].title
    'eviction from the KV cache'
    """
    text = (resources.files("ridgepoint.catalog") / "paper_terms.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Terms)
