"""Rows of recurrent layers, memory-bound kernels and collectives as works."""

from __future__ import annotations

import numpy as np

from ridgepoint.evidence.harness import harness_of
from ridgepoint.evidence.matrix_rows import amax_launches, known_format
from ridgepoint.evidence.rows import Builder, InexpressibleError, Rows, timed
from ridgepoint.evidence.run_scenarios import BRIDGE
from ridgepoint.evidence.tables import Table
from ridgepoint.formats import FORMATS
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array, Num
from ridgepoint.ops import Collective, Delay, Host, Scan, Stream
from ridgepoint.work import Overlap, Seq, Work

# Passes over m × n values (read, written), simple operations and special functions per value.
_STREAMS: dict[str, tuple[float, float, float, float]] = {
    "softmax": (1.0, 1.0, 4.0, 1.0),
    "norm": (1.0, 1.0, 5.0, 0.0),
    "copy": (1.0, 1.0, 0.0, 0.0),
    "embedding": (1.0, 1.0, 0.0, 0.0),
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
_PATTERNS = {
    **{"softmax": "softmax", "norm": "norm", "copy": "copy", "embedding": "gather"},
    **{"mlp_act": "gate", "act_fn": "gate", "attn_rope": "rope"},
}
# Parts of other names that a table may give a function, and the function whose passes it makes; the first that is part of it.
_LIKE = {
    **dict.fromkeys(("and_mul", "swiglu", "geglu", "gated", "glu"), "act_fn"),
    **dict.fromkeys(("rope", "rotary"), "attn_rope"),
    **dict.fromkeys(("softmax", "log_softmax"), "softmax"),
    "norm": "norm",
    **dict.fromkeys(("gelu", "silu", "swish", "sigmoid", "mish"), "gelu"),
    **dict.fromkeys(("tanh", "exp", "log", "erf"), "tanh"),
    **dict.fromkeys(("emb", "gather", "lookup"), "embedding"),
    **dict.fromkeys(("add", "sub", "bias", "residual"), "add"),
    "mul": "mul",
    "div": "div",
}
# Layers that one source ran unfused, as framework operations: (kernels, bytes per value). RMSNorm was; LayerNorm was not.
_UNFUSED = {("llmservingsim-v0", "norm"): (7.0, 34.0), ("llmservingsim-v0", "rope"): (9.0, 26.0)}
_UNFUSED_S = 30e-6  # what the host takes to start the kernels of an unfused rotary embedding
_LAYER_NORM = ("phi",)
_LAYER_NORM_LAUNCHES = 2.2  # what the smallest rows of it take
_SCALAR_NORMS = ("vidur",)  # sources whose norms are serving engines' of 2023


def _function(op: str, name: str) -> str:
    """Whose passes a memory-bound kernel makes. One of an unknown name reads its values once and writes as many.

    >>> _function("elementwise", "silu_and_mul"), _function("elementwise", ""), _function("copy", "emb"), _function("copy", "")
    ('act_fn', 'relu', 'embedding', 'copy')
    """
    if op in {"softmax", "norm"} or (op == "elementwise" and name in _STREAMS):
        return op if op != "elementwise" else name
    known = next((like for part, like in _LIKE.items() if part in name.lower()), "")
    if op == "copy":
        return known if known == "embedding" else "copy"
    return known or "relu"


def _stream(rows: Rows, machine: Machine) -> Work:
    op, name = rows.text("op"), rows.tag("name")
    key = _function(op, name)
    acts = known_format(rows.text("dtype"))
    values, size = rows.number("m") * rows.number("n"), FORMATS[acts].bytes
    reads, writes, flop, special = _STREAMS[key]
    launches, pattern = 1.0, _PATTERNS.get(key, "elementwise")
    if op == "norm":
        pattern = "scalar_norm" if rows.text("source") in _SCALAR_NORMS else "layer_norm"
    unfused = _UNFUSED.get((rows.text("source"), key))
    if unfused is not None and op == "norm" and rows.tag("model").startswith(_LAYER_NORM):
        launches = _LAYER_NORM_LAUNCHES
    elif unfused is not None:
        launches, moved = unfused
        pattern = "unfused"
        reads = writes = moved / 2.0 / size
    kernel = Stream(
        read_bytes=reads * values * size,
        write_bytes=writes * values * size,
        flop=flop * values,
        special=special * values,
        pattern=pattern,
        rows=rows.number("m") if op in {"softmax", "norm"} and pattern != "unfused" else 0.0,
        launches=launches,
        label=key,
    )
    if unfused is not None and key == "rope":
        return Overlap(kernel, Host(seconds=_UNFUSED_S, label="eager calls"))
    return timed(rows, kernel)


def _quantize(rows: Rows, machine: Machine) -> Work:
    m, n, out = rows.number("m"), rows.number("n"), known_format(rows.text("dtype"))
    if FORMATS[out].bits >= 16.0:  # what is quantized; the result, where not stated, has 8 bits
        out = known_format(rows.text("weight_dtype") or "fp8")
    name = rows.tag("name")
    amax = name == "compute_scale" or "amax" in name
    if not amax and rows.text("framework") == "sglang":  # plain framework operations, most of them on 32-bit values
        return Stream(
            read_bytes=14.0 * m * n,
            write_bytes=13.0 * m * n,
            flop=4.0 * m * n,
            pattern="unfused",
            launches=4.0,
            label="scale unfused",
        )
    return Stream(
        read_bytes=2.0 * m * n,
        write_bytes=(0.0 if amax else FORMATS[out].bytes) * m * n,
        flop=(1.0 if amax else 4.0) * m * n,
        pattern="amax" if amax else "quantize",
        launches=amax_launches(machine) if amax and rows.text("framework") == "trtllm" else 1.0,
        label=name or "quantize",
    )


def _converted(rows: Rows) -> Array:
    """Input and result of a conversion, of which its harness has one set."""
    size = 2.0 + FORMATS[known_format(rows.text("dtype"))].bytes
    return np.asarray(rows.number("m") * rows.number("n") * size / harness_of(rows.text("source")).copies)


def _scan(rows: Rows, machine: Machine) -> Work:
    """One kernel of a recurrent layer: the short convolution in front of it, or the recurrence."""
    kernel, variant = rows.tag("kernel"), {"gdn": "gated_delta", "kda": "kda"}.get(rows.tag("name"), "mamba2")
    heads, groups = rows.number("heads"), rows.number("kv_heads", 1.0)
    head_dim = rows.number("head_dim")
    state_dim = rows.extra("d_state" if variant == "mamba2" else "k_dim", 128.0)
    batch, seq = rows.number("batch"), rows.number("q_len")
    if kernel.startswith("causal_conv1d"):
        return _convolved(rows, machine, kernel, heads * head_dim, groups * state_dim, variant)
    return Scan(
        batch=batch,
        seq=np.maximum(seq, 2.0) if kernel.startswith("chunk") else seq,  # in chunks, however few the tokens are
        heads=heads,
        head_dim=head_dim,
        state_dim=state_dim,
        groups=groups,
        chunk=64.0 if variant != "mamba2" else rows.extra("chunk", 128.0),
        variant=variant,
        # TensorRT-LLM's collector gives prompts no state and asks for none.
        stateless=kernel.startswith("chunk") and rows.text("framework") == "trtllm",
        label="recurrence",
    )


def _convolved(rows: Rows, machine: Machine, kernel: str, values: Array, keys: Array, variant: str) -> Work:
    """The short convolution over values, keys and queries, by whose kernel it is."""
    batch, seq, channels = rows.number("batch"), rows.number("q_len"), values + 2.0 * keys
    clocks = _BLOCKS.get(rows.text("framework"), _BLOCKS.get(rows.tag("ver"), 0.0))
    prompt = kernel != "causal_conv1d_update"
    if clocks and variant != "mamba2":
        channels = keys  # these collectors ran one of the three parts
    passes = _short_convolution(
        batch,
        seq,
        channels,
        rows.extra("d_conv", 4.0),
        _TOKEN_FLOP["cuda" if clocks else "triton"],
        launches=_launches(kernel, variant, clocks > 0.0, seq),
        # A step moves the window on, three values of two bytes in a row for every channel.
        state_passes=1.0 if prompt else 2.0,
    )
    if not prompt or not clocks:
        return passes
    apart = np.where(seq % 8.0, _UNALIGNED, 1.0)
    beside = machine.multiprocessors * _BESIDE * machine.device.chip.clock
    blocks = Delay(seconds=batch * channels * apart * clocks / beside, label="blocks")
    return Seq(Stream(read_bytes=0.0, write_bytes=0.0, launches=2.0, label="prepare"), Overlap(passes, blocks))


def _launches(kernel: str, variant: str, cuda: bool, seq: Array) -> Num:
    """Kernels that start, as the smallest rows of each tell; Triton's goes through eight tokens one after the other."""
    if cuda:
        return 2.0 if kernel == "causal_conv1d_update" else 1.0
    if kernel == "causal_conv1d_update":
        return 2.0 if variant == "kda" else 1.0
    return (3.0 if "qkv3" in kernel else 1.0) * (1.0 + _TOKENS * np.minimum(seq, 8.0) / 8.0)


_BLOCKS = {"trtllm": 3600.0, "0.5.10": 8200.0}
"""Who runs the CUDA kernel of causal_conv1d (TensorRT-LLM, SGLang of that version): a block of threads for each channel of
a sequence. Clocks that a block takes at least."""
_UNALIGNED = 1.3
"""How much longer where the tokens do not divide into the eight that one load brings."""
_BESIDE = 16.0
"""How many run beside each other on a multiprocessor."""
_TOKENS = 0.8
"""What eight tokens, one after the other, take of a launch."""
_TOKEN_FLOP = {"triton": 55.0, "cuda": 30.0}
"""Operations on a token of a channel: loads and stores, conversions, the window moved on, four products, a sigmoid. Triton's
kernel takes tokens one by one and two bytes at a time, the CUDA kernel eight tokens with one load."""


def _scan_bytes(rows: Rows) -> Array:
    """What one run of a recurrent layer's kernel reads and writes, which its harness's next run finds again."""
    state_dim = rows.extra("d_state" if rows.tag("name") == "mamba2" else "k_dim", 128.0)
    values = rows.number("heads") * rows.number("head_dim")
    channels = values + 2.0 * rows.number("kv_heads", 1.0) * state_dim
    tokens = 4.0 * rows.number("batch") * rows.number("q_len") * channels
    state = 0.0 if rows.tag("kernel").startswith("causal_conv1d") else 8.0 * rows.number("batch") * values * state_dim
    return np.asarray((tokens + state) / harness_of(rows.text("source")).copies)


def _short_convolution(
    batch: Array,
    seq: Array,
    channels: Array,
    width: Array,
    token_flop: float,
    launches: Num,
    state_passes: float,
) -> Stream:
    state = batch * channels * (width - 1.0) * 2.0 * state_passes
    values = batch * seq * channels
    return Stream(
        read_bytes=2.0 * values + state,
        write_bytes=2.0 * values + state,
        flop=token_flop * values,
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
    if "eager" in rows.tag("kernel"):
        return Seq(Host(seconds=_EAGER_S, label="eager call"), kernel)
    return timed(rows, kernel)


# A custom all-reduce launched from eager framework code.
_EAGER_S = 20e-6
# What one source's hosts had between them, in bytes per second and device, by devices of a node that took part.
_NETWORK = {
    ("vidur", "a100-sxm-80gb"): {1: 8e9, 2: 2.5e9, 4: 3.7e9},
    ("vidur", "a100-pcie-80gb"): {1: 2.5e9},
}
# What such a network takes at once at its ports' rate before it falls to the rate above: bytes, bytes per second.
_BURST = {("vidur", "a100-pcie-80gb"): (3.0 * 2.0**20, 9e9)}


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
        return f"{ranks // largest}x{largest}x{name}@network={BRIDGE * host[1].bandwidth / largest / 1e9:g}GB/s"
    if nodes == 1:
        return f"{largest}x{name}" if largest > 1 else name
    rate = _NETWORK.get((rows.text("source"), name), {}).get(ranks // nodes, 0.0)
    if _in_burst(rows.table, int(rows.index[0])):
        rate = _BURST[rows.text("source"), name][1]
    network = f"@network={rate / 1e9:g}GB/s" if rate else ""
    return f"{nodes}x{ranks // nodes}x{name}{network}"


def _in_burst(table: Table, row: int) -> bool:
    """Whether the network between nodes takes the message at once."""
    held, _ = _BURST.get((table.text["source"][row], table.text["machine"][row]), (0.0, 0.0))
    return bool(table.numbers["nodes"][row] > 1.0 and table.numbers["bytes"][row] <= held)


_STREAM = Builder(_stream, tags=("name", "model"))
_COLLECTIVE = Builder(_collective, tags=("kernel",), numbers=("ranks", "nodes"), place=_cluster, split=_in_burst)
BUILDERS = {
    "softmax": _STREAM,
    "norm": _STREAM,
    "elementwise": _STREAM,
    "copy": _STREAM,
    "quantize": Builder(_quantize, tags=("name",), repeated_bytes=_converted),
    "scan": Builder(_scan, tags=("kernel", "name", "phase", "ver"), repeated_bytes=_scan_bytes),
    "all_reduce": _COLLECTIVE,
    "all_gather": _COLLECTIVE,
    "reduce_scatter": _COLLECTIVE,
    "all_to_all": _COLLECTIVE,
    "send_recv": _COLLECTIVE,
}
