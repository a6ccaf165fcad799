"""Rules of fewer tokens, sequences and layers (design §6)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given as cases
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.ops import Attention, Gemm, Scan, Stream
from ridgepoint.scenario import scenario
from ridgepoint.techniques.reductions import fewer_sequences, fewer_tokens, layer_rule, thinned, visited
from ridgepoint.work import Seq, occurrences, ops

OPS = (
    Gemm(m=64.0, n=32.0, k=16.0, label="layers.up"),
    Gemm(m=16.0, n=32.0, k=64.0, label="layers.up.grad_weight"),
    Scan(batch=4.0, seq=128.0, heads=8.0, head_dim=64.0, state_dim=64.0),
    Stream(read_bytes=1e6, write_bytes=1e6, flop=1e6, rows=10.0),
)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.label or op.kind)
@cases(st.floats(0.05, 1.0))
def test_operations_scale_with_the_share_of_tokens(op, share):
    """Half of the tokens cost half of the operations, forward and backward; a wrong axis would leave them as they are."""
    rules = rules_of(op)
    if not isinstance(op, Scan):  # a chunked form costs a chunk, however few its tokens
        assert float(rules.flop(fewer_tokens(op, share))) == pytest.approx(share * float(rules.flop(op)))
    assert float(rules.flop(fewer_sequences(op, share))) == pytest.approx(share * float(rules.flop(op)))


def test_attention_among_fewer_tokens_falls_with_the_square():
    op = Attention(batch=2.0, heads=8.0, kv_heads=8.0, q_len=512.0, kv_len=512.0, head_dim=64.0, causal=False)
    flop = rules_of(op).flop
    assert flop(fewer_tokens(op, 0.5)) == pytest.approx(flop(op) / 4.0)
    assert flop(fewer_sequences(op, 0.5)) == pytest.approx(flop(op) / 2.0)


@cases(st.floats(0.0, 1.0), st.floats(1.0, 512.0))
def test_rows_that_come_are_expected_rows(share, rows):
    """Chance times rows per visit is the expected number of rows: no work appears or is lost."""
    chance, part = visited(share, rows)
    assert 0.0 <= chance <= 1.0
    assert part <= 1.0 + 1e-9
    assert chance * part == pytest.approx(share)


def test_one_row_skips_weights_and_many_rows_do_not():
    gemm = Gemm(m=1.0, n=32.0, k=16.0)
    assert sum(count for _, count in occurrences(thinned(gemm, 0.25, 1.0))) == 0.25
    assert sum(count for _, count in occurrences(thinned(gemm, 0.25, 1000.0))) == pytest.approx(1.0)


@pytest.mark.parametrize(("model", "task"), [("llama-3.1-8b", rp.Prefill()), ("vit_large_patch16_224", rp.Forward())])
def test_layers_are_told_from_ends(model, task):
    """Embedding and head stay; everything that repeats goes."""
    given = scenario(model, "h100-sxm", task)
    work = given.build().phases[0].work
    left = [op.label for op in ops(layer_rule(given, lambda op: Seq())(work))]
    assert left
    assert not any("feed" in label or "attention" in label for label in left)
    assert np.all([label.startswith(("embedding", "head", "stem")) for label in left])
