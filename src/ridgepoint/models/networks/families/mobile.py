"""Networks of inverted residuals described block by block: MobileNet, MnasNet, EfficientNet, MixNet, FBNet, LCNet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import ceil

from ridgepoint.models.networks.families.bespoke import global_context
from ridgepoint.models.networks.families.convolutions import activation, conv_norm, rounded, squeeze_excite
from ridgepoint.models.networks.families.residual import blur
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape

_ACTS = {"re": "relu", "r6": "relu6", "sw": "silu", "hs": "hard_swish"}


@family("inverted_residuals")
def inverted_residuals(tape: Tape, net: Network, sizes: Sizes) -> None:
    """MobileNet V1 to V4 (Howard et al. 2017, Sandler et al. 2018, Howard et al. 2019, Qin et al. 2024), MnasNet (Tan et
    al. 2019), EfficientNet (Tan and Le 2019, 2021), MixNet (Tan and Le 2019), FBNet (Wu et al. 2019), LCNet (Cui et al. 2021).

    Options: ``stages``: lists of blocks in the notation of EfficientNet's authors (``ir_r2_k3_s2_e6_c24_se0.25``: kind,
    repeats, kernel, stride, expansion, channels, channel attention; ``cc4``: weights mixed of four experts'), ``width`` and
    ``depth`` factors (one per stage if they differ), ``truncate`` (how scaled repeats become whole), ``fixed`` (stem and
    outer stages keep their size), ``stem`` channels, ``stem_kernel``, ``features`` of the last convolution, ``pooled_head``
    (it follows the pool; ``head_norm``: with a norm), ``act``, ``norm``, ``divisor`` and ``least`` share of rounded
    channels, ``se_expanded`` (attention's ratio is of the expanded channels), ``se_divisor``, ``attention`` (``context``:
    GCNet's instead of SE), ``group`` width of depthwise parts, ``antialias``, ``layer_scale``, ``classes``.
    """
    act = net.option("act", "relu")
    stem = net.option("stem", 32)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    width = stem if net.option("fixed_stem", False) else _channels(net, stem)
    x = conv_norm(
        tape, x, width, net.option("stem_kernel", 3), 2, act=act, norm=net.option("norm", "batch"), name="stem"
    )
    names = net.option("stages")
    for index, blocks in enumerate(names):
        outer = net.option("fixed", False) and index in (0, len(names) - 1)
        with tape.scope(f"stage{index + 1}"):
            depth = net.option("depth", 1.0)
            factor = depth[index] if isinstance(depth, tuple) else 1.0 if outer else depth
            for block, count in _scaled([_read(b) for b in blocks], factor, net):
                play = partial(_play, tape, net, block)
                x = play(block.stride, x)
                x = tape.repeat(count - 1, partial(play, 1), x)
    _head(tape, net, x)


@dataclass(frozen=True)
class Block:
    """One block of the notation."""

    kind: str
    values: dict[str, str]
    flags: frozenset[str]

    def number(self, key: str, default: float = 0.0) -> float:
        """A number by its letter."""
        return float(self.values.get(key, default))

    @property
    def stride(self) -> int:
        """Of its first repeat."""
        return int(self.number("s", 1))

    def kernels(self, key: str, default: str) -> list[int]:
        """Kernel sizes, of mixed convolutions several."""
        return [int(k) for k in self.values.get(key, default).split(".")]


def _read(text: str) -> Block:
    """A block from its notation.

    >>> _read("ir_r2_k3_s2_e6_c24_se0.25").values["se"]
    '0.25'
    """
    kind, *parts = text.split("_")
    values, flags = {}, set()
    for part in parts:
        key = part.rstrip("0123456789.")
        if len(key) < len(part):
            values[key] = part[len(key) :]
        else:
            flags.add(part)
    return Block(kind, values, frozenset(flags))


def _scaled(blocks: list[Block], depth: float, net: Network) -> list[tuple[Block, int]]:
    """Repeats of a stage times ``depth``, shared out from its last block backwards."""
    repeats = [int(b.number("r", 1)) for b in blocks]
    before = sum(repeats)
    after = max(1, round(before * depth)) if net.option("truncate") == "round" else ceil(before * depth)
    result = []
    for block, repeat in zip(reversed(blocks), reversed(repeats), strict=True):
        count = max(1, round(repeat / before * after))
        before, after = before - repeat, after - count
        result.append((block, count))
    return result[::-1]


def _channels(net: Network, channels: float) -> int:
    return rounded(channels * net.option("width", 1.0), net.option("divisor", 8), limit=net.option("least", 0.9))


def _play(tape: Tape, net: Network, block: Block, stride: int, x: Map) -> Map:
    out, skip = _channels(net, block.number("c")), stride == 1
    y = _KINDS[block.kind](tape, net, block, stride, x, out)
    if skip and x.channels == out and "noskip" not in block.flags and (block.kind != "cn" or "skip" in block.flags):
        return tape.add(y)
    return y


def _act(net: Network, block: Block) -> str:
    named = [_ACTS[flag[1:]] for flag in block.flags if flag[0] == "n" and flag[1:] in _ACTS]
    return named[0] if named else str(net.option("act", "relu"))


def _plain(tape: Tape, net: Network, block: Block, stride: int, x: Map, out: int) -> Map:
    kernel = int(block.number("k", 3))
    return conv_norm(tape, x, out, kernel, stride, act=_act(net, block), norm=net.option("norm", "batch"))


def _separable(tape: Tape, net: Network, block: Block, stride: int, x: Map, out: int) -> Map:
    y = _depthwise(tape, net, block, x, stride)
    y = _attend(tape, net, block, y, x)
    act = _act(net, block) if block.kind == "dsa" else ""
    return conv_norm(tape, y, out, 1, act=act, norm=net.option("norm", "batch"), name="project")


def _inverted(tape: Tape, net: Network, block: Block, stride: int, x: Map, out: int) -> Map:
    norm, act = net.option("norm", "batch"), _act(net, block)
    mid = rounded(float(x.channels) * block.number("e", 1))
    y = conv_norm(tape, x, mid, 1, 1, len(block.kernels("a", "1")), act, norm=norm, name="expand")
    y = _depthwise(tape, net, block, y, stride)
    y = _attend(tape, net, block, y, x)
    if block.number("cc"):
        _mix_experts(tape, x, int(block.number("cc")), mid * (float(x.channels) + block.number("k") ** 2 + out))
    return conv_norm(tape, y, out, 1, 1, len(block.kernels("p", "1")), "", norm=norm, name="project")


def _mix_experts(tape: Tape, x: Map, experts: int, weights: float) -> None:
    """Conditional convolutions (Yang et al. 2019): every picture's weights are a mixture of the experts'."""
    with tape.scope("experts"):
        routed = tape.activate(tape.linear(tape.global_pool(x), experts, name="routing"), 1.0)
        tape.linear(routed, weights, False, "mixture", counted=False)
        tape.count("weights", (experts - 1.0) * weights)


def _edge(tape: Tape, net: Network, block: Block, stride: int, x: Map, out: int) -> Map:
    """A full convolution expands instead of a pointwise and a depthwise one."""
    norm, act = net.option("norm", "batch"), _act(net, block)
    narrow = block.number("fc")
    mid = rounded((_channels(net, narrow) if narrow else float(x.channels)) * block.number("e", 1))
    soft = stride > 1 and bool(net.option("antialias", ""))
    group = int(block.number("gs") or net.option("group", 0))
    groups = mid // group if group else 1
    y = conv_norm(tape, x, mid, int(block.number("k", 3)), 1 if soft else stride, groups, act, norm=norm, name="expand")
    y = _shrink(tape, net, y) if soft else y
    y = _attend(tape, net, block, y, x)
    return conv_norm(tape, y, out, 1, act="", norm=norm, name="project")


def _universal(tape: Tape, net: Network, block: Block, stride: int, x: Map, out: int) -> Map:
    """MobileNet V4: depthwise convolutions before and inside the expansion, either of which may be left out."""
    act, first, middle = _act(net, block), int(block.number("a")), int(block.number("k"))
    y = _soft_depthwise(tape, net, x, first, 1 if middle else stride, "", "start") if first else x
    y = conv_norm(tape, y, rounded(float(x.channels) * block.number("e", 1)), 1, act=act, name="expand")
    y = _soft_depthwise(tape, net, y, middle, stride, act, "middle") if middle else y
    return _layer_scale(tape, net, conv_norm(tape, y, out, 1, act="", name="project"))


def _multi_query(tape: Tape, net: Network, block: Block, stride: int, x: Map, out: int) -> Map:
    """Attention with one key and value for all heads, these from a smaller map where ``v`` is above 1."""
    heads, head_dim, shrink = int(block.number("h")), int(block.number("d")), int(block.number("v", 1))
    with tape.scope("attention"):
        y = tape.norm(x, "batch")
        tape.conv(y, heads * head_dim, 1, name="query")
        rows = keys = tape.to_rows(y)
        for name in ("key", "value"):
            z = y
            if shrink > 1:
                z = conv_norm(tape, y, y.channels, int(block.number("k")), shrink, y.channels, "", name=f"{name}_down")
            keys = tape.to_rows(tape.conv(z, head_dim, 1, name=name))
        attended = tape.attend(rows, keys, heads, head_dim, 1)
        y = tape.conv(tape.to_map(attended, x.height, x.width), out, 1, name="output")
        return _layer_scale(tape, net, y)


_KINDS = {
    "cn": _plain,
    "ds": _separable,
    "dsa": _separable,
    "ir": _inverted,
    "er": _edge,
    "uir": _universal,
    "mqa": _multi_query,
}


def _layer_scale(tape: Tape, net: Network, x: Map) -> Map:
    if not net.option("layer_scale", False):
        return x
    tape.count("layer_scale", float(x.channels))
    return tape.scale(x)


def _shrink(tape: Tape, net: Network, x: Map) -> Map:
    return blur(tape, x) if net.option("antialias") == "blur" else tape.pool(x, 2, 2)


def _soft_depthwise(tape: Tape, net: Network, x: Map, kernel: int, stride: int, act: str, name: str) -> Map:
    soft = stride > 1 and bool(net.option("antialias", ""))
    y = conv_norm(tape, x, x.channels, kernel, 1 if soft else stride, x.channels, act, name=name)
    return _shrink(tape, net, y) if soft else y


def _depthwise(tape: Tape, net: Network, block: Block, x: Map, stride: int) -> Map:
    """A depthwise convolution (or one of narrow groups), with several kernel sizes on parts of the channels in MixNet."""
    kernels, group = block.kernels("k", "3"), net.option("group", 0)
    act, norm = _act(net, block), net.option("norm", "batch")
    if len(kernels) == 1:
        groups = x.channels // group if group else x.channels
        soft = stride > 1 and bool(net.option("antialias", ""))
        y = conv_norm(tape, x, x.channels, kernels[0], 1 if soft else stride, groups, act, norm=norm, name="depthwise")
        return _shrink(tape, net, y) if soft else y
    part, y = int(x.channels) // len(kernels), x
    for index, kernel in enumerate(kernels):
        channels = part if index else int(x.channels) - part * (len(kernels) - 1)
        y = tape.conv(
            replace(x, channels=float(channels)), channels, kernel, stride, channels, name=f"depthwise{kernel}"
        )
    return activation(tape, tape.norm(tape.move(replace(y, channels=x.channels), name="concat"), norm), act)


def _attend(tape: Tape, net: Network, block: Block, y: Map, x: Map) -> Map:
    """Squeeze and excitation; its ratio is of the block's input unless ``se_expanded``."""
    ratio = block.number("se")
    if not ratio:
        return y
    if not net.option("se_expanded", False):
        ratio /= block.number("e", 1)
    divisor = net.option("se_divisor", 0)
    hidden = float(y.channels) * ratio
    if net.option("attention", "") == "context":
        return global_context(tape, y, round(hidden))
    return squeeze_excite(
        tape, y, rounded(hidden, divisor, limit=net.option("least", 0.9)) if divisor else round(hidden)
    )


def _head(tape: Tape, net: Network, x: Map) -> None:
    features, act = net.option("features", 1280), net.option("act", "relu")
    with tape.scope("head"):
        if not net.option("pooled_head", False):
            x = (
                conv_norm(tape, x, features, 1, act=act, norm=net.option("norm", "batch"), name="last")
                if features
                else x
            )
            y = tape.global_pool(x)
        else:
            y = tape.linear(tape.global_pool(x), features, net.option("head_bias", True), "last")
            y = tape.norm(y, "batch") if net.option("head_norm", False) else y
            y = tape.activate(y)
        tape.linear(y, net.option("classes", 1000), name="classifier")
