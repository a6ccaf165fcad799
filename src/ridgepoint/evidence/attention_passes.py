"""What libraries run beside an attention kernel where a table timed the layer, and in which format they compute it.

Facts of the libraries (the attention backends of SGLang 0.5 and of TensorRT-LLM 1.x) and of how many launches the smallest
rows of each take, so that a machine's start of attention is fitted to attention. Nothing here is a rate of a machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.evidence.matrix_rows import known_format
from ridgepoint.evidence.rows import Rows
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num
from ridgepoint.ops import Attention, Stream
from ridgepoint.work import Seq, Work


@dataclass(frozen=True)
class _Passes:
    """Launches beside the kernel; more, or fewer, where the cache has 8 bits (conversions, fused kernels)."""

    launches: float
    narrow: float = 0.0


_PASSES = {
    # Sequence offsets and counters, rotary embedding with the write into the cache, in kernels of their own.
    ("attention", "trtllm", "prefill"): _Passes(4.0, 0.5),
    ("attention", "trtllm", "encoder"): _Passes(3.0),
    ("attention", "trtllm", "decode"): _Passes(1.0),
    # The write into the cache; FlashAttention-3 plans its blocks first, Triton joins splits afterwards.
    ("attention", "flash_attention_v3", "encoder"): _Passes(0.5),
    ("attention", "triton", "encoder"): _Passes(1.0),
    ("attention", "fa3", "decode"): _Passes(1.0, 1.5),
    ("attention", "fa3", "prefill"): _Passes(1.0),
    ("attention", "flash_attention", "decode"): _Passes(2.5),
    ("attention", "flash_attention", "prefill"): _Passes(2.5),
    ("attention", "flashinfer", "decode"): _Passes(0.5, 2.5),
    ("attention", "flashinfer", "prefill"): _Passes(0.5, 1.5),
    ("attention", "triton", "decode"): _Passes(0.25, 1.25),
    ("attention", "triton", "prefill"): _Passes(1.0, 2.0),
    ("attention", "trtllm_mha", "decode"): _Passes(0.25, 4.25),
    ("attention", "trtllm_mha", "prefill"): _Passes(1.0, 3.5),
    ("mla_attention", "trtllm", "prefill"): _Passes(3.5, 1.25),
    ("mla_attention", "trtllm", "decode"): _Passes(2.0),
    ("mla_attention", "flash_attention", "prefill"): _Passes(2.0, 2.5),
    ("mla_attention", "flash_attention", "decode"): _Passes(2.0, 2.5),
    ("mla_attention", "triton", "prefill"): _Passes(0.5, 2.0),
    ("mla_attention", "triton", "decode"): _Passes(2.0, 2.0),
    ("mla_attention", "trtllm_mla", "prefill"): _Passes(2.5, 3.25),
    ("mla_attention", "trtllm_mla", "decode"): _Passes(1.25),
}
_OLDER = {"ampere", "ada"}
_USUAL = {"encoder": _Passes(0.0), "prefill": _Passes(1.0, 2.0), "decode": _Passes(1.0, 2.0)}
"""A library that is not listed writes the cache in a kernel of its own, and converts keys and values in two."""
_PACKED = ("fa3", "flash_attn", "flash_attention", "flashinfer")
_WIDEN_FLOP = 100.0
"""PyTorch widens an 8-bit number to 16 bits at a thirtieth of a byte per clock and lane, far below any bandwidth."""


def with_passes(rows: Rows, machine: Machine, attention: Attention) -> Work:
    """The attention kernel behind what the library runs first; alone where a source timed kernels and not layers."""
    phase, op = rows.tag("phase"), rows.text("op")
    if not rows.tag("kernel") or phase not in _USUAL:
        return attention
    passes = _PASSES.get((op, library(rows), phase), _USUAL[phase])
    converted = _converts(rows)
    launches: Num = passes.launches + (passes.narrow if converted else 0.0)
    if op == "attention":
        launches = launches + _further(rows, machine, converted)
    elif attention.acts == "bf16" and converted and library(rows) == "trtllm":
        launches = passes.launches  # nothing is converted
    elif (library(rows), phase, machine.device.family) == ("trtllm", "decode", "blackwell"):
        launches = launches - 1.0
    moved = _moved_latents if op == "mla_attention" else _moved
    read, written, flop = moved(rows, attention, converted)
    before = Stream(read_bytes=read, write_bytes=written, flop=flop, pattern="copy", launches=launches, label="prepare")
    return Seq(before, attention)


def _further(rows: Rows, machine: Machine, converted: bool) -> Num:
    """Launches that some machines or shapes add, or save."""
    head_dim = rows.number("head_dim")
    if library(rows) == "flash_attention_v3":  # head sizes between those of its tiles
        return np.where(head_dim % 32.0, 2.0, 0.0)
    family, decode = machine.device.family, rows.tag("phase") == "decode"
    if rows.text("framework") == "sglang":
        # Keys of 192 and values of 128 dimensions are written one after the other; Triton's prompts look up their windows.
        windowed = (rows.number("window", 0.0) > 0.0) & (library(rows) == "triton" and not decode and not converted)
        planned = 3.0 if family == "blackwell" and library(rows) == "flashinfer" and not decode else 0.0
        return np.where((head_dim == 192.0) | windowed, 3.0, planned)
    if rows.text("framework") != "trtllm":
        return 0.0
    if family == "blackwell":
        return 0.5 if decode else 0.0
    if family not in (*_OLDER, "hopper"):
        return 0.0
    if family == "hopper":  # kernels for 8-bit keys embed positions and write the cache themselves
        return (-1.0 if converted else -0.5) if decode else 0.0
    if decode:  # kernels before Hopper do that in further launches
        return 2.0 if converted else 1.0
    return 0.0 if rows.tag("phase") == "encoder" else -2.0 if converted else -1.5


def library(rows: Rows) -> str:
    """Whose kernels ran: TensorRT-LLM picks its own, elsewhere the row names the backend (vLLM with its version)."""
    if rows.text("framework") == "trtllm":
        return "trtllm"
    name = rows.tag("kernel").removeprefix("vllm_")
    return "fa3" if name == "flash_attn_fa3" else name


def stored(rows: Rows) -> str:
    """The format of the cache."""
    return known_format(rows.text("kv_dtype") or rows.text("dtype"))


def _converts(rows: Rows) -> bool:
    """Whether kernels of their own convert to 8 bits: SGLang's collector hands 8-bit prompts over but to one backend, and
    vLLM's write into the cache converts.
    """
    given = rows.text("dtype") == "fp8" and rows.text("framework") == "sglang" and rows.tag("kernel") != "trtllm_mha"
    return stored(rows) != "bf16" and not given and rows.text("framework") != "vllm"


def _moved(rows: Rows, op: Attention, converted: bool) -> tuple[Num, Num, Num]:
    """Bytes read, bytes written and operations of the passes over queries and new keys and values."""
    tokens, narrow = op.batch * op.q_len, FORMATS[stored(rows)].bytes
    queries, new = op.heads * op.head_dim, 2.0 * op.kv_heads * op.head_dim
    if library(rows) == "trtllm" and rows.tag("phase") != "decode":
        return tokens * 2.0 * (queries + new), tokens * (FORMATS[op.acts].bytes * queries + narrow * new), 0.0
    if rows.tag("phase") == "encoder":
        return 0.0, 0.0, 0.0
    if not converted:
        return tokens * narrow * new, tokens * narrow * new, 0.0
    turned = queries if op.acts != "bf16" else 0.0  # queries too where the product has 8 bits
    return tokens * (3.0 * new + 2.0 * turned), tokens * (2.0 * new + turned), 0.0


def _moved_latents(rows: Rows, op: Attention, converted: bool) -> tuple[Num, Num, Num]:
    """The same for MLA: rotary embedding in place or queries joined, conversion of all that an 8-bit product reads."""
    tokens, rotary = op.batch * op.q_len, rows.extra("qk_rope", 64.0)
    latent = rows.extra("kv_lora", 512.0) + rotary
    if widens_cache(rows):
        cached = op.batch * op.kv_len * latent
        return cached, 2.0 * cached, _WIDEN_FLOP * cached
    narrow = converted and op.acts != "bf16"
    queries = op.heads * op.head_dim
    if library(rows) == "trtllm":
        keys = 0.0 if op.latent else op.heads * (op.head_dim + op.value_dim)
        turned = queries + keys if narrow else op.heads * rotary
    else:
        turned = queries if library(rows) == "trtllm_mla" else latent
    return tokens * 2.0 * turned, tokens * (1.0 if narrow else 2.0) * turned, 0.0


def keeps_latent(rows: Rows) -> bool:
    """SGLang's FlashAttention-3 and Triton backends run a prompt on the latent too, as their collector calls them."""
    latent = rows.tag("kernel") in {"flash_attention", "fa3", "triton"}
    return rows.text("op") == "mla_attention" and rows.text("framework") == "sglang" and latent


def widens_cache(rows: Rows) -> bool:
    """SGLang's FlashAttention-3 backend converts a whole 8-bit latent cache to 16 bits before each MLA kernel."""
    return stored(rows) == "fp8" and keeps_latent(rows) and rows.tag("kernel") != "triton"


def multiplied(rows: Rows, machine: Machine, kv: str) -> str:
    """The format of the products: the row's, or 8 bits where a library converts queries to the cache's format.

    FlashAttention-3 does, and TensorRT-LLM's kernels behind SGLang, for prompts on Hopper, and for MLA since Hopper.
    """
    acts, family = known_format(rows.text("dtype")), machine.device.family
    if kv != "fp8":
        return acts
    if rows.text("framework") == "trtllm":
        mla = rows.text("op") == "mla_attention" and family in {"hopper", "blackwell"}
        return "fp8" if mla or (family == "hopper" and rows.tag("phase") == "prefill") else acts
    return "fp8" if library(rows) in {"fa3", "trtllm_mha", "trtllm_mla"} else acts


def packed(rows: Rows) -> float:
    """How many heads that share keys a block takes, 0 for all: all in decode kernels (16 in Triton's) and in
    FlashAttention's and FlashInfer's for prompts, one in other kernels for prompts.
    """
    name, decode = rows.tag("kernel"), rows.tag("phase") == "decode"
    if name == "triton" and decode:
        return 16.0
    every = decode or rows.text("op") == "mla_attention" or not name or any(part in name for part in _PACKED)
    return 0.0 if every else 1.0


def parts(rows: Rows) -> float:
    """SGLang's Triton backend splits the keys of a decode step into eight at most."""
    return 8.0 if rows.tag("kernel") == "triton" and rows.tag("phase") == "decode" else 0.0


_SMALL_SCRATCH = 128e3
"""Bytes of shared memory on a multiprocessor below which libraries take smaller tiles (compute capability 8.6 and 8.9 have
100 KB, 8.0 has 164)."""


def small_scratch(machine: Machine) -> bool:
    """Whether FlashAttention-2's and Triton's tiles are those of the smaller Ampere and Ada chips."""
    scratch = machine.device.memory.get("shared")
    small = scratch is not None and scratch.capacity / machine.multiprocessors < _SMALL_SCRATCH
    return machine.device.family in (*_OLDER, "blackwell_rtx") and small


def triton_tile(machine: Machine, head_dim: Num) -> Num:
    """Queries of a block of SGLang's Triton kernels for prompts, by head size and generation, as their source says."""
    wide = np.asarray(head_dim)
    small = small_scratch(machine)
    if machine.device.family not in _OLDER and not small:
        return np.where(wide <= 256.0, 128.0, 32.0)
    narrow = 64.0 if small else 128.0
    return np.where(wide <= 128.0, narrow, np.where(wide <= 256.0, 64.0, 32.0))
