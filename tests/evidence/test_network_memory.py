"""Peaks of training a network (design §8): what is at hand beside what is kept, and rows that have no figure."""

from __future__ import annotations

import numpy as np
import pytest

from ridgepoint.evidence.network_memory import WINOGRAD, most_at_hand
from ridgepoint.models.backward import UNTRAINED
from ridgepoint.ops import Conv, Stream
from ridgepoint.work import Repeat, Seq

COLUMNS = (
    "source,machine,devices,nodes,framework,model,task,precision,kv_dtype,batch,prompt,output,concurrency,image_px,"
    "tp,pp,dp,ep,cp,vp,zero_stage,micro_batch,global_batch,recompute,mode,extra,metric,value,unit"
)


@pytest.fixture
def predicted(predicted_lines):
    return lambda *rows: predicted_lines("memory", COLUMNS, *rows)


def row(model="d2-faster-r-cnn-r50-fpn", batch=16, devices=8, source="detectron2"):
    stated = f"{source},v100-sxm-16gb,{devices},1,detectron2,{model},train_step,fp32" + "," * 14
    return f"{stated},{batch},,eager,{{}},peak_memory_gb,3,GB"


def test_what_heads_and_depth_add(predicted):
    """Masks, keypoints and a deeper backbone each need more; proposals alone need least."""
    names = (
        "d2_rpn_r50_c4",
        "d2_fast_rcnn_r50_fpn",
        "d2_faster_rcnn_r50_fpn",
        "d2_mask_rcnn_r50_fpn",
        "d2_mask_rcnn_r101_fpn",
    )
    peaks = predicted(*(row(name) for name in names)).predicted
    assert np.all(np.diff(peaks) > 0.0)


def test_images_of_a_device_decide(predicted):
    """16 images on 8 devices are 2 on each: the same as 4 on 2."""
    eight, two, more = predicted(row(), row(batch=4, devices=2), row(batch=32)).predicted
    assert eight == pytest.approx(two)
    assert more > 1.5 * eight


def test_a_winograd_convolution_needs_its_transforms():
    plain = Conv(batch=2.0, c_in=8.0, c_out=8.0, h=16.0, w=16.0, kh=3.0, kw=3.0, pad_h=1.0, pad_w=1.0, acts="fp32")
    both = 2 * 2 * 8 * 256 * 4
    assert most_at_hand(plain) == pytest.approx(both * (1.0 + WINOGRAD))
    strided = Conv(batch=2.0, c_in=8.0, c_out=8.0, h=16.0, w=16.0, kh=3.0, kw=3.0, stride=2.0, acts="fp32")
    assert most_at_hand(strided) == pytest.approx(both * 0.625)


def test_untrained_parts_have_no_gradient_at_hand():
    big, small = (Stream(read_bytes=size, write_bytes=size) for size in (100.0, 10.0))
    assert most_at_hand(Seq(Seq(big, label=UNTRAINED), Repeat(3.0, small))) == 20.0


def test_sources_that_say_no_size_of_pictures_are_refused(predicted):
    found = predicted(row(source="mine"))
    assert found.refused[0] == "image_px is not stated"


def test_a_size_that_is_stated_is_taken(predicted):
    """ResNet-50 in 32 bits keeps two tensors of every convolution, 22 million values of an image: 22 GB for 256 of them."""
    stated = row("resnet50", 256, 1, "mine").split(",")
    stated[13] = "224"
    found = predicted(",".join(stated))
    assert found.predicted[0] == pytest.approx(22.5, rel=0.1)


def passing(model, batch, metric="peak_memory_gb", image="224", kind=""):
    stated = f"mine,rtx-3090,1,1,timm,{model},forward,fp16,,{batch},,,,{image}" + "," * 10
    extra = f'"{{""kind"":""{kind}""}}"' if kind else "{}"
    return f"{stated},eager,{extra},{metric},3,GB"


def test_a_pass_needs_its_weights_and_what_is_at_hand(predicted):
    """ResNet-50 in 16 bits: 51 MB of weights; the input and output of its first stage, 1.6 million values an image each."""
    one, many, twice = predicted(*(passing("resnet50", batch) for batch in (1, 256, 512))).predicted
    assert 0.051 < one < 0.08
    assert twice - many == pytest.approx(many - 0.051, rel=0.05)  # in proportion to the images, beside the weights


def test_the_whole_device_holds_a_context_besides(predicted):
    alone, device = predicted(passing("resnet50", 8), passing("resnet50", 8, kind="device_used")).predicted
    assert device - alone == pytest.approx(1.47)


def test_whether_a_network_fits(predicted):
    """An RTX 3090 has 24 GB; a yes counts 2, a no 1."""
    few, far_too_many = predicted(passing("vgg16", 8, "fits"), passing("vgg16", 8192, "fits")).predicted
    assert (few, far_too_many) == (2.0, 1.0)
