"""Rows of attention kernels and of whole attention layers as works."""

from __future__ import annotations

from typing import Any

import numpy as np

from ridgepoint.evidence.harness import harness_of
from ridgepoint.evidence.matrix_rows import known_format, operand_formats
from ridgepoint.evidence.rows import Builder, InexpressibleError, Rows
from ridgepoint.evidence.tables import Table
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array
from ridgepoint.ops import Attention, Gemm, Stream
from ridgepoint.work import Seq, Work

_SHARED = 32.0
"""Query heads of one key head that TensorRT-LLM's decode kernels take together at most."""
_HEAD_FLOP, _ELEMENT_FLOP = 4e5, 14.0


def _alone(table: Table, row: int) -> bool:
    """Whether a decode row runs the fallback that works on one head at a time."""
    if table.text["framework"][row] != "trtllm" or table.extra[row].get("phase") != "decode":
        return False
    return bool(table.numbers["heads"][row] / table.numbers["kv_heads"][row] > _SHARED)


def _one_head_at_a_time(rows: Rows) -> Stream:
    """TensorRT-LLM's fallback for many heads that share keys: a block of its own for every head, on the vector engine.

    Keys and values come from the cache again for each head; a block starts, converts and multiplies each value by itself
    (their smallest rows and their longest ones say how much that takes).
    """
    batch, heads, kv_heads = (rows.number(name) for name in ("batch", "heads", "kv_heads"))
    head_dim, window = rows.number("head_dim"), rows.number("window", 0.0)
    keys = np.where(window > 0.0, np.minimum(rows.number("kv_len"), window), rows.number("kv_len"))
    stored = FORMATS[known_format(rows.text("kv_dtype") or rows.text("dtype"))].bytes
    return Stream(
        read_bytes=batch * keys * 2.0 * kv_heads * head_dim * stored,
        write_bytes=2.0 * batch * heads * head_dim,
        flop=batch * heads * (_HEAD_FLOP + _ELEMENT_FLOP * keys * 2.0 * head_dim),
        special=batch * heads * keys,
        launches=3.0,
        label="one head at a time",
    )


def _attention(rows: Rows, machine: Machine) -> Work:
    if _alone(rows.table, int(rows.index[0])):
        return _one_head_at_a_time(rows)
    acts = known_format(rows.text("dtype"))
    sizes = _sizes(rows, "batch", "heads", "kv_heads", "q_len", "kv_len")
    head_dim = rows.number("head_dim")
    attention = Attention(
        **sizes,
        head_dim=head_dim,
        value_dim=np.where(head_dim == 192.0, 128.0, head_dim),
        causal=bool(rows.number("causal", 1.0)[0]),
        window=rows.number("window", 0.0),
        acts=acts,
        kv=known_format(rows.text("kv_dtype") or acts),
        paged=True,
        label="attention",
    )
    return _with_helpers(rows, machine, attention)


def _latent_attention(rows: Rows, machine: Machine) -> Work:
    """MLA: prefill with expanded keys and values, decode on the latent itself."""
    acts = known_format(rows.text("dtype"))
    absorbed = bool(rows.number("kv_heads")[0] == 1.0 and rows.number("head_dim")[0] > 256.0)
    attention = Attention(
        **_sizes(rows, "batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim"),
        value_dim=rows.extra("kv_lora", 512.0) if absorbed else rows.extra("v_dim", 128.0),
        causal=bool(rows.number("causal", 1.0)[0]),
        latent=absorbed,
        acts=acts,
        kv=known_format(rows.text("kv_dtype") or acts),
        paged=True,
        label="attention",
    )
    return _with_helpers(rows, machine, attention)


def _with_helpers(rows: Rows, machine: Machine, attention: Attention) -> Work:
    """What a framework's attention layer runs beside the kernel, where the table timed the layer.

    TensorRT-LLM sorts and converts queries, keys and values of a prompt first; SGLang writes keys and values into the
    cache, and converts them in kernels of their own where formats differ. Kernels for Hopper and later only: earlier
    ones do it themselves.
    """
    if machine.device.family not in {"hopper", "blackwell"}:
        return attention
    framework, phase = rows.text("framework"), rows.tag("phase")
    tokens = attention.batch * attention.q_len
    stored, key_values = FORMATS[attention.kv].bytes, 2.0 * attention.kv_heads * attention.head_dim
    if framework == "trtllm" and phase in {"prefill", "encoder"}:
        queries = attention.heads * attention.head_dim
        read, written = 2.0 * (queries + key_values), FORMATS[attention.acts].bytes * queries + stored * key_values
        launches = 3.0
    elif framework == "sglang" and attention.acts != attention.kv:
        read, written, launches = 2.0 * key_values, stored * key_values, 3.0
    else:
        return attention
    moved = 0.0 if rows.text("op") == "mla_attention" else 1.0
    helper = Stream(
        read_bytes=moved * tokens * read,
        write_bytes=moved * tokens * written,
        pattern="copy",
        launches=launches,
        label="prepare",
    )
    return Seq(helper, attention)


def _cache_bytes(rows: Rows) -> Array:
    """Keys and values of a decode step, which its harness reads again and again; prompts count as never repeated."""
    if rows.tag("phase") != "decode":
        return np.full(len(rows), np.inf)
    window = rows.number("window", 0.0)
    keys = np.where(window > 0.0, np.minimum(rows.number("kv_len"), window), rows.number("kv_len"))
    latent = rows.text("op") == "mla_attention"
    width = rows.number("head_dim") if latent else 2.0 * rows.number("kv_heads") * rows.number("head_dim")
    bytes_per_step = rows.number("batch") * keys * width * FORMATS[known_format(rows.text("kv_dtype") or "bf16")].bytes
    return np.asarray(bytes_per_step / harness_of(rows.text("source")).copies)


def _sizes(rows: Rows, *names: str) -> dict[str, Any]:
    return {name: rows.number(name) for name in names}


# DeepSeek-V3: hidden size, ranks of query and key/value compression, head dimensions (rotary, content, value).
_HIDDEN, _Q_RANK, _KV_RANK, _ROTARY, _CONTENT, _VALUE = 7168.0, 1536.0, 512.0, 64.0, 128.0, 128.0


def _layer(rows: Rows, machine: Machine) -> Work:
    """A whole MLA block with its projections, as TensorRT-LLM runs it."""
    if not rows.tag("name").startswith("mla_") or rows.tag("model") not in {"deepseek-v3", "deepseek-r1"}:
        raise InexpressibleError(f"layer '{rows.tag('name')}' of {rows.tag('model')}")
    acts, weights, out = operand_formats(rows)
    batch, heads, q_len = rows.number("batch"), rows.number("heads"), rows.number("q_len")
    tokens = batch * q_len
    kv = known_format(rows.text("kv_dtype") or "bf16")

    def project(n: Array | float, k: Array | float, label: str) -> Work:
        product = Gemm(m=tokens, n=n, k=k, acts=acts, weights=weights, out=out, label=label)
        return product if acts == "bf16" else Seq(_passes(tokens, k, "quantize", 0.75), product)

    def absorb(n: float, k: float, label: str) -> Gemm:
        return Gemm(m=tokens, n=n, k=k, batch=heads, label=label)

    decode = rows.tag("phase") == "decode"
    attention = Attention(
        batch=batch,
        heads=heads,
        kv_heads=1.0 if decode else heads,
        q_len=q_len,
        kv_len=rows.number("kv_len"),
        head_dim=_KV_RANK + _ROTARY if decode else _CONTENT + _ROTARY,
        value_dim=_KV_RANK if decode else _VALUE,
        latent=decode,
        kv=kv,
        label="attention",
    )
    before: list[Work] = [
        Gemm(m=tokens, n=_Q_RANK + _KV_RANK + _ROTARY, k=_HIDDEN, acts=acts, weights=weights, out=out, label="down"),
        _passes(tokens, _Q_RANK + _KV_RANK, "norm", 1.0, launches=2.0),
        project(heads * (_CONTENT + _ROTARY), _Q_RANK, "query up"),
        _passes(tokens, heads * _ROTARY + _ROTARY, "elementwise", 1.0),
    ]
    inner: list[Work] = (
        [absorb(_KV_RANK, _CONTENT, "absorb keys"), attention, absorb(_VALUE, _KV_RANK, "absorb values")]
        if decode
        else [project(heads * (_CONTENT + _VALUE), _KV_RANK, "key and value up"), attention]
    )
    return Seq(*before, *inner, project(_HIDDEN, heads * _VALUE, "output"))


def _passes(rows: Array, columns: Array | float, pattern: str, passes: float, launches: float = 1.0) -> Stream:
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


def _library(rows: Rows) -> str:
    """Kernels that the tables' own coefficients do not describe: Triton's, and the paged attention of vLLM's first years."""
    if "triton" in rows.tag("kernel"):
        return "triton"
    return "paged_2023" if rows.text("source") == "llmservingsim-v0" and rows.tag("phase") == "decode" else ""


BUILDERS = {
    "attention": Builder(
        _attention,
        tags=("phase", "kernel"),
        numbers=("causal",),
        repeated_bytes=_cache_bytes,
        library=_library,
        split=_alone,
    ),
    "mla_attention": Builder(
        _latent_attention,
        tags=("phase", "kernel"),
        numbers=("causal", "kv_heads", "head_dim"),
        repeated_bytes=_cache_bytes,
        library=_library,
    ),
    "layer": Builder(_layer, tags=("name", "model", "phase")),
}
