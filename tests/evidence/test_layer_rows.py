"""Whole layers as tables time them (design §8): sizes from the catalogue's model, or from the row itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ridgepoint.evidence.rows import express
from ridgepoint.evidence.tables import read_table
from ridgepoint.evidence.validate import predict_kernels
from ridgepoint.evidence.validation import BUILDERS
from ridgepoint.ops import Gemm
from ridgepoint.work import ops
from tests.evidence.tables import text, write

HEADER = (
    *("source", "machine", "framework", "op", "dtype", "batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len"),
    *("extra", "time_us"),
)
DEEPSEEK = {"hidden": 7168, "q_lora": 1536, "kv_lora": 512, "qk_rope": 64, "qk_nope": 128, "v_dim": 128}
LLAMA = {"hidden_size": 4096, "intermediate_size": 14336}


@pytest.fixture
def express_layers(tmp_path):
    def run(*extras, **cells):
        usual = {"source": "mine", "machine": "h100-sxm", "framework": "trtllm", "op": "layer", "dtype": "bf16"}
        usual |= {"batch": "8", "heads": "32", "kv_heads": "8", "head_dim": "128", "q_len": "1", "kv_len": "4096"}
        rows = [usual | cells | {"extra": json.dumps(extra), "time_us": "100"} for extra in extras]
        return express(read_table(write(tmp_path, text([[r[n] for n in HEADER] for r in rows], HEADER))), BUILDERS)

    return run


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_stated_sizes_are_as_good_as_a_known_name(express_layers, phase):
    named = {"name": "mla_block", "phase": phase, "model": "deepseek-v3"}
    stated = {"name": "mla_block", "phase": phase, "model": "nobody-1"} | DEEPSEEK
    one, other = predict_kernels(express_layers(named, stated, dtype="fp8", q_len="16", heads="16")).predicted
    assert one == pytest.approx(other)


def test_other_models_have_their_own_sizes(express_layers):
    """Kimi K2's layer is DeepSeek-V3's with half the heads, which the row states; DeepSeek-V2-Lite projects queries at once."""
    names = ("deepseek-v3", "kimi-k2", "deepseek-v2-lite")
    v3, kimi, lite = predict_kernels(
        express_layers(*({"name": "mla_block", "model": name} for name in names))
    ).predicted
    assert kimi == pytest.approx(v3)
    assert lite < v3


def test_a_row_without_sizes_says_what_it_lacks(express_layers):
    known = {"name": "mla_block", "model": "nobody-1", "hidden": 7168}
    found = express_layers(known, known | DEEPSEEK, {"name": "decoder_layer", "hidden": 4096}, {"name": "odd"})
    assert found.refused == {
        0: "layer 'mla_block' of nobody-1: extra.q_lora is not stated",
        2: "layer 'decoder_layer' of no model: extra.intermediate is not stated",
        3: "layer 'odd' of ",
    }


def test_products_of_a_plain_layer_hold_its_weights(express_layers):
    """Llama 3 8B's layer: 218 million weights in products; its attention block alone 42 million."""
    for name, weights in (("decoder_layer", 218.1e6), ("attention", 41.9e6)):
        (batch,) = express_layers({"name": name} | LLAMA).batches
        products = [op for op in ops(batch.work) if isinstance(op, Gemm)]
        assert sum(float(np.max(op.n * op.k)) for op in products) == pytest.approx(weights, rel=0.01)


def test_narrow_arithmetic_converts_and_wide_does_not(express_layers):
    for dtype, more in (("fp8", 4), ("fp16", 0)):
        (plain,), (other,) = (express_layers({"name": "layer"} | LLAMA, dtype=d).batches for d in ("bf16", dtype))
        assert len(list(ops(other.work))) - len(list(ops(plain.work))) == more
