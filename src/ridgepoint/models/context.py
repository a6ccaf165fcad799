"""Context parallelism: how ranks that hold slices of a sequence attend to all of it.

- ``all_gather``: keys and values of all ranks, then attention (Llama 3; the decode step exchanges partial outputs instead).
- ``ring``: keys and values travel from rank to rank beside the attention to those that are there (Liu et al. 2023).
- ``all_to_all``: slices of the sequence become slices of the heads, and back (Jacobs et al. 2023, DeepSpeed-Ulysses).
"""

from __future__ import annotations

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.pieces import is_one
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Collective
from ridgepoint.work import Overlap, Repeat, Work


def by_heads(tokens: Tokens, run: Execution) -> bool:
    """Whether ranks hold slices of the heads during the attention."""
    return run.cut.context_exchange == "all_to_all" and not tokens.decode and not is_one(run.cut.cp)


def placed(
    tokens: Tokens, run: Execution, causal: bool, window: Num, heads: Num, kv_heads: Num
) -> tuple[Num, Num, Num, Num]:
    """(heads, key–value heads, queries, keys) of one context-parallel rank."""
    if not by_heads(tokens, run):
        return heads, kv_heads, *split_context(tokens, run.cut.cp, causal, window)
    own = plain(np.maximum(kv_heads / np.asarray(run.cut.cp, dtype=float), 1.0))
    return heads / run.cut.cp, own, tokens.new, tokens.context


def exchanged(attend: Work, tokens: Tokens, run: Execution, query: Num, output: Num, keys: Num, at: str) -> list[Work]:
    """The attention with what ranks tell each other around it; ``query``, ``output`` and ``keys`` (with values) are values
    per token of one tensor-parallel rank.
    """
    cp = run.cut.cp
    if is_one(cp):
        return [attend]
    label, width = f"{at}.context_exchange", FORMATS[run.formats.kv].bytes
    if by_heads(tokens, run):
        here = tokens.total / cp * FORMATS[run.formats.stream].bytes
        before, after = (
            Collective(operation="all_to_all", bytes=here * n, ranks=cp, stride=run.cut.tp, label=label)
            for n in (query + keys, output)
        )
        return [before, attend, after]
    if run.cut.context_exchange == "ring" and not tokens.decode:
        two = plain(np.minimum(np.asarray(cp, dtype=float), 2.0))
        size = tokens.total / cp * keys * width
        hop = Collective(operation="send_recv", bytes=size, ranks=two, stride=run.cut.tp, label=label)
        return [Overlap(attend, Repeat(cp - 1.0, hop))]
    return [attend, *gathered(tokens, run, output, keys, at)]


def gathered(tokens: Tokens, run: Execution, output: Num, keys: Num, at: str) -> list[Work]:
    """Keys and values of all ranks, or in a decode step their partial outputs (``output`` values per token)."""
    cp = run.cut.cp
    if is_one(cp):
        return []
    moved = output * FORMATS[run.formats.stream].bytes * cp if tokens.decode else keys * FORMATS[run.formats.kv].bytes
    return [
        Collective(
            operation="all_gather",
            bytes=tokens.total * moved,
            ranks=cp,
            stride=run.cut.tp,
            label=f"{at}.context_exchange",
        )
    ]


def split_context(tokens: Tokens, cp: Num, causal: bool = True, window: Num = 0.0) -> tuple[Num, Num]:
    """Queries and keys per context-parallel rank such that a rank does exactly 1/cp of the query–key pairs.

    Decode splits the keys that the ``window`` leaves; otherwise queries are split, each rank's over all keys. Causal
    queries are split in the balanced (zig-zag) order: q' = q/cp of them over kv' = kv − (q − q')/2 keys have
    (q·kv − q(q−1)/2)/cp pairs.
    """
    if is_one(cp):
        return tokens.new, tokens.context
    if tokens.decode:
        return tokens.new, (np.minimum(tokens.context, window) if window else tokens.context) / cp
    new = tokens.new / cp
    if not causal:
        return new, tokens.context
    return new, tokens.context - (tokens.new - new) / 2.0
