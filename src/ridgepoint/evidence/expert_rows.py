"""Rows of fused expert layers as the work that their library ran: routing, products, activation, weighted sum.

Which library's kernels they are, how it cuts a rank's rows into tiles and how many kernels it starts are facts of its code and
its smallest rows, not of a machine.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ridgepoint.evidence.expert_routing import Routed, routed
from ridgepoint.evidence.matrix_rows import operand_formats
from ridgepoint.evidence.rows import Builder, InexpressibleError, Rows
from ridgepoint.formats import FORMATS
from ridgepoint.kernels.expert_libraries import expert_library
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array
from ridgepoint.ops import Gemm, Stream
from ridgepoint.work import Seq, Work

_SWAPPED = ("hopper", "blackwell")
"""Families whose CUTLASS kernels take an expert's columns as rows of a tile, so that its rows may be 256 at a time."""
_LARGEST_TILE = {"bf16": 64.0, "w4a16": 64.0, "w4a8": 256.0}
"""Rows of TensorRT-LLM's largest generated tile, by format of the rows (others: 128)."""
_MARLIN_TILES = np.array([8.0, 16.0, 32.0, 48.0, 64.0])


def _experts(rows: Rows, machine: Machine) -> Work:
    """A whole fused expert layer on one rank: routing, first product, activation, second product, weighted sum."""
    tokens, hidden, inner = rows.number("m"), rows.number("k"), rows.number("n")
    if rows.tag("proj", "moe_ffn") != "moe_ffn":
        raise InexpressibleError(f"expert projection '{rows.tag('proj')}'")
    library, acts = _kernels(rows), operand_formats(rows)[0]
    gates = 2.0 if rows.tag("gated", "1") == "1" else 1.0
    tokens, here = _reaching(rows, library, tokens)
    # Rows that are worked on beside the products: those of other ranks' experts too, where the library keeps places for them.
    kept = expert_library(library).keeps
    mine, every = here.rows, np.maximum(tokens * rows.number("top_k"), here.rows) if kept else here.rows
    up, down = _products(rows, machine, library, tokens, here)
    fused, narrow = library.startswith("trtllm_gen"), FORMATS[acts].bits < 16
    gather = Stream(
        read_bytes=2.0 * tokens * hidden,
        write_bytes=FORMATS[acts].bytes * mine * hidden,
        pattern="copy",
        launches=_route_launches(rows, library),
        label="route",
    )
    activation = Stream(
        read_bytes=2.0 * gates * every * inner,
        write_bytes=FORMATS[acts].bytes * every * inner,
        flop=4.0 * every * inner,
        special=every * inner,
        launches=2.0 if narrow and not fused else 1.0,
        label="activation",
    )
    scatter = Stream(
        read_bytes=2.0 * every * hidden, write_bytes=2.0 * tokens * hidden, flop=2.0 * every * hidden, label="combine"
    )
    # Blocks of other ranks' experts write zeros and end.
    zeros = Stream(
        read_bytes=0.0 * mine, write_bytes=2.0 * (every - mine) * (gates * inner + hidden), launches=0.0, label="zeros"
    )
    return Seq(gather, up, activation, down, scatter, zeros)


def _products(rows: Rows, machine: Machine, library: str, tokens: Array, here: Routed) -> tuple[Gemm, Gemm]:
    acts, _, out = operand_formats(rows)
    hidden, inner, active = rows.number("k"), rows.number("n"), here.active
    height = _tile_rows(rows, machine, library, tokens)
    up = Gemm(
        m=here.rows / active,
        n=(2.0 if rows.tag("gated", "1") == "1" else 1.0) * inner,
        k=hidden,
        batch=active,
        acts=acts,
        weights=_expert_format(rows),
        out=out,
        grouped=True,
        tile_rows=height,
        row_tiles=np.where(height > 0.0, here.tiles(np.maximum(height, 1.0)) / active, 0.0),
        label="up",
    )
    return up, replace(up, n=hidden, k=inner, label="down")


def _reaching(rows: Rows, library: str, tokens: Array) -> tuple[Array, Routed]:
    """The tokens that go through the layer on this rank, and the rows of its experts.

    SGLang's collector called Triton's and Marlin's kernels without the layer around them before release 0.5.14, and still does
    for models with a plain softmax over their experts and no backend of their own (Mixtral, Gemma 4): with the tokens that
    have a choice on this rank, whose other choices it books on the rank's first expert.
    """
    here = _routed(rows)
    if library not in {"triton", "marlin"} or not _sglang(rows):
        return tokens, here
    plain = (rows.number("experts") <= 8.0) | (rows.number("k") == 2816.0) | _before(rows, 0, 5, 14)
    called = plain & (rows.extra("moe_ep", 1.0) > 1.0)
    return np.where(called, here.tokens, tokens), here.with_others(
        np.where(called, here.tokens * rows.number("top_k"), 0.0)
    )


def _routed(rows: Rows) -> Routed:
    """What reaches the timed rank; SGLang's layers of DeepSeek-V3 pick experts of four groups in eight alone."""
    tokens, experts, top_k, hidden = (rows.number(name) for name in ("m", "experts", "top_k", "k"))
    deepseek: NDArray[np.bool_] = (experts == 256.0) & (top_k == 8.0) & (hidden == 7168.0)
    narrowed = np.where(deepseek & _sglang(rows) & (not _before(rows, 0, 5, 14)), 2.0, 1.0)
    return routed(tokens, experts, top_k, rows.extra("moe_ep", 1.0), _power(rows.tag("dist", "balanced")), narrowed)


def _sglang(rows: Rows) -> bool:
    """Whether this collector timed SGLang."""
    return rows.text("source").startswith("aiconfigurator") and rows.text("framework") == "sglang"


def _before(rows: Rows, *release: int) -> bool:
    """Whether the library's release is known and older than that."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", rows.tag("ver"))[: len(release)])
    return len(numbers) == len(release) and numbers < release


def _tile_rows(rows: Rows, machine: Machine, library: str, tokens: Array) -> Array:
    """Rows of a tile where the library's code fixes them by the layer's sizes, most by the rows that a rank's experts would
    have if every token stayed on the rank. 0 where it tries its tiles on the rows that it gets.

    Sources: FlashInfer's ``computeSelectedTileN``, SGLang's ``get_default_config`` and ``fused_marlin_moe``, triton_kernels'
    ``matmul_ogs``; TensorRT-LLM's CUTLASS tiles are tried on even routing, which power laws then meet.
    """
    local = rows.number("experts") / rows.extra("moe_ep", 1.0)
    staying = tokens * rows.number("top_k") / local
    even = tokens * rows.number("top_k") / rows.number("experts")
    narrow = FORMATS[operand_formats(rows)[0]].bits < 16
    if library.startswith("trtllm_gen"):
        return _power_of_two(staying, 8.0, _LARGEST_TILE.get(rows.text("dtype"), 128.0))
    if library == "deepgemm":
        return np.full_like(local, 128.0)
    if library == "marlin":
        return np.asarray(_MARLIN_TILES[np.minimum((staying[:, None] / _MARLIN_TILES >= 0.9).sum(axis=1), 4)])
    if library == "triton":
        return np.where(tokens <= local, 64.0 if narrow else 16.0, 64.0)
    if library == "triton_mxfp4":
        return _power_of_two(even, 16.0, 128.0)
    if library == "cutlass" and not _before(rows, 1, 1):
        return _power_of_two(even, 16.0, 256.0 if machine.device.family in _SWAPPED else 128.0)
    return np.zeros_like(local)


def _power_of_two(rows: Array, least: float, most: float) -> Array:
    return np.asarray(np.clip(2.0 ** np.ceil(np.log2(rows)), least, most))


def _route_launches(rows: Rows, library: str) -> Array:
    """Kernels beside the products, activation and sum, with what releases and models add to the usual."""
    experts, release = rows.number("experts"), rows.tag("ver")
    launches = np.full_like(experts, expert_library(_library(rows)).launches)
    if library == "cutlass" and _before(
        rows, 1, 1
    ):  # it picked among more than 128 experts by the framework's operators
        launches += np.where(experts > 128.0, 14.0, 2.0)
    if release == "1.3.0rc15" and library != "deepgemm":
        launches += 12.0
    if library == "marlin" and _before(rows, 0, 5, 14):
        launches += 2.0
    if library == "trtllm_gen":
        launches += np.where(experts == 896.0, 5.0, 8.0 if rows.text("weight_dtype") == "int4" else 0.0)
    if rows.tag("kernel").endswith("situ_as_silu"):
        launches += 15.0
    return launches


def _expert_format(rows: Rows) -> str:
    """The format of the experts' matrices: SGLang widens MXFP4 for its Triton kernels once, when it loads them."""
    weights = operand_formats(rows)[1]
    return "bf16" if _kernels(rows) == "triton" and weights == "mxfp4" else weights


def _touched_bytes(rows: Rows) -> Array:
    """Matrices of the rank's experts that have rows in any of the runs, of which a harness has one set, and the rows."""
    here, hidden, inner = _routed(rows), rows.number("k"), rows.number("n")
    products = 3.0 if rows.tag("gated", "1") == "1" else 2.0
    weights = here.visited * products * inner * hidden * FORMATS[_expert_format(rows)].bytes
    return np.asarray(weights + 2.0 * (rows.number("m") * 2.0 * hidden + here.rows * (products * inner + 2.0 * hidden)))


def _library(rows: Rows) -> str:
    """The kernels' library and the rows' format: what a library reaches of a rate differs from format to format."""
    library = _kernels(rows)
    return f"{library}-{rows.text('dtype')}" if library else ""


def _kernels(rows: Rows) -> str:
    """Whose kernels ran. TensorRT-LLM takes Triton's for MXFP4 on Hopper, generated ones with timed tiles on Blackwell."""
    kernel = rows.tag("kernel").replace("deep_gemm", "deepgemm")
    if rows.text("framework") == "trtllm" and rows.text("weight_dtype") == "mxfp4":
        family = find_machine(rows.text("machine")).device.family
        return {"hopper": "triton_mxfp4", "blackwell": "trtllm_gen_tuned"}.get(family, "cutlass")
    known = ("flashinfer_trtllm", "flashinfer_cutlass", "triton", "marlin", "deepgemm", "cutlass")
    found = next((name for name in known if name in kernel), "cutlass" if "torch_flow" in kernel else "")
    return {"flashinfer_trtllm": "trtllm_gen"}.get(found, found)


def _power(dist: str) -> float | None:
    if dist == "balanced":
        return None
    match = re.fullmatch(r"power_law_([0-9.]+)", dist)
    if match is None:
        raise InexpressibleError(f"routing '{dist}'")
    return float(match[1])


BUILDERS = {
    "grouped_gemm": Builder(
        _experts,
        tags=("kernel", "dist", "gated", "proj", "ver"),
        repeated_bytes=_touched_bytes,
        copies=1.0,
        library=_library,
    ),
}
