"""Rows of attention kernels and of whole attention layers as works."""

from __future__ import annotations

from typing import Any

import numpy as np

from ridgepoint.evidence.attention_passes import (
    keeps_latent,
    multiplied,
    packed,
    parts,
    small_scratch,
    stored,
    triton_tile,
    widens_cache,
    with_passes,
)
from ridgepoint.evidence.harness import harness_of
from ridgepoint.evidence.matrix_rows import known_format
from ridgepoint.evidence.rows import Builder, Rows
from ridgepoint.evidence.tables import Table
from ridgepoint.formats import FORMATS
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array, Num
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


def _unfused(table: Table, row: int) -> bool:
    """Whether TensorRT-LLM lacks a fused kernel: on Blackwell for heads of 72, a ninth of a tile's row more than 64."""
    mine = table.text["framework"][row] == "trtllm" and table.extra[row].get("phase") == "encoder"
    blackwell = mine and find_machine(table.text["machine"][row]).device.family == "blackwell"
    return bool(blackwell and table.numbers["head_dim"][row] % 16.0)


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
        launches=3.5,
        label="one head at a time",
    )


def _attention(rows: Rows, machine: Machine) -> Work:
    if _alone(rows.table, int(rows.index[0])):
        return _one_head_at_a_time(rows)
    if _unfused(rows.table, int(rows.index[0])):
        return _products(rows)
    head_dim = rows.number("head_dim")
    kv = stored(rows)
    library = _library(rows)
    old, triton = library == "paged_2023", library.startswith("triton_prompt")
    attention = Attention(
        **_sizes(rows, "batch", "heads", "kv_heads", "q_len", "kv_len"),
        head_dim=_wide(rows, head_dim),
        value_dim=_wide(rows, np.where(head_dim == 192.0, 128.0, head_dim)),
        causal=bool(rows.number("causal", 1.0)[0]),
        # Triton's kernel for prompts masks what lies outside the window, and goes through it all the same.
        window=0.0 if triton else rows.number("window", 0.0),
        acts=multiplied(rows, machine, kv),
        kv=kv,
        split="none" if old or (kv == "fp8" and _whole_keys(rows, machine)) else "fixed",
        packed=1.0 if old else packed(rows),
        parts=parts(rows),
        tile=_tile(rows, machine, head_dim),
        heads_first=triton,
        prompt=rows.tag("phase") != "decode",
        paged=True,
        label="attention",
    )
    return with_passes(rows, machine, attention)


def _wide(rows: Rows, dim: Array) -> Array:
    """The head size that the kernel's tiles have, where that is not the next multiple of 32: Triton's tiles are powers of two
    (or one and a half), those of TensorRT-LLM for 8 bits before Hopper 128 at least."""
    library = _library(rows)
    if library.startswith("triton_prompt"):
        return np.asarray(np.where(np.isin(dim, (192.0, 288.0, 576.0)), dim, 2.0 ** np.ceil(np.log2(dim))))
    return np.maximum(dim, 128.0) if library.startswith("fmha_v2-fp8") else dim


def _tile(rows: Rows, machine: Machine, head_dim: Array) -> Num:
    """Queries of a prompt's block, where the library's source says less than the machine's kernels take."""
    if _library(rows).startswith("triton_prompt"):
        return triton_tile(machine, head_dim)
    two = rows.text("source") == "llmservingsim-v0" and rows.tag("phase") == "prefill"  # vLLM with FlashAttention-2
    return 64.0 if two and small_scratch(machine) else 0.0


def _products(rows: Rows) -> Work:
    """Attention without a fused kernel: products with 32-bit scores between them in memory."""
    batch, heads, head_dim = (rows.number(name) for name in ("batch", "heads", "head_dim"))
    q_len, kv_len = rows.number("q_len"), rows.number("kv_len")
    scores = batch * heads * q_len * kv_len
    return Seq(
        Gemm(m=q_len, n=kv_len, k=head_dim, batch=batch * heads, out="fp32", label="scores"),
        Stream(
            read_bytes=4.0 * scores,
            write_bytes=2.0 * scores,
            special=scores,
            pattern="softmax",
            launches=4.0,
            label="softmax",
        ),
        Gemm(m=q_len, n=head_dim, k=kv_len, batch=batch * heads, label="values"),
    )


def _latent_attention(rows: Rows, machine: Machine) -> Work:
    """MLA: decode on the latent itself, prefill with expanded keys and values but for libraries that keep the latent."""
    whole = _whole_keys(rows, machine)
    absorbed = bool(rows.number("kv_heads")[0] == 1.0 and rows.number("head_dim")[0] > 256.0)
    # Its TensorRT-LLM keeps the latent in 16 bits on Ampere and Ada, whatever it is told: equal times.
    kv = "bf16" if whole else stored(rows)
    sizes = _sizes(rows, "batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim")
    latent, rotary = rows.extra("kv_lora", 512.0), rows.extra("qk_rope", 64.0)
    kept = absorbed or keeps_latent(rows)
    triton = _library(rows).startswith("triton_prompt")
    if kept:
        sizes |= {"kv_heads": np.ones(len(rows)), "head_dim": latent + rotary}
    attention = Attention(
        **sizes,
        value_dim=latent if kept else rows.extra("v_dim", 128.0),
        causal=bool(rows.number("causal", 1.0)[0]),
        latent=kept,
        acts=multiplied(rows, machine, kv),
        kv="bf16" if widens_cache(rows) else kv,
        split="none" if whole else "fixed",
        packed=packed(rows),
        parts=parts(rows),
        tile=_tile(rows, machine, sizes["head_dim"]),
        heads_first=triton,
        prompt=rows.tag("phase") != "decode",
        paged=True,
        label="attention",
    )
    return with_passes(rows, machine, attention)


def _whole_keys(rows: Rows, machine: Machine) -> bool:
    """TensorRT-LLM's decode kernels for 8-bit keys and for latents leave keys whole before Hopper.

    A lone sequence takes 20 clocks per key and 64 values on L40S however many multiprocessors are idle.
    """
    older = machine.device.family in {"ampere", "ada"}
    return older and rows.text("framework") == "trtllm" and rows.tag("phase") == "decode"


def _cache_bytes(rows: Rows) -> Array:
    """What a run reads and writes, which the harness's next run finds again: it replays one graph."""
    copies = harness_of(rows.text("source")).copies
    stored = FORMATS[known_format(rows.text("kv_dtype") or "bf16")].bytes
    if rows.tag("phase") != "decode":
        values = 2.0 * (rows.number("heads") * 2.0 + rows.number("kv_heads") * stored) * rows.number("head_dim")
        return np.asarray(rows.number("batch") * rows.number("q_len") * values / copies)
    window = rows.number("window", 0.0)
    keys = np.where(window > 0.0, np.minimum(rows.number("kv_len"), window), rows.number("kv_len"))
    latent = rows.text("op") == "mla_attention"
    width = rows.number("head_dim") if latent else 2.0 * rows.number("kv_heads") * rows.number("head_dim")
    return np.asarray(rows.number("batch") * keys * width * stored / copies)


def _sizes(rows: Rows, *names: str) -> dict[str, Any]:
    return {name: rows.number(name) for name in names}


def _library(rows: Rows) -> str:
    """Kernels that the tables' own coefficients do not describe.

    Triton's, the paged attention of vLLM's first years, and TensorRT-LLM's own before Blackwell: ``fmha_v2`` for prompts,
    ``xqa`` for decoding. Its MLA kernels for Hopper are FlashMLA's.
    """
    phase = rows.tag("phase")
    latent = rows.text("op") == "mla_attention"
    narrow = "-fp8" if known_format(rows.text("dtype")) == "fp8" else ""
    if "triton" in rows.tag("kernel"):
        return ("triton_latent" if latent else "triton") if phase == "decode" else f"triton_prompt{narrow}"
    family = find_machine(rows.text("machine")).device.family
    if rows.text("source") == "llmservingsim-v0":
        return "paged_2023" if phase == "decode" else "flash_2" if family == "hopper" else ""
    if rows.text("framework") == "trtllm" and family != "blackwell":
        if latent and family == "hopper":
            return ""
        if phase == "decode":
            return "xqa"
        if family == "hopper" or not narrow:
            return "fmha_v2"
        return f"fmha_v2{narrow}_wide" if _wide_tile(rows.table, int(rows.index[0])) else f"fmha_v2{narrow}"
    return ""


def _wide_tile(table: Table, row: int) -> bool:
    """Heads whose 8-bit tiles do not fit the registers before Hopper: TensorRT-LLM's kernels cut none of them up."""
    mine = table.text["framework"][row] == "trtllm" and table.text["dtype"][row] == "fp8"
    return bool(mine and table.numbers["head_dim"][row] > 192.0)


BUILDERS = {
    "attention": Builder(
        _attention,
        tags=("phase", "kernel"),
        numbers=("causal",),
        repeated_bytes=_cache_bytes,
        library=_library,
        split=lambda table, row: (_alone(table, row), _unfused(table, row), _wide_tile(table, row)),
    ),
    "mla_attention": Builder(
        _latent_attention,
        tags=("phase", "kernel"),
        numbers=("causal", "kv_heads", "head_dim"),
        repeated_bytes=_cache_bytes,
        library=_library,
    ),
}
