"""How a collector chose experts for tokens (design §8: a row is the work that its harness ran)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.evidence.expert_routing import Routed, routed


def choose(tokens: int, experts: int, top_k: int, ranks: int, alpha: float | None, narrowed: float = 1.0) -> Routed:
    sizes = [np.array([float(value)]) for value in (tokens, experts, top_k, ranks)]
    return routed(sizes[0], sizes[1], sizes[2], sizes[3], alpha, narrowed)


LAYERS = st.sampled_from([(8, 2), (16, 1), (60, 4), (64, 6), (128, 8), (160, 8), (512, 22)])


@given(LAYERS, st.integers(1, 5000), st.sampled_from([None, 1.01, 1.2]))
def test_one_rank_has_every_choice_of_every_token(layer, tokens, alpha):
    # were rows lost in rounding, small layers would read fewer experts than the collector ran
    experts, top_k = layer
    found = choose(tokens, experts, top_k, 1, alpha)
    assert found.rows.item() == tokens * top_k
    assert found.tokens.item() == tokens
    assert top_k <= found.active.item() <= min(experts, tokens * top_k)
    for counts in found.counts[0]:
        assert counts.max() <= tokens, "a token chooses an expert once"


@given(LAYERS, st.integers(1, 3000), st.sampled_from([None, 1.01, 1.2]), st.sampled_from([2, 4]))
def test_a_rank_has_no_more_tokens_than_choices_and_the_busiest_no_fewer_than_its_share(layer, tokens, alpha, ranks):
    experts, top_k = layer
    found = choose(tokens, experts, top_k, ranks, alpha)
    assert found.tokens.item() <= min(tokens, found.rows.item())
    if alpha is not None:
        assert found.rows.item() >= tokens * top_k / ranks - 1e-9
    assert found.active.item() <= found.visited.item() <= experts / ranks


def test_the_tokens_of_a_rank_are_those_that_the_filled_columns_say():
    # the collector writes experts by falling count into columns of one choice per token: counted here one by one
    found = choose(300, 64, 6, 8, 1.2)
    alone = choose(300, 64, 6, 1, 1.2)
    expected = []
    for counts, everywhere in zip(found.counts[0], alone.counts[0], strict=True):
        busiest = everywhere.reshape(8, 8).sum(axis=1).argmax()
        assert counts.sum() == pytest.approx(everywhere.reshape(8, 8)[busiest].sum(), abs=8)
        swapped = everywhere.reshape(8, 8).copy()
        swapped[[0, busiest]] = swapped[[busiest, 0]]
        flat = np.repeat(np.argsort(-swapped.ravel(), kind="stable"), np.sort(swapped.ravel())[::-1])
        expected.append((flat.reshape(6, 300).T < 8).any(axis=1).sum())
    assert found.tokens.item() == pytest.approx(np.mean(expected), rel=0.03)


def test_skew_makes_the_busiest_rank_busier_and_even_routing_gives_each_its_share():
    even, skewed = choose(4096, 64, 8, 8, None), choose(4096, 64, 8, 8, 1.2)
    assert (even.rows.item(), even.active.item()) == (4096.0, 8.0)
    assert even.rows.item() < skewed.rows.item() < 8.0 * even.rows.item()


def test_tiles_count_the_rows_of_every_expert_apart():
    found = choose(64, 64, 8, 1, None)  # eight rows each
    assert found.tiles(np.array([8.0])).item() == 64.0
    assert found.tiles(np.array([128.0])).item() == 64.0
    assert found.tiles(np.array([4.0])).item() == 128.0


def test_choices_of_other_ranks_are_booked_on_the_first_expert():
    here = choose(64, 64, 8, 8, None)
    booked = here.with_others(here.tokens * 8.0)
    assert booked.rows.item() == 64 * 8
    assert booked.active.item() == here.active.item()
    assert here.with_others(np.zeros(1)).rows.item() == here.rows.item()


def test_a_gate_narrowed_to_half_of_the_groups_takes_the_rest_from_the_first_experts():
    # DeepSeek-V3: one choice in each of eight groups, of which four may be taken: four more come from where scores tie
    whole = choose(1024, 256, 8, 1, None, narrowed=2.0)
    assert whole.rows.item() == 1024 * 8
    first = choose(1024, 256, 8, 64, None, narrowed=2.0)
    assert first.rows.item() == pytest.approx(4 * 1024 + 4 * 1024 / 32)
    assert first.tokens.item() == 1024


@pytest.mark.parametrize(("experts", "ranks"), [(2048, 8), (60, 8), (4, 8), (1, 1)])
@pytest.mark.parametrize("alpha", [None, 1.2])
def test_any_layer_on_any_ranks_has_an_answer(experts, ranks, alpha):
    # other people's tables: more experts than models have today, ranks that cannot have equally many, fewer experts than ranks
    found = choose(512, experts, 2, ranks, alpha)
    assert 1.0 <= found.active.item() <= max(experts // ranks, 1)
    assert found.rows.item() >= 1.0
