"""Rows of whole layers as works: an attention block with its projections, alone or with a dense feed-forward part.

Latent attention (``extra.name`` begins with ``mla``) runs as TensorRT-LLM runs it. Sizes are those of the catalogue's model
that ``extra.model`` names, or what ``extra`` states itself; heads are the row's, as one device has them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.matrix_rows import known_format, operand_formats
from ridgepoint.evidence.rows import Builder, InexpressibleError, Rows
from ridgepoint.evidence.tables import Table
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import LatentAttention, Model
from ridgepoint.models.catalog import find_model
from ridgepoint.numeric import Array, Num
from ridgepoint.ops import Attention, Gemm, Stream
from ridgepoint.work import Seq, Work

_KEYS = {
    "hidden": ("hidden", "hidden_size", "d_model"),
    "q_rank": ("q_lora", "q_lora_rank", "q_rank"),
    "kv_rank": ("kv_lora", "kv_lora_rank", "kv_rank"),
    "rope_dim": ("qk_rope", "qk_rope_head_dim", "rope_dim"),
    "nope_dim": ("qk_nope", "qk_nope_head_dim", "nope_dim"),
    "value_dim": ("v_dim", "v_head_dim", "value_dim"),
    "intermediate": ("intermediate", "intermediate_size", "ffn", "ffn_dim"),
}
"""Size → the keys of ``extra`` that state it."""
_LATENT = ("hidden", "q_rank", "kv_rank", "rope_dim", "nope_dim", "value_dim")
_BLOCKS = ("attention", "attn", "self_attention", "gqa", "mha", "attention_block")
_WHOLE = ("layer", "decoder_layer", "transformer_layer", "transformer_block", "block")


def _layer(rows: Rows, machine: Machine) -> Work:
    name = rows.tag("name")
    if name.startswith("mla"):
        return _latent_block(rows)
    if name not in (*_BLOCKS, *_WHOLE):
        raise InexpressibleError(f"layer '{name}' of {rows.tag('model')}")
    return _plain_block(rows, whole=name in _WHOLE)


def _sizes(rows: Rows, wanted: tuple[str, ...]) -> dict[str, Num]:
    """The wanted sizes: as the rows state them, else those of the catalogue's model that they name."""
    known = _known(rows.tag("model"))
    found: dict[str, Num] = {}
    for size in wanted:
        key = _stated(rows.table, int(rows.index[0]), size)
        if not key and size not in known:
            raise InexpressibleError(
                f"layer '{rows.tag('name')}' of {rows.tag('model') or 'no model'}: extra.{_KEYS[size][0]} is not stated"
            )
        found[size] = rows.extra(key) if key else known[size]
    return found


def _stated(table: Table, row: int, size: str) -> str:
    """The key by which a row states a size; empty where it does not."""
    return next((key for key in _KEYS[size] if table.extra[row].get(key) is not None), "")


def _known(name: str) -> dict[str, float]:
    """Sizes of a layer of the catalogue's model of that name; none where it has no such model."""
    try:
        model: Model | None = find_model(name) if name else None
    except RidgepointError:
        model = None
    if model is None:
        return {}
    found = {"hidden": float(model.main.hidden)}
    latent = next((layer.mixer for layer, _ in model.main.layers if isinstance(layer.mixer, LatentAttention)), None)
    if latent is not None:
        found |= {size: float(getattr(latent, size)) for size in _LATENT if size != "hidden"}
    return found


def _latent_block(rows: Rows) -> Work:
    """Multi-head latent attention with its projections: absorbed in decoding, expanded for prompts."""
    size = _sizes(rows, _LATENT)
    hidden, q_rank, kv_rank = size["hidden"], size["q_rank"], size["kv_rank"]
    rotary, content, value = size["rope_dim"], size["nope_dim"], size["value_dim"]
    batch, heads, q_len = rows.number("batch"), rows.number("heads"), rows.number("q_len")
    tokens = batch * q_len
    project = _Projections(rows, tokens)
    decode = rows.tag("phase") == "decode"
    attention = Attention(
        batch=batch,
        heads=heads,
        kv_heads=1.0 if decode else heads,
        q_len=q_len,
        kv_len=rows.number("kv_len"),
        head_dim=kv_rank + rotary if decode else content + rotary,
        value_dim=kv_rank if decode else value,
        latent=decode,
        kv=known_format(rows.text("kv_dtype") or "bf16"),
        label="attention",
    )
    direct = bool(np.all(np.asarray(q_rank) == 0.0))  # queries are projected at once
    queries = heads * (content + rotary)
    before: list[Work] = [
        project((queries if direct else q_rank) + kv_rank + rotary, hidden, "down"),
        _passes(tokens, q_rank + kv_rank, "norm", 1.0, launches=1.0 if direct else 2.0),
        *([] if direct else [project(queries, q_rank, "query up")]),
        _passes(tokens, heads * rotary + rotary, "elementwise", 1.0),
    ]

    def absorb(n: Num, k: Num, label: str) -> Gemm:
        return Gemm(m=tokens, n=n, k=k, batch=heads, label=label)

    inner: list[Work] = (
        [absorb(kv_rank, content, "absorb keys"), attention, absorb(value, kv_rank, "absorb values")]
        if decode
        else [project(heads * (content + value), kv_rank, "key and value up"), attention]
    )
    return Seq(*before, *inner, project(hidden, heads * value, "output"))


def _plain_block(rows: Rows, whole: bool) -> Work:
    """Softmax attention with its projections behind a norm; ``whole``: and a dense feed-forward part (``extra.gated`` 0: of
    two products, else three).
    """
    size = _sizes(rows, ("hidden", "intermediate") if whole else ("hidden",))
    batch, heads, q_len, head_dim = (rows.number(name) for name in ("batch", "heads", "q_len", "head_dim"))
    kv_heads, tokens = rows.number("kv_heads", np.nan), batch * q_len
    kv_heads = np.where(np.isnan(kv_heads), heads, kv_heads)
    acts, _, wide = operand_formats(rows)
    project, hidden = _Projections(rows, tokens), size["hidden"]
    attention = Attention(
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        q_len=q_len,
        kv_len=rows.number("kv_len"),
        head_dim=head_dim,
        value_dim=head_dim,
        causal=bool(rows.number("causal", 1.0)[0]),
        window=rows.number("window", 0.0),
        acts=acts if FORMATS[acts].bits >= 16.0 else "bf16",
        kv=known_format(rows.text("kv_dtype") or wide),
        label="attention",
    )
    parts: list[Work] = [
        _passes(tokens, hidden, "norm", 1.0),
        project((heads + 2.0 * kv_heads) * head_dim, hidden, "queries, keys and values"),
        _passes(tokens, (heads + kv_heads) * head_dim, "elementwise", 1.0),
        attention,
        project(hidden, heads * head_dim, "output"),
    ]
    if whole:
        width, gates = size["intermediate"], 1.0 + float(rows.tag("gated", "1") not in ("0", "False"))
        parts += [
            _passes(tokens, hidden, "norm", 1.0),
            project(gates * width, hidden, "feed up"),
            _passes(tokens, width, "elementwise", (gates + 1.0) / 2.0),
            project(hidden, width, "feed down"),
        ]
    return Seq(*parts)


class _Projections:
    """Products with weights, behind a conversion of their input where arithmetic is narrow."""

    def __init__(self, rows: Rows, tokens: Array) -> None:
        self._acts, self._weights, self._out = operand_formats(rows)
        self._tokens = tokens

    def __call__(self, n: Num, k: Num, label: str) -> Work:
        product = Gemm(m=self._tokens, n=n, k=k, acts=self._acts, weights=self._weights, out=self._out, label=label)
        return product if FORMATS[self._acts].bits >= 16.0 else Seq(_passes(self._tokens, k, "quantize", 0.75), product)


def _passes(rows: Array, columns: Num, pattern: str, passes: float, launches: float = 1.0) -> Stream:
    """A pass that reads and writes bf16 values, ``passes`` times."""
    moved = 2.0 * passes * rows * columns
    return Stream(
        read_bytes=moved,
        write_bytes=moved,
        flop=4.0 * rows * columns,
        pattern=pattern,
        launches=launches,
        label=pattern,
    )


def _form(table: Table, row: int) -> tuple[Any, ...]:
    """What of a row's sizes decides the form of its work: which it states, and whether queries are compressed."""
    extra = table.extra[row]
    keys = tuple(_stated(table, row, size) for size in _KEYS)
    return (*keys, extra.get(keys[1]) == 0)


BUILDERS = {
    "layer": Builder(_layer, tags=("name", "model", "phase", "gated"), numbers=("causal",), split=_form),
}
