"""Residual convolutional networks: ResNet, ResNeXt, Wide ResNet."""

from __future__ import annotations

from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("resnet")
def resnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """ResNet v1.5 (He et al. 2016; stride in the 3 × 3 convolution), ResNeXt (Xie et al. 2017) and Wide ResNet.

    Options: ``depths`` blocks per stage, ``bottleneck``, ``groups`` and ``width`` of a group at the first stage (64),
    ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    with tape.scope("stem"):
        x = tape.activate(tape.norm(tape.conv(x, 64, 7, stride=2)))
        x = tape.pool(x, 3, 2, pad=1)
    bottleneck = net.option("bottleneck", True)
    for stage, depth in enumerate(net.option("depths")):
        out = 64 * 2**stage
        with tape.scope(f"layer{stage + 1}"):
            x = _block(tape, net, x, out, stride=1 if stage == 0 else 2, bottleneck=bottleneck)
            x = tape.repeat(depth - 1, lambda y, out=out: _block(tape, net, y, out, 1, bottleneck), x)  # type: ignore[misc]
    with tape.scope("head"):
        tape.linear(tape.global_pool(x), net.option("classes", 1000), name="classifier")


def _block(tape: Tape, net: Network, x: Map, planes: int, stride: int, bottleneck: bool) -> Map:
    groups, width = net.option("groups", 1), net.option("width", 64)
    out = planes * (4 if bottleneck else 1)
    shortcut = x
    if bottleneck:
        inner = int(planes * width / 64) * groups
        y = tape.activate(tape.norm(tape.conv(x, inner, 1, name="conv1"), name="norm1"))
        y = tape.activate(tape.norm(tape.conv(y, inner, 3, stride, groups, name="conv2"), name="norm2"))
        y = tape.norm(tape.conv(y, out, 1, name="conv3"), name="norm3")
    else:
        y = tape.activate(tape.norm(tape.conv(x, out, 3, stride, name="conv1"), name="norm1"))
        y = tape.norm(tape.conv(y, out, 3, name="conv2"), name="norm2")
    if stride != 1 or x.channels != out:
        shortcut = tape.norm(tape.conv(x, out, 1, stride, name="shortcut"), name="shortcut_norm")
    assert shortcut is not None
    return tape.activate(tape.add(y))
