"""Feed-forward parts: dense, and mixtures of experts on any number of ranks (design §5)."""

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.models.architecture import Experts, FeedForward
from ridgepoint.models.catalog import find_model
from ridgepoint.models.execution import Execution, Formats, Tokens
from ridgepoint.models.feed import UNEVEN, chance_imbalance, dense, experts, most_touched, touched_experts
from ridgepoint.numeric import Num
from ridgepoint.tasks import Decode, Forward
from ridgepoint.tasks.inference import kernel_count
from tests.models.parts import built, components, execution, flop

MOE = Experts(count=64, top_k=8, width=128)


# peers §4, issue 2: at batch B about E·(1−(1−k/E)^B) experts are read
@pytest.mark.parametrize(("count", "top_k", "tokens"), [(8, 2, 1), (8, 2, 5), (128, 8, 16), (256, 8, 64)])
def test_touched_experts_are_those_that_random_routing_touches(count, top_k, tokens):
    rng = np.random.default_rng(0)
    seen = [np.unique(np.argpartition(rng.random((tokens, count)), top_k, axis=1)[:, :top_k]).size for _ in range(2000)]
    found = touched_experts(float(count), float(top_k), float(tokens))
    assert found == pytest.approx(np.mean(seen), abs=4 * np.std(seen) / np.sqrt(2000) + 1e-9)


@pytest.mark.parametrize(("rows", "ranks"), [(64, 8), (1000, 16), (100, 64)])
def test_the_busiest_rank_under_random_routing(rows, ranks):
    draws = np.random.default_rng(0).multinomial(rows * ranks, np.full(ranks, 1 / ranks), 4000).max(axis=1) / rows
    assert chance_imbalance(float(rows), float(ranks)) == pytest.approx(draws.mean(), rel=0.05)
    assert chance_imbalance(float(rows), 1.0) == 1.0


# Uneven popularity leaves more experts untouched, but one token picks as many as ever.
@pytest.mark.parametrize(("count", "top_k", "tokens"), [(128, 1, 1), (128, 1, 64), (128, 4, 16), (256, 8, 64)])
def test_experts_of_uneven_popularity_are_touched_as_drawn(count, top_k, tokens):
    rng = np.random.default_rng(1)
    seen = []
    for _ in range(400):
        popularity = rng.gamma(1 / UNEVEN, UNEVEN, count)
        share = top_k * popularity / popularity.sum()
        seen.append(np.sum(rng.random((tokens, count)).min(axis=0) < share))
    found = touched_experts(float(count), float(top_k), float(tokens), UNEVEN)
    assert found == pytest.approx(np.mean(seen), rel=0.03, abs=4 * np.std(seen) / 20)
    assert found <= touched_experts(float(count), float(top_k), float(tokens)) + 1e-9


@pytest.mark.parametrize(("part", "here", "ranks"), [(0.1, 96, 4), (0.5, 32, 8), (1.0, 16, 8)])
def test_the_rank_with_most_touched_experts_is_waited_for(part, here, ranks):
    draws = np.random.default_rng(2).binomial(here, part, (4000, ranks)).max(axis=1)
    assert most_touched(part * here, float(here), float(ranks)) == pytest.approx(draws.mean(), rel=0.05)
    assert most_touched(part * here, float(here), 1.0) == pytest.approx(part * here)


def test_routing_that_is_stated_or_trained_is_not_made_uneven():
    """A stated factor stands for everything, and training balances its experts."""
    for run in (execution(expert_imbalance=1.0), execution(training=True)):
        parts = components(experts(MOE, 64, Tokens(4.0, 1.0, 1.0, decode=True), run, "m"))
        inputs = 4 * 8 * (64 + 2 * 128) * 2
        loaded = touched_experts(64.0, 8.0, 4.0) * 2 * 64 * 128 * 2
        assert parts["m.experts.gate_up"].bytes == pytest.approx(loaded + inputs)


def test_a_library_that_keeps_places_moves_the_rows_of_other_ranks_too():
    """Triton's layer sums every choice of every token, whoever has the expert, and blocks write zeros for others' (as the rows
    of fused expert layers have it, design §8): on one rank there are none, on eight seven in eight. Products stay as they are.
    """
    tokens = Tokens(np.array([16.0, 64.0]), 1.0, 1.0, decode=True)
    for ranks in (1.0, 8.0):
        none, triton = (
            components(experts(MOE, 64, tokens, execution(tp=ranks, ep=ranks, expert_library=name), "m"))
            for name in ("", "triton-bf16")
        )
        others = tokens.total * 8 * (1.0 - 1.0 / ranks)
        zeros, whole = others * (2 * 128 + 64) * 2, others * (64 + 64 / 8) * 2
        further = triton["m.weighted_sum"].bytes - none["m.weighted_sum"].bytes
        assert further == pytest.approx(zeros + whole)
        ratio = triton["m.experts.activation"].bytes / none["m.experts.activation"].bytes
        assert ratio == pytest.approx(np.full(2, ranks))
        for product in ("m.experts.gate_up", "m.experts.down"):
            assert triton[product].bytes == pytest.approx(none[product].bytes)


def test_a_library_starts_its_own_number_of_kernels_beside_the_products():
    """Counts are those of the timed layers, conversion of the rows included: generated kernels have one in 16 bits and five in
    FP8 blocks, where nobody's layer has two, and three with the conversion.
    """

    def launches(name: str, formats: Formats) -> Num:
        return kernel_count(
            experts(MOE, 64, Tokens(4.0, 1.0, 1.0, decode=True), Execution(formats, expert_library=name), "m")
        )

    wide = Formats((("default", "bf16"),))
    narrow = Formats((("default", "fp8_block"),), inputs="fp8_block")
    assert launches("triton-bf16", wide) == launches("", wide)
    assert launches("trtllm_gen-bf16", wide) == launches("", wide) - 1.0
    assert launches("trtllm_gen-fp8_block", narrow) == launches("", narrow) + 2.0


def test_a_gated_part_has_three_matrices_and_a_plain_one_two():
    gated = components(dense(FeedForward(256), 64, Tokens(2.0, 8.0, 8.0), execution(), "f"))
    plain = components(dense(FeedForward(256, gated=False), 64, Tokens(2.0, 8.0, 8.0), execution(), "f"))
    assert gated["f.gate_up"].flop == 2 * 16 * 64 * 2 * 256
    assert gated["f.down"].flop == plain["f.down"].flop == plain["f.up"].flop == 2 * 16 * 64 * 256


def test_active_and_loaded_experts_are_counted_separately():
    """Arithmetic follows the tokens' own experts, bytes the experts that any token picked (peers §4)."""
    for batch in (1.0, 4.0, 4096.0):
        parts = components(experts(MOE, 64, Tokens(batch, 1.0, 1.0, decode=True), execution(), "m"))
        products = parts["m.experts.gate_up"], parts["m.experts.down"]
        assert sum(p.flop for p in products) == pytest.approx(2 * batch * 8 * 3 * 64 * 128)
        loaded = touched_experts(64.0, 8.0, batch, UNEVEN) * 3 * 64 * 128 * 2
        inputs = batch * 8 * (64 + 2 * 128 + 128 + 64) * 2
        assert sum(p.bytes for p in products) == pytest.approx(loaded + inputs)


@pytest.mark.parametrize(("tp", "ep"), [(1, 1), (8, 1), (8, 8), (4, 2), (1, 8), (2, 16)])
def test_expert_ranks_divide_the_arithmetic_evenly(tp, ep):
    """Sliced, whole, or pooled over attention replicas: all devices together do the same work."""
    work = experts(MOE, 64, Tokens(4.0, 16.0, 16.0), execution(tp=float(tp), ep=float(ep)), "m")
    routed = sum(c.flop for label, c in components(work).items() if ".experts." in label and c.kind == "gemm")
    assert routed == pytest.approx(2 * 64 * 8 * 3 * 64 * 128 / tp)


def test_tokens_travel_only_between_attention_replicas():
    def travel(tp, ep):
        work = experts(MOE, 64, Tokens(4.0, 16.0, 16.0), execution(tp=tp, ep=ep), "m")
        return {label: c for label, c in components(work).items() if c.kind == "collective"}

    assert set(travel(8.0, 8.0)) == {"m.all_reduce"}
    assert set(travel(1.0, 8.0)) == {"m.dispatch", "m.combine"}
    many = travel(1.0, 8.0)["m.dispatch"]
    assert many.bytes == 2 * 64 * 8 * 64 * 2  # sent and received: 64 tokens, a copy for each of 8 experts, 64 wide


def test_shared_and_latent_experts_are_part_of_the_work():
    latent = Experts(64, 8, 128, gated=False, shared_width=256, hidden=32)
    parts = components(experts(latent, 64, Tokens(1.0, 10.0, 10.0), execution(), "m"))
    assert parts["m.latent_down"].flop == parts["m.latent_up"].flop == 2 * 10 * 64 * 32
    assert parts["m.experts.up"].flop == pytest.approx(2 * 10 * 8 * 32 * 128)
    assert parts["m.shared.up"].flop == 2 * 10 * 64 * 256


def test_interleaved_and_dense_first_layers_are_told_apart():
    """Llama 4 Maverick alternates dense and expert layers; DeepSeek-V3 begins with three dense ones (peers §4)."""
    deepseek = components(built("deepseek-v3", Forward(batch=1, seq=1)).device)
    assert deepseek["layers.feed.down"].count == 3
    assert deepseek["layers.moe.router"].count == 58
    maverick = components(built("llama-4-maverick", Forward(batch=1, seq=1)).device)
    assert maverick["layers.feed.down"].count == maverick["layers.moe.router"].count == 24


def test_the_imbalance_of_a_plan_reaches_every_task():
    """A plan's field that a task ignores would be answered for another scenario."""
    even, skewed = (built("mixtral-8x7b", Decode(batch=64, context=64), expert_imbalance=x).work for x in (1.0, 4.0))
    assert str(even) != str(skewed)
    assert "imbalance=4.0" in str(skewed)


def test_the_router_stays_whole_on_every_rank():
    model = find_model("mixtral-8x7b").main.layers[0][0].feed
    assert isinstance(model, Experts)
    for tp in (1.0, 8.0):
        work = experts(model, 4096, Tokens(1.0, 10.0, 10.0), execution(tp=tp), "m")
        assert components(work)["m.router"].flop == 2 * 10 * 4096 * 8


def test_arrays_of_batches_equal_their_points():
    batches = np.array([1.0, 7.0, 500.0])
    together = flop(experts(MOE, 64, Tokens(batches, 1.0, 1.0, decode=True), execution(), "m"), "gemm")
    alone = [flop(experts(MOE, 64, Tokens(b, 1.0, 1.0, decode=True), execution(), "m"), "gemm") for b in batches]
    assert np.allclose(together, alone)


def test_library_code_runs_a_composed_activation_operation_by_operation():
    """Transformers' NewGELUActivation (gelu_new) is eight kernels in eager code and one where chains are fused: without
    them the baseline of papers on fused kernels would be too quick."""

    def passes(model: str, compiled: bool) -> tuple[float, float]:
        plan = rp.Plan(compiled=compiled, graph_capture=False)
        est = rp.estimate(model, on="a100-sxm-40gb", task=rp.Forward(batch=8, seq=512), plan=plan)
        op = next(c for c in est.cost.components if c.label.endswith("feed.activation"))
        return float(op.bytes), float(op.bytes) / float(op.count)

    eager, fused = passes("gpt2", False), passes("gpt2", True)
    assert eager[0] == pytest.approx(9.0 * fused[0])
    assert passes("bert-base", False)[0] == pytest.approx(passes("bert-base", True)[0]), "gelu is one kernel"


def test_training_keeps_what_a_composed_activation_needs_for_its_gradient():
    """Autograd keeps the inputs of the power, of the tanh and of both products."""

    def kept(compiled: bool) -> float:
        plan = rp.Plan(micro_batch=8, compiled=compiled)
        est = rp.estimate("gpt2", on="a100-sxm-40gb", task=rp.Train(batch=8, seq=512), plan=plan)
        return float(est.memory.entries["activations"])

    assert kept(False) > kept(True)
