"""Counting parameters: by hand, and against what publishers say (design §5)."""

import math
from decimal import Decimal

import pytest

from ridgepoint.models.architecture import (
    DeltaAttention,
    Embedding,
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    Model,
    SelfAttention,
    Stack,
)
from ridgepoint.models.catalog import Entry, find_model, model_entries
from ridgepoint.models.parameters import (
    active_parameters,
    feed_parameters,
    mixer_parameters,
    parameters,
    stack_parameters,
    total_parameters,
)

ENTRIES = model_entries()
WITH_ACTIVE = [entry for entry in ENTRIES if entry.active_parameters]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_count_is_the_published_one(entry: Entry):
    printed = len(Decimal(str(entry.parameters / 1e9)).normalize().as_tuple().digits)
    within = 0.01 if printed > 1 else 0.02  # "8B" can mean 8.1
    assert total_parameters(find_model(entry.name)) == pytest.approx(entry.parameters, rel=within)


@pytest.mark.parametrize("entry", WITH_ACTIVE, ids=lambda entry: entry.name)
def test_the_active_count_is_the_published_one(entry: Entry):
    # "A3B" can mean 3.58: publishers round or cut the figure to the digits that they print.
    active = active_parameters(find_model(entry.name))
    digits = Decimal(str(entry.active_parameters / 1e9)).normalize()
    unit = 1e9 * 10.0 ** min(0, int(digits.as_tuple().exponent))
    difference = active - entry.active_parameters
    assert -max(0.03 * active, unit / 2) <= difference <= max(0.03 * active, unit)


def test_figures_that_everyone_quotes():
    mixtral, deepseek = find_model("mixtral-8x7b"), find_model("deepseek-v3")
    assert total_parameters(mixtral) == pytest.approx(46.7e9, rel=1e-3)
    assert active_parameters(mixtral) == pytest.approx(12.9e9, rel=0.01)
    assert total_parameters(deepseek) == pytest.approx(671e9, rel=1e-3)
    # README_WEIGHTS of the release says 36.7 B, the paper rounds to 37 B.
    assert active_parameters(deepseek) == pytest.approx(36.7e9, rel=0.01)
    assert round(active_parameters(deepseek) / 1e9) == 37


def test_both_conventions_for_the_input_table():
    model = find_model("gpt-oss-120b")
    table = 201_088 * 2880
    assert active_parameters(model, embedding=True) - active_parameters(model, embedding=False) == table
    assert active_parameters(model) == active_parameters(model, embedding=False) == pytest.approx(5.13e9, rel=0.01)


def test_a_tied_table_is_the_head_and_always_counts():
    layer = Layer(SelfAttention(4, 4, 16), FeedForward(64))
    model = Model("small", Embedding(1000, tied=True), decoder=Stack(64, ((layer, 2),)))
    assert active_parameters(model, embedding=False) == total_parameters(model)


@pytest.mark.parametrize(
    ("mixer", "count"),
    [
        # GPT-2 small: 768 × 2304 + 2304 in, 768 × 768 + 768 out.
        (SelfAttention(12, 12, 64, bias=True, output_bias=True), 768 * 2304 + 2304 + 768 * 768 + 768),
        (SelfAttention(12, 4, 64, query_norm="head"), 768 * (768 + 512) + 768 * 768 + 2 * 64),
        (SelfAttention(12, 4, 64, query_norm="full"), 768 * (768 + 512) + 768 * 768 + 768 + 256),
        (SelfAttention(12, 4, 64, output_gate=True, sinks=True), 768 * (2 * 768 + 512) + 768 * 768 + 12),
        (LatentAttention(4, 0, 32, 16, 8, 16), 768 * 4 * 24 + 768 * 40 + 32 + 32 * 4 * 32 + 4 * 16 * 768),
        (LatentAttention(4, 48, 32, 16, 8, 16), 768 * 48 + 48 + 48 * 96 + 768 * 40 + 32 + 32 * 4 * 32 + 64 * 768),
        (Mamba2(24, 64, 128), 768 * (2 * 1536 + 256 + 24) + 1792 * 5 + 3 * 24 + 1536 + 1536 * 768),
        (Mamba1(1536, 16, 48), 768 * 3072 + 1536 * 5 + 1536 * 80 + 49 * 1536 + 1536 * 17 + 1536 * 768),
        (DeltaAttention(4, 8, 32, 32), 768 * (2 * 128 + 2 * 256) + 256 * 768 + 768 * 16 + 16 + 512 * 4 + 32),
    ],
)
def test_mixers_by_hand(mixer, count):
    assert mixer_parameters(mixer, 768) == count


@pytest.mark.parametrize(
    ("feed", "count"),
    [
        (FeedForward(3072, gated=False, bias=True), 2 * 768 * 3072 + 3072 + 768),
        (FeedForward(3072), 3 * 768 * 3072),
        (Experts(8, 2, 100), 8 * 3 * 768 * 100 + 8 * 768),
        (Experts(8, 2, 100, bias=True, router_bias=True), 8 * (3 * 768 * 100 + 200 + 768) + 8 * 769),
        (Experts(8, 2, 100, shared_width=50, shared_gate=True), 8 * 3 * 768 * 100 + 8 * 768 + 3 * 768 * 50 + 768),
        (Experts(8, 2, 100, gated=False, hidden=64), 8 * 2 * 64 * 100 + 8 * 768 + 2 * 768 * 64),
    ],
)
def test_feeds_by_hand(feed, count):
    assert feed_parameters(feed, 768) == count


def test_t5_keeps_one_relative_position_table_per_stack():
    layer = Layer(SelfAttention(8, 8, 64, rope=False, relative_buckets=32), FeedForward(2048, gated=False))
    one, six = (stack_parameters(Stack(512, ((layer, n),)))["layers.attention"] for n in (1, 6))
    assert six - one == 5 * 4 * 512 * 512


def test_components_name_both_stacks_of_an_encoder_decoder():
    names = set(parameters(find_model("t5-small")))
    assert {"layers.cross_attention", "encoder.layers.attention", "layers.feed", "embedding"} <= names


def test_parts_for_images_are_not_active():
    model = find_model("qwen3.5-35b-a3b")
    vision = dict(model.other_parameters)["vision"]
    idle = 40 * (256 - 8) * 3 * 2048 * 512
    assert math.isclose(total_parameters(model) - active_parameters(model, embedding=True), vision + idle)
