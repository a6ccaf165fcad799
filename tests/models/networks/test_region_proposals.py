"""Detectors of two stages (design §5): exact published counts, and what training leaves alone."""

from __future__ import annotations

import pytest

from ridgepoint.models.backward import backward
from ridgepoint.models.networks.catalog import find_network
from ridgepoint.models.networks.registry import play
from ridgepoint.models.networks.tape import Tape
from ridgepoint.models.state import saved_bytes
from ridgepoint.ops import Conv, Gemm
from ridgepoint.work import occurrences, ops


def taped(name, task="forward", batch=1.0, **sizes):
    net = find_network(name)
    assert net is not None
    tape = Tape(batch, "fp32", "fp32", fused=False)
    tape.task = task
    return play(net, tape, sizes)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("d2_faster_rcnn_r50_fpn", 41_699_936), ("keypointrcnn_resnet50_fpn", 59_137_258)],
)
def test_parameters_are_those_that_the_libraries_count(name, parameters):
    """detectron2's tests/test_model_analysis.py; torchvision's table of weights."""
    assert taped(name).total_parameters == parameters


def test_backbone_with_pyramid_as_detectron2_counts_it():
    tape = taped("d2_faster_rcnn_r50_fpn")
    own = sum(size for label, size in tape.parameters.items() if label.startswith(("backbone", "pyramid")))
    assert own == 26_799_296


def test_convolutions_of_an_image_as_detectron2_counts_them():
    """117 billion multiply-adds of backbone, pyramid and proposals at 800 × 800 pixels, cut off."""
    tape = taped("d2_faster_rcnn_r50_fpn", image_px=800.0, aspect=1.0)
    macs = sum(
        count * op.batch * op.h * op.w / op.stride**2 * op.c_in * op.c_out * op.kh * op.kw / op.groups
        for op, count in occurrences(tape.work)
        if isinstance(op, Conv)
    )
    assert int(macs / 1e9) == 117


def test_frozen_stages_have_no_gradient_and_keep_their_result():
    """Stem and first stage stay as they are: if this fails, training is charged for gradients that nobody asks for."""
    tape = taped("d2_faster_rcnn_r50_fpn", "train")
    labels = {op.label for op in ops(backward(tape.work))}
    assert not any(label.startswith(("backbone.stem", "backbone.layer1")) for label in labels)
    assert any(label.startswith("backbone.layer2") for label in labels)
    stem = 64 * 49 * 3
    first = 64 * 64 + 3 * 9 * 64 * 64 + 3 * 64 * 256 + 2 * 64 * 256 + 64 * 256
    assert tape.untrained_parameters == stem + first


def test_frozen_norms_keep_nothing():
    frozen, trained = Tape(1.0, fused=False), Tape(1.0, fused=False)
    for tape, kind in ((frozen, "frozen"), (trained, "batch")):
        tape.norm(tape.image(64, 10, 10), kind)
    assert saved_bytes(frozen.work, 0, 1.0, False) == 0.0
    assert saved_bytes(trained.work, 0, 1.0, False) == 64 * 100 * 2


def test_training_scores_a_sample_of_the_proposals():
    """512 of an image, a quarter of which get a mask; a network in use scores all and masks what is left."""
    heads = {}
    for task in ("train", "forward"):
        tape = taped("d2_mask_rcnn_r50_fpn", task)
        found = {op.label: op for op in ops(tape.work)}
        boxes, masks = found["boxes.hidden1"], found["masks.conv0"]
        assert isinstance(boxes, Gemm)
        assert isinstance(masks, Conv)
        heads[task] = (boxes.m, masks.batch)
    assert heads == {"train": (512.0, 128.0), "forward": (1000.0, 100.0)}


def test_strides_come_first_in_the_older_blocks():
    """Caffe2's models halve the map in the first convolution: fewer operations, the same parameters."""
    older, newer = taped("d2_faster_rcnn_r50_fpn"), taped("fasterrcnn_resnet50_fpn")

    def of_backbone(tape):
        parts = [tape.parameters[label] for label in tape.parameters if label.startswith("backbone")]
        flop = sum(
            op.batch * op.h * op.w / op.stride**2 * op.c_in * op.c_out * op.kh * op.kw * count
            for op, count in occurrences(tape.work)
            if isinstance(op, Conv) and op.label.startswith("backbone")
        )
        return sum(parts), flop

    (same, less), (known, more) = of_backbone(older), of_backbone(newer)
    assert same == known
    assert less < more
