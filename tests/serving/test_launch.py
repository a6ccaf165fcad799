"""Layouts in the engines' own words: vLLM, SGLang and TensorRT-LLM document what each degree is called (issue 10)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.serving.deployment import deployment
from ridgepoint.serving.launch import sglang_options, trtllm_options, vllm_options

LAYOUTS = {
    "experts under tensor-parallel attention": rp.Plan(tp=8, ep=8),
    "experts under data-parallel attention": rp.Plan(tp=1, dp=8, ep=8),
    "tensor parallelism alone": rp.Plan(tp=8),
}


@pytest.mark.parametrize(
    ("kind", "vllm", "sglang", "trtllm"),
    [
        (
            "experts under tensor-parallel attention",
            {"--tensor-parallel-size": "8", "--enable-expert-parallel": None},
            {"--tp-size": "8", "--ep-size": "8"},
            {"--tp_size": "8", "--ep_size": "8"},
        ),
        (
            "experts under data-parallel attention",
            {"--tensor-parallel-size": "1", "--data-parallel-size": "8", "--enable-expert-parallel": None},
            {"--tp-size": "8", "--dp-size": "8", "--ep-size": "8", "--enable-dp-attention": None},
            {"--tp_size": "8", "--ep_size": "8"},
        ),
        ("tensor parallelism alone", {"--tensor-parallel-size": "8"}, {"--tp-size": "8"}, {"--tp_size": "8"}),
    ],
)
def test_what_is_launched_is_the_layout_that_was_planned(kind, vllm, sglang, trtllm):
    given = deployment("qwen3-235b-a22b", "8xh200-sxm", LAYOUTS[kind])
    for options, wanted in ((vllm_options, vllm), (sglang_options, sglang), (trtllm_options, trtllm)):
        said = {
            name: value
            for name, value in options(given, 4096)
            if any(word in name.replace("_", "-") for word in ("tensor-par", "data-par", "tp-", "dp-", "ep-", "expert"))
        }
        assert said == wanted
