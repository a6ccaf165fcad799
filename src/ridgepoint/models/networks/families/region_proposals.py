"""Detectors of two stages: Fast, Faster, Mask and Keypoint R-CNN and Panoptic FPN, with feature pyramids or on one map.

In training a head sees ``sampled`` proposals of an image (512), a quarter of which meet an object and go to the heads for masks
and keypoints; else all ``proposals`` and the boxes that are left (``masks``, ``instances``).
"""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.convolutions import conv_norm
from ridgepoint.models.networks.families.residual import residual_maps, residual_stage
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num

SAMPLED = 512
"""Proposals of an image that training scores, and the part of them that meets an object at most (Girshick 2015)."""
POSITIVE = 0.25


def backbone_maps(tape: Tape, net: Network, sizes: Sizes) -> list[Map]:
    """The maps of the ResNet's stages; the image is ``aspect`` times as wide as high."""
    height = sizes["image_px"]
    with tape.scope("backbone"):
        backbone = replace(net, config=net.option("backbone"))
        return residual_maps(tape, backbone, tape.image(3, height, height * sizes.get("aspect", 1.0)))[1:]


def pyramid(tape: Tape, maps: list[Map], norm: str = "", width: int = 256) -> list[Map]:
    """A feature pyramid (Lin et al. 2017), its convolutions with biases or with ``norm``."""
    levels = []
    with tape.scope("pyramid"):
        for index, level in enumerate(maps):
            y = _plain(tape, level, width, 1, norm, f"lateral{index}")
            y = tape.add(y, kept=1.0) if index + 1 < len(maps) else y
            levels.append(_plain(tape, y, width, 3, norm, f"output{index}"))
    return levels


def _plain(tape: Tape, x: Map, out: int, kernel: int, norm: str, name: str) -> Map:
    if norm:
        return conv_norm(tape, x, out, kernel, act="", norm=norm, name=name)
    return tape.conv(x, out, kernel, bias=True, name=name)


@family("rcnn")
def rcnn(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Faster R-CNN (Ren et al. 2015), Mask R-CNN (He et al. 2017) and Panoptic FPN (Kirillov et al. 2019) with pyramids.

    Options: ``backbone`` (options of a ResNet), ``classes`` (91) and ``box_classes`` of them that have boxes and masks,
    ``proposals`` (1000), ``masks`` and ``instances`` (boxes that get a mask, keypoints), ``keypoints`` of a person,
    ``semantic`` (classes of every pixel), ``given`` (proposals come with the images), ``norm`` of pyramid and heads, and
    ``box_convs`` (convolutions of the box head, one projection after them).
    """
    maps = backbone_maps(tape, net, sizes)
    levels = pyramid(tape, maps, net.option("norm", ""))
    if net.option("semantic", 0):
        _semantic(tape, net, levels)
    if not net.option("given", False):
        _proposals(tape, [*levels, tape.pool(levels[-1], 1, 2, name="pool")], 256, 15)
    count = _scored(tape, net)
    with tape.scope("boxes"):
        _boxes(tape, net, _aligned(tape, levels[0], count, 7.0))
    if masks := _detected(tape, net, "masks"):
        with tape.scope("masks"):
            _mask(tape, net, _tower(tape, net, _aligned(tape, levels[0], masks, 14.0), 4, 256))
    if people := _detected(tape, net, "instances"):
        with tape.scope("keypoints"):
            x = _tower(tape, net, _aligned(tape, levels[0], people, 14.0), 8, 512)
            x = tape.transposed_conv(x, net.option("keypoints"), 4, 2, name="predict")
            tape.move(x, written=4.0 * x.values, name="enlarge")


@family("rcnn_one_map")
def rcnn_one_map(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Faster and Mask R-CNN on the map of the third stage, whose fourth stage is the head ("C4"; He et al. 2016).

    Options: ``backbone`` with three stages, ``classes``, ``box_classes``, ``proposals``, ``masks``, ``heads`` (False: it only
    proposes).
    """
    x = backbone_maps(tape, net, sizes)[-1]
    _proposals(tape, [x], 1024, 75)
    if not net.option("heads", True):
        return
    backbone = replace(net, config=net.option("backbone"))
    count, masks = _scored(tape, net), _detected(tape, net, "masks")
    with tape.scope("boxes"):
        y = _aligned(tape, x, count, 14.0)
        # In inference the stage runs once more for the boxes that are left; in training it has made their maps.
        times = 1.0 + (masks / count if tape.task != "train" else 0.0)
        with tape.scope("layer4"):
            y = tape.again(times, lambda z: residual_stage(tape, backbone, z, 512, 3, 2), y)
        tape.linear(tape.global_pool(y), _outputs(net), name="predict")
    if masks:
        with tape.scope("masks"):
            _mask(tape, net, tape.move(replace(y, batch=x.batch * masks), name="chosen", kept=1.0))


def _aligned(tape: Tape, x: Map, count: float, size: float) -> Map:
    """``count`` boxes of every image, cut out of ``x`` at ``size`` × ``size`` positions (He et al. 2017)."""
    found = Map(x.batch * count, x.channels, size, size)
    tape.move(x, written=found.values, name="align", kept=1.0)
    return found


def _scored(tape: Tape, net: Network) -> float:
    """Proposals of an image that the box head sees."""
    return float(SAMPLED if tape.task == "train" else net.option("proposals", 1000))


def _detected(tape: Tape, net: Network, name: str) -> float:
    """Boxes of an image that a further head sees; 0 without it."""
    count = float(net.option(name, 0))
    return SAMPLED * POSITIVE if count and tape.task == "train" else count


def _proposals(tape: Tape, levels: list[Map], width: int, out: int) -> None:
    """One small network on every level: whether an anchor meets an object, and its four sides."""
    with tape.scope("proposals"):
        for index, level in enumerate(levels):
            y = tape.conv(level, width, 3, bias=True, name="conv", counted=index == 0)
            y = tape.activate(y, kept=2.0 if len(levels) > 1 else 1.0)
            tape.conv(y, out, 1, bias=True, name="predict", counted=index == 0)


def _outputs(net: Network) -> int:
    classes = net.option("classes", 91)
    return int(classes + 4 * net.option("box_classes", classes))


def _boxes(tape: Tape, net: Network, x: Map) -> None:
    convs = net.option("box_convs", 0)
    x = _tower(tape, net, x, convs, 256)
    rows = Rows(x.batch, 1.0, x.channels * x.positions)
    for index in range(1 if convs else 2):
        rows = tape.activate(tape.linear(rows, 1024, name=f"hidden{index + 1}"))
    tape.linear(rows, _outputs(net), name="predict")


def _tower(tape: Tape, net: Network, x: Map, depth: int, width: int) -> Map:
    """Convolutions with activations."""
    norm = net.option("norm", "")
    for index in range(depth):
        x = tape.activate(_plain(tape, x, width, 3, norm, f"conv{index}"))
    return x


def _mask(tape: Tape, net: Network, x: Map) -> None:
    y = tape.activate(tape.transposed_conv(x, 256, 2, 2))
    tape.conv(y, net.option("box_classes", net.option("classes", 91)), 1, bias=True, name="predict")


def _semantic(tape: Tape, net: Network, levels: list[Map]) -> None:
    """All levels, convolved and enlarged step by step to the largest, added up: a class for every pixel of the image."""
    classes: Num = float(net.option("semantic"))
    with tape.scope("semantic"):
        for index, level in enumerate(levels):
            x = level
            for step in range(max(index, 1)):
                x = conv_norm(tape, x, 128, 3, norm="group", name=f"level{index}_{step}")
                if index:
                    x = replace(x, height=2.0 * x.height, width=2.0 * x.width)
                    tape.move(x, name="enlarge")
            x = tape.add(x, kept=1.0 if index + 1 == len(levels) else 0.0)
        x = tape.conv(x, classes, 1, bias=True, name="predict")
        whole = replace(x, height=4.0 * x.height, width=4.0 * x.width)
        tape.move(whole, name="enlarge")
        if tape.task == "train":
            tape.softmax(whole.batch * whole.positions, classes, name="loss")
