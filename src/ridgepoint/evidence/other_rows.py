"""Rows of attention, recurrent layers, memory-bound kernels, collectives and whole attention layers as works."""

from __future__ import annotations

from typing import Any

import numpy as np

from ridgepoint.evidence.harness import harness_of
from ridgepoint.evidence.matrix_rows import operand_formats
from ridgepoint.evidence.rows import Builder, InexpressibleError, Rows, timed
from ridgepoint.formats import FORMATS
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array
from ridgepoint.ops import Attention, Collective, Gemm, Host, Scan, Stream
from ridgepoint.work import Seq, Work


def _attention(rows: Rows, machine: Machine) -> Work:
    acts = _known(rows.text("dtype"))
    sizes = _sizes(rows, "batch", "heads", "kv_heads", "q_len", "kv_len")
    head_dim = rows.number("head_dim")
    attention = Attention(
        **sizes,
        head_dim=head_dim,
        value_dim=np.where(head_dim == 192.0, 128.0, head_dim),
        causal=bool(rows.number("causal", 1.0)[0]),
        window=rows.number("window", 0.0),
        acts=acts,
        kv=_known(rows.text("kv_dtype") or acts),
        paged=True,
        label="attention",
    )
    return _with_helpers(rows, machine, attention)


def _latent_attention(rows: Rows, machine: Machine) -> Work:
    """MLA: prefill with expanded keys and values, decode on the latent itself."""
    acts = _known(rows.text("dtype"))
    absorbed = bool(rows.number("kv_heads")[0] == 1.0 and rows.number("head_dim")[0] > 256.0)
    attention = Attention(
        **_sizes(rows, "batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim"),
        value_dim=rows.extra("kv_lora", 512.0) if absorbed else rows.extra("v_dim", 128.0),
        causal=bool(rows.number("causal", 1.0)[0]),
        latent=absorbed,
        acts=acts,
        kv=_known(rows.text("kv_dtype") or acts),
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
    bytes_per_step = rows.number("batch") * keys * width * FORMATS[_known(rows.text("kv_dtype") or "bf16")].bytes
    return np.asarray(bytes_per_step / harness_of(rows.text("source")).copies)


def _sizes(rows: Rows, *names: str) -> dict[str, Any]:
    return {name: rows.number(name) for name in names}


def _known(name: str) -> str:
    if name not in FORMATS:
        raise InexpressibleError(f"unknown format '{name}'")
    return name


# Passes over m × n values (read, written), simple operations and special functions per value.
_STREAMS: dict[str, tuple[float, float, float, float]] = {
    "softmax": (1.0, 1.0, 4.0, 1.0),
    "norm": (1.0, 1.0, 5.0, 0.0),
    "copy": (1.0, 1.0, 0.0, 0.0),
    "add": (2.0, 1.0, 1.0, 0.0),
    "mul": (2.0, 1.0, 1.0, 0.0),
    "div": (2.0, 1.0, 1.0, 1.0),
    "pow": (2.0, 1.0, 4.0, 2.0),
    "addu": (1.0, 1.0, 1.0, 0.0),
    "mulu": (1.0, 1.0, 1.0, 0.0),
    "divu": (1.0, 1.0, 1.0, 0.0),
    "powu": (1.0, 1.0, 4.0, 2.0),
    "relu": (1.0, 1.0, 1.0, 0.0),
    "gelu": (1.0, 1.0, 8.0, 1.0),
    "tanh": (1.0, 1.0, 4.0, 1.0),
    "mlp_act": (2.0, 1.0, 3.0, 1.0),
    "act_fn": (2.0, 1.0, 3.0, 1.0),
    "attn_rope": (1.0, 1.0, 4.0, 0.0),
    "rope": (1.0, 1.0, 4.0, 0.0),
}
_PATTERNS = {"softmax": "softmax", "norm": "norm", "copy": "gather"}
# Layers that one source ran unfused, as framework operations: (kernels, bytes per value). RMSNorm was; LayerNorm was not.
_UNFUSED = {("llmservingsim-v0", "norm"): (7.0, 34.0), ("llmservingsim-v0", "rope"): (9.0, 20.0)}
_LAYER_NORM = ("phi",)


def _stream(rows: Rows, machine: Machine) -> Work:
    op, name = rows.text("op"), rows.tag("name")
    key = name if op == "elementwise" else op
    if key not in _STREAMS:
        raise InexpressibleError(f"{op} kernel '{name}'")
    acts = _known(rows.text("dtype"))
    values, size = rows.number("m") * rows.number("n"), FORMATS[acts].bytes
    reads, writes, flop, special = _STREAMS[key]
    launches = 1.0
    unfused = _UNFUSED.get((rows.text("source"), key))
    if unfused is not None and not rows.tag("model").startswith(_LAYER_NORM):
        launches, moved = unfused
        reads = writes = moved / 2.0 / size
    kernel = Stream(
        read_bytes=reads * values * size,
        write_bytes=writes * values * size,
        flop=flop * values,
        special=special * values,
        pattern=_PATTERNS.get(op, "elementwise"),
        rows=rows.number("m") if op in {"softmax", "norm"} else 0.0,
        launches=launches,
        label=key,
    )
    return timed(rows, kernel)


def _quantize(rows: Rows, machine: Machine) -> Work:
    m, n, out = rows.number("m"), rows.number("n"), _known(rows.text("dtype"))
    name = rows.tag("name")
    if name not in {"compute_scale", "scale_matrix"}:
        raise InexpressibleError(f"quantize kernel '{name}'")
    amax = name == "compute_scale"
    if not amax and rows.text("framework") == "sglang":  # plain framework operations, most of them on 32-bit values
        return Stream(
            read_bytes=14.0 * m * n, write_bytes=13.0 * m * n, flop=4.0 * m * n, launches=4.0, label="scale unfused"
        )
    return Stream(
        read_bytes=2.0 * m * n,
        write_bytes=(0.0 if amax else FORMATS[out].bytes) * m * n,
        flop=(1.0 if amax else 4.0) * m * n,
        pattern="quantize",
        launches=3.0 if amax and rows.text("framework") == "trtllm" else 1.0,
        label=name,
    )


def _scan(rows: Rows, machine: Machine) -> Work:
    """One kernel of a recurrent layer: the short convolution in front of it, or the recurrence."""
    kernel, variant = rows.tag("kernel"), {"gdn": "gated_delta", "kda": "gated_delta"}.get(rows.tag("name"), "mamba2")
    heads, groups = rows.number("heads"), rows.number("kv_heads", 1.0)
    head_dim = rows.number("head_dim")
    state_dim = rows.extra("d_state" if variant == "mamba2" else "k_dim", 128.0)
    batch, seq = rows.number("batch"), rows.number("q_len")
    if kernel.startswith("causal_conv1d"):
        channels = heads * head_dim + 2.0 * groups * state_dim
        return _short_convolution(batch, seq, channels, rows.extra("d_conv", 4.0), 3.0 if "qkv3" in kernel else 1.0)
    return Scan(
        batch=batch,
        seq=seq,
        heads=heads,
        head_dim=head_dim,
        state_dim=state_dim,
        groups=groups,
        chunk=64.0 if variant == "gated_delta" else rows.extra("chunk", 128.0),
        variant=variant,
        label="recurrence",
    )


def _short_convolution(batch: Array, seq: Array, channels: Array, width: Array, launches: float) -> Stream:
    state = batch * channels * (width - 1.0) * 2.0
    values = batch * seq * channels
    return Stream(
        read_bytes=2.0 * values + state,
        write_bytes=2.0 * values + state,
        flop=2.0 * width * values,
        special=values,
        launches=launches,
        label="short convolution",
    )


def _collective(rows: Rows, machine: Machine) -> Work:
    kernel = Collective(
        operation=rows.text("op"),
        bytes=rows.number("bytes"),
        ranks=float(rows.number("ranks")[0]),
        algorithm="nccl" if rows.text("framework") == "nccl" else "auto",
    )
    return Seq(Host(seconds=_EAGER_S, label="eager call"), kernel) if "eager" in rows.tag("kernel") else kernel


# A custom all-reduce launched from eager framework code.
_EAGER_S = 20e-6
# What one source's hosts had between them, in bytes per second and device, by devices of a node that took part.
_NETWORK = {
    ("vidur", "a100-sxm-80gb"): {1: 8e9, 2: 2.5e9, 4: 3.7e9},
    ("vidur", "a100-pcie-80gb"): {1: 2.5e9},
}
_BRIDGE = 0.6  # part of the host link that traffic between pairs keeps on its way through the processor


def _cluster(rows: Rows) -> str:
    """The machine that the ranks are part of: whole nodes, several of them, or pairs joined by the host's links."""
    ranks, nodes, name = int(rows.number("ranks")[0]), int(rows.number("nodes", 1.0)[0]), rows.text("machine")
    if ranks % nodes:
        raise InexpressibleError(f"{ranks} ranks on {nodes} nodes")
    link = find_machine(name).link("node")
    largest = int((link[1].devices if link is not None else None) or 8)
    if nodes == 1 and ranks > largest:
        host = find_machine(name).link("host")
        if host is None or ranks % largest:
            raise InexpressibleError(f"{ranks} ranks of {name} in one node")
        return f"{ranks // largest}x{largest}x{name}@network={_BRIDGE * host[1].bandwidth / largest / 1e9:g}GB/s"
    if nodes == 1:
        return f"{largest}x{name}" if largest > 1 else name
    rate = _NETWORK.get((rows.text("source"), name), {}).get(ranks // nodes, 0.0)
    network = f"@network={rate / 1e9:g}GB/s" if rate else ""
    return f"{nodes}x{ranks // nodes}x{name}{network}"


# DeepSeek-V3: hidden size, ranks of query and key/value compression, head dimensions (rotary, content, value).
_HIDDEN, _Q_RANK, _KV_RANK, _ROTARY, _CONTENT, _VALUE = 7168.0, 1536.0, 512.0, 64.0, 128.0, 128.0


def _layer(rows: Rows, machine: Machine) -> Work:
    """A whole MLA block with its projections, as TensorRT-LLM runs it."""
    if not rows.tag("name").startswith("mla_") or rows.tag("model") not in {"deepseek-v3", "deepseek-r1"}:
        raise InexpressibleError(f"layer '{rows.tag('name')}' of {rows.tag('model')}")
    acts, weights, out = operand_formats(rows)
    batch, heads, q_len = rows.number("batch"), rows.number("heads"), rows.number("q_len")
    tokens = batch * q_len
    kv = _known(rows.text("kv_dtype") or "bf16")

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


_STREAM = Builder(_stream, tags=("name", "model"))
_COLLECTIVE = Builder(_collective, tags=("kernel",), numbers=("ranks", "nodes"), place=_cluster)
BUILDERS = {
    "attention": Builder(_attention, tags=("phase",), numbers=("causal",), repeated_bytes=_cache_bytes),
    "mla_attention": Builder(
        _latent_attention, tags=("phase",), numbers=("causal", "kv_heads", "head_dim"), repeated_bytes=_cache_bytes
    ),
    "softmax": _STREAM,
    "norm": _STREAM,
    "elementwise": _STREAM,
    "copy": _STREAM,
    "quantize": Builder(_quantize, tags=("name",)),
    "scan": Builder(_scan, tags=("kernel", "name", "phase")),
    "layer": Builder(_layer, tags=("name", "model", "phase")),
    "all_reduce": _COLLECTIVE,
    "all_gather": _COLLECTIVE,
    "reduce_scatter": _COLLECTIVE,
    "all_to_all": _COLLECTIVE,
    "send_recv": _COLLECTIVE,
}
