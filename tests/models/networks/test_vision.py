"""Vision networks have the parameters, multiply-adds and activations that their publishers' tables state."""

import csv
import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.models.networks.catalog import Entry, find_network, network_entries, read_entries, to_network
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import play
from ridgepoint.models.networks.tape import Tape
from ridgepoint.ops import Scan
from ridgepoint.work import Op, Repeat, Work, ops
from tests.models.networks.counting import CountingTape, count, table_macs

ENTRIES = [entry for entry in network_entries() if entry.domain == "vision"]
FAMILIES = {entry.family: entry for entry in ENTRIES}
MILLIONTHS = 0.006e6
"""Tables print hundredths of a million parameters and of a billion multiply-adds."""


def counted(work: Work, times: float = 1.0) -> list[tuple[Op, float]]:
    """Every op with how often it runs."""
    if isinstance(work, Repeat):
        return counted(work.body, times * float(np.max(work.count)))
    return [(work, times)] if isinstance(work, Op) else [op for part in work.children() for op in counted(part, times)]


@cache
def played(name: str) -> CountingTape:
    net = find_network(name)
    assert net is not None
    return count(net)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_parameters_are_the_published_ones(entry: Entry) -> None:
    # Wrong: a layer is missing, doubled or has another width than the published model's.
    if entry.parameters:
        digits = f"{entry.parameters:e}".rstrip("0123456789").rstrip("e+-").rstrip("0")
        half = 0.5 * 10.0 ** (np.floor(np.log10(entry.parameters)) - len(digits.partition(".")[2]))
        rel = 0.01 if len(digits) > 4 else 0.02
        assert played(entry.name).total_parameters == pytest.approx(
            entry.parameters, rel=rel, abs=max(half, MILLIONTHS)
        )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_multiply_adds_are_the_published_ones(entry: Entry) -> None:
    # Wrong: a map has another size than the published one, or an op is not counted. timm and some authors count norms too.
    if entry.macs:
        tape = played(entry.name)
        found = (
            table_macs(tape) if "timm" in entry.source or "norms counted" in entry.source else float(np.max(tape.macs))
        )
        assert found == pytest.approx(entry.macs, rel=0.03, abs=MILLIONTHS * 1e3)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_figure_has_a_source(entry: Entry) -> None:
    # Wrong: a published figure that nobody can trace.
    assert entry.source
    assert entry.parameters or entry.note


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_sweep_gives_what_single_points_give(family: str) -> None:
    # Wrong: a family decides by the value of a size, or loses an axis of the sweep.
    entry = FAMILIES[family]
    net = to_network(entry)
    size, usual = next(iter(entry.inputs.items()))
    batch, sides = np.array([1.0, 3.0, 2.0]), np.array([usual, usual, 2.0 * usual])
    swept = play(net, Tape(batch), {size: sides})
    for index in range(3):
        single = play(net, Tape(float(batch[index])), {size: float(sides[index])})
        assert np.broadcast_to(swept.macs, (3,))[index] == pytest.approx(single.macs, rel=1e-12)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_estimate_takes_at_least_its_physical_limit(family: str) -> None:
    # Wrong: an op that no kernel model gives meaning to, or a time below the limit; eager and compiled, both tasks.
    net = to_network(FAMILIES[family])
    for compiled in (True, False):
        plan = rp.Plan(compiled=compiled, fused_attention=compiled)
        for task in (rp.Forward(batch=8.0), rp.Train(batch=8.0)):
            result = rp.estimate(net, on="rtx-3090", task=task, plan=plan, strict=True)
            assert 0.0 < result.bound_s <= result.time_s


def test_one_layer_of_a_family_counted_by_hand() -> None:
    # Wrong: what a convolution, an inverted residual or a transformer layer is made of.
    def parameters(family: str, *options: tuple[str, object], px: float = 32.0) -> float:
        return count(Network("one", family, options), image_px=px).total_parameters

    stem, head = 3 * 64 * 49 + 2 * 64, 1000 * 65 - 1000 + 1000
    block = 2 * (64 * 64 * 9 + 2 * 64)
    assert parameters("resnet", ("depths", (1,)), ("bottleneck", False)) == stem + block + head
    inverted = 32 * 192 + 192 * 9 + 192 * 32 + 2 * (192 + 192 + 32)
    separable = (("stages", (("ir_r1_k3_s1_e6_c32",),)), ("features", 0))
    assert parameters("inverted_residuals", *separable) == 3 * 32 * 9 + 64 + inverted + 32 * 1000 + 1000
    layer = 12 * 64 * 64 + 13 * 64
    vit = (("dim", 64), ("depth", 1), ("heads", 1), ("patch", 16))
    assert parameters("vit", *vit) == (3 * 256 + 1) * 64 + 64 + 5 * 64 + layer + 2 * 64 + 65 * 1000
    unit = 64 * 49 + 64 + 2 * 64 + 8 * 64 * 64 + 5 * 64 + 64
    next_ = (("depths", (1,)), ("dims", (64,)))
    assert parameters("convnext", *next_) == 3 * 16 * 64 + 64 + 2 * 64 + unit + 2 * 64 + 65 * 1000


def test_products_of_one_attention_layer_counted_by_hand() -> None:
    # Wrong: window attention that spans the map, or scores that are not counted.
    swin = Network("one", "swin", (("dim", 32), ("depths", (1,)), ("heads", (1,)), ("window", 4), ("classes", 0)))
    positions, dim = 8.0 * 8.0, 32.0
    patches, attended = 3 * 16 * dim * positions, 2 * positions * 16.0 * dim
    layer = 12 * dim * dim * positions + attended
    assert count(swin, image_px=32.0).macs == pytest.approx(patches + layer)


def test_a_list_of_layers_counted_by_hand() -> None:
    # Wrong: a word of the notation means other shapes, or a repeated block keeps a map of the one before.
    layers = ("c8k3s2 =a d3- c4- &a p3s2", (2, "=b c12k3g4- +b"), "u2 /2 w10 f7")
    tape = count(Network("one", "layer_list", (("layers", layers),)), image_px=17.0)
    stem, depth, narrow, grouped = 8 * 27 + 8, 8 * 9 + 8, 8 * 4 + 4, 12 * 3 * 9 + 12
    assert tape.total_parameters == stem + depth + narrow + 2 * grouped + 10 * 7 + 7
    # 17 pixels: 9 after the stem, 4 after the pool, whose last window is cut off at the border.
    assert tape.macs == 81 * (8 * 27 + 8 * 9 + 8 * 4) + 2 * 16 * 12 * 3 * 9 + 10 * 7


def test_transposed_convolutions_of_a_list_meet_every_weight_once() -> None:
    # Wrong: products are counted at the enlarged size.
    net = Network("one", "layer_list", (("layers", ("t8k4s2g1 n x r v2 c5-",)),))
    tape = count(net, image_px=16.0)
    assert tape.total_parameters == 3 * 8 * 16 + 8 * 5 + 5
    assert tape.macs == 256 * 3 * 8 * 16 + 256 * 8 * 5


def test_a_group_gives_each_member_the_common_options() -> None:
    # Wrong: a member's own option does not replace the group's, or an unknown key passes.
    text = """
    [[group]]
    title = "G"
    family = "resnet"
    released = 2015
    source = "a table"
    [group.config]
    bottleneck = false
    classes = 10
    [group.inputs]
    image_px = 32
    [group.members]
    a_1 = { parameters = 1e6, config = { depths = [1], classes = 5 } }
    b_1 = { released = 2016, aliases = ["b"], inputs = { image_px = 64 } }
    """
    first, second = read_entries(text, "g.toml")
    assert first.config == {"bottleneck": False, "classes": 5, "depths": [1]}
    assert (first.released, second.released, second.inputs["image_px"]) == (2015, 2016, 64)
    with pytest.raises(rp.RidgepointError, match="unknown field `speed`"):
        read_entries(text.replace("released = 2016", "speed = 2016"), "g.toml")


def test_names_of_weights_find_the_architecture() -> None:
    # Wrong: a tag after the dot or underscores hide a network.
    for name in ("timm/vit_base_patch16_224.augreg_in21k", "ViT-Base-Patch16-224", "vit_base_patch16_224"):
        net = find_network(name)
        assert net is not None
        assert net.name == "vit_base_patch16_224"


def test_measured_networks_are_found_and_agree(shared: Path) -> None:
    # Wrong: fewer than four fifths of the measured rows have a network with the table's parameters and multiply-adds.
    rows: Counter[tuple[str, ...]] = Counter()
    with gzip.open(shared / "measurements" / "runs.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if row["source"] == "timm":
                extra = json.loads(row["extra"])
                rows[row["model"], row["image_px"], extra["mparams"], extra.get("gmacs")] += 1
    agreeing = sum(times for key, times in rows.items() if agrees(*key))
    assert agreeing / rows.total() >= 0.80


def agrees(name: str, image_px: str, mparams: str, gmacs: str | None) -> bool:
    net = find_network(name)
    if net is None:
        return False
    tape = count(net, image_px=float(image_px))
    same = tape.total_parameters == pytest.approx(float(mparams) * 1e6, rel=0.03, abs=MILLIONTHS)
    return same and (
        gmacs is None or table_macs(tape) == pytest.approx(float(gmacs) * 1e9, rel=0.03, abs=MILLIONTHS * 1e3)
    )


@pytest.mark.parametrize(("name", "stated"), [("litepose_s", 5.0e9), ("litepose_xs", 1.2e9)])
def test_what_the_authors_of_litepose_count_differently_explains_their_figure(name: str, stated: float) -> None:
    # Wrong: a layer is missing. Their counter takes a transposed convolution's whole kernel at each of 4 × as many outputs.
    tape = played(name)
    ups = sum(
        float(np.max(rules_of(op).flop(op))) / 2.0 for op in ops(tape.work) if op.label.endswith((".refined", ".raw"))
    )
    assert table_macs(tape) + 3.0 * ups == pytest.approx(stated, rel=0.03)


@pytest.mark.parametrize(
    ("name", "stated"), [("sequencer2d_s", 8.4e9), ("sequencer2d_m", 11.1e9), ("sequencer2d_l", 16.6e9)]
)
def test_sequencers_have_the_multiply_adds_of_their_paper(name: str, stated: float) -> None:
    # Wrong: a direction or an axis is missing, or the gates of an LSTM. Tatsunami and Taki 2022, table 1.
    tape = played(name)
    steps = sum(
        times * float(np.max(op.batch * op.seq * op.heads * op.head_dim**2 * op.state_dim))
        for op, times in counted(tape.work)
        if isinstance(op, Scan)
    )
    assert table_macs(tape) + steps == pytest.approx(stated, rel=0.01)


@pytest.mark.parametrize(("name", "stated"), [("litehrnet_18", 205.2e6), ("litehrnet_30", 319.2e6)])
def test_lite_hrnets_have_the_multiply_adds_of_their_paper(name: str, stated: float) -> None:
    # Wrong: a map of another size, or a module missing. The authors' counter takes one multiply-add per normalised value.
    tape = played(name)
    assert float(np.max(tape.macs + tape.norm_flop / 2.0)) == pytest.approx(stated, rel=0.002)


@pytest.mark.parametrize(
    ("trained", "merged"), [("mobileone_s1", "mobileone_s1_merged"), ("repvgg_b1", "repvgg_b1_merged")]
)
def test_merged_branches_do_the_same_products_with_fewer_kernels(trained: str, merged: str) -> None:
    # Wrong: merging leaves a branch behind, or costs products.
    before, after = played(trained), played(merged)
    assert after.total_parameters < before.total_parameters
    assert after.macs <= before.macs
    assert len(list(ops(after.work))) < 0.75 * len(list(ops(before.work)))
    quick, slow = (rp.estimate(name, on="a100-sxm-80gb").time_s for name in (merged, trained))
    assert quick < slow


def test_bottleneck_tokens_save_pairs_and_nothing_else() -> None:
    # Nagrani et al. 2021: with few tokens per modality the two ways cost the same; with many, joint attention is quadratic.
    def ratio(frames: float) -> float:
        sizes = {"frames": frames, "spectrum": 400.0}
        joint, few = (count(found, **sizes) for n in ("mbt-joint", "mbt-base") if (found := find_network(n)))
        return float(joint.macs / few.macs)

    assert 1.0 < ratio(1.0) < 1.1 < ratio(8.0)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("regnet_x_400mf", 5_495_976),
        ("regnet_y_400mf", 4_344_144),
        ("regnet_y_800mf", 6_432_512),
        ("regnet_y_8gf", 39_381_472),
        ("swin_v2_t", 28_351_570),
        ("vit_b_32", 88_224_232),
        ("mnasnet1_0", 4_383_312),
        ("mobilenet_v3_large", 5_483_032),
        ("efficientnet_v2_s", 21_458_488),
        ("maxvit_t", 30_919_624),
    ],
)
def test_names_of_torchvision_mean_its_networks(name: str, parameters: int) -> None:
    # Wrong: a name means the relative of another width that timm calls so. Counts: torchvision's documentation.
    found = find_network(name)
    assert found is not None
    assert count(found).total_parameters == pytest.approx(parameters, rel=0.002)
