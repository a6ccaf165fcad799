"""One layer of every family of graphs, fields, molecules, recommendation, search, speech and robots, counted by hand."""

import numpy as np
import pytest

from ridgepoint.kernels.unknown import rules_of
from ridgepoint.models.networks.catalog import find_network
from ridgepoint.models.networks.families.fields import fourier
from ridgepoint.models.networks.families.graphs import message_step
from ridgepoint.models.networks.families.molecules import paths, tensor_product, width_of
from ridgepoint.models.networks.families.protein import triangle_multiplication
from ridgepoint.models.networks.families.recommendation import cross
from ridgepoint.models.networks.families.recurrent import recurrent
from ridgepoint.models.networks.families.speech import conv1d
from ridgepoint.models.networks.families.tokens import attention, linear_attention
from ridgepoint.models.networks.registry import play
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.ops import Scan, Stream
from ridgepoint.work import Op, Repeat, Work


def ops(work: Work, times: float = 1.0) -> list[tuple[Op, float]]:
    if isinstance(work, Repeat):
        return ops(work.body, times * float(np.max(work.count)))
    if isinstance(work, Op):
        return [(work, times)]
    return [found for child in work.children() for found in ops(child, times)]


def play_entry(name: str, batch: float = 1.0, **sizes: float) -> Tape:
    net = find_network(name)
    assert net is not None
    return play(net, Tape(batch), sizes)


def by_label(tape: Tape, label: str) -> Stream:
    (found,) = [op for op, _ in ops(tape.work) if op.label == label]
    assert isinstance(found, Stream)
    return found


def test_a_message_step_reads_both_ends_of_every_edge() -> None:
    # Wrong: edges' networks see two inputs instead of three, or nodes' networks run on edges.
    tape = Tape(1.0)
    message_step(tape, Rows(1.0, 10.0, 128.0), Rows(1.0, 60.0, 128.0), 128, 2)
    assert tape.macs == 60.0 * (3.0 * 128.0**2 + 2.0 * 128.0**2) + 10.0 * (2.0 * 128.0**2 + 2.0 * 128.0**2)
    assert sum(op.label.startswith("gather") for op, _ in ops(tape.work)) == 2


def test_tensor_products_have_the_couplings_that_the_triangle_rule_allows() -> None:
    # Wrong: a coupling is missing. SevenNet's middle layers: 3 paths from scalars, 6 from vectors, 6 from degree 2.
    irreps = {0: 128.0, 1: 64.0, 2: 32.0}
    counts = [sum(path[0] == degree for path in paths(irreps, 2, 2)) for degree in (0, 1, 2)]
    assert counts == [3, 6, 6]
    products = tensor_product(Tape(1.0), Rows(1.0, 1.0, 1.0), irreps, 2, 2)
    assert products == {0: 224.0, 1: 384.0, 2: 352.0}
    assert width_of(products) == 224.0 + 3.0 * 384.0 + 5.0 * 352.0


def test_fourier_transforms_cost_what_the_convention_says() -> None:
    # Wrong: bytes or operations of a transform by an axis too many. 1024 real points: 2.5·N·log2 N = 25 600 operations.
    tape = Tape(1.0)
    fourier(tape, 3.0, 1024.0, 2)
    op = by_label(tape, "fft")
    assert (op.flop, op.read_bytes, op.write_bytes) == (3.0 * 25600.0, 2.0 * 3.0 * 4096.0, 2.0 * 3.0 * 4096.0)


def test_triangle_multiplication_is_cubic_in_the_length() -> None:
    # Wrong: the product over the third corner is missing: length³ multiply-adds for each of 128 channels.
    tape, length = Tape(1.0), 50.0
    triangle_multiplication(tape, Rows(1.0, length**2, 128.0), length, 128, "t")
    assert tape.macs == 128.0 * length**3 + length**2 * 6.0 * 128.0**2


def test_a_recurrent_layer_has_its_gates() -> None:
    # Wrong: inputs or states of a gate are missing: an LSTM has 4·(i·h + h² + 2·h) parameters in each direction.
    tape = Tape(2.0)
    out = recurrent(tape, Rows(2.0, 7.0, 30.0), 20, both=True)
    assert tape.total_parameters == 2.0 * 4.0 * (30.0 * 20.0 + 20.0**2 + 2.0 * 20.0)
    assert out.channels == 40.0
    (scan,) = [op for op, _ in ops(tape.work) if isinstance(op, Scan)]
    assert rules_of(scan).flop(scan) == 2.0 * 7.0 * 2.0 * (2.0 * 4.0 * 20.0**2 + 8.0 * 4.0 * 20.0)


def test_low_rank_cross_layers() -> None:
    # Wrong: a layer of rank r costs a full matrix: 2·w·r multiply-adds and 2·w·r + w parameters each.
    tape = Tape(4.0)
    cross(tape, Rows(4.0, 1.0, 100.0), 3, 8)
    assert (tape.macs, tape.total_parameters) == (4.0 * 3.0 * 1600.0, 3.0 * 1700.0)


def test_attention_pieces() -> None:
    # Wrong: linear attention forms length² scores, or a cross-attention projects its keys from the queries.
    tape = Tape(1.0)
    linear_attention(tape, Rows(1.0, 1000.0, 64.0), 2, 32)
    assert tape.macs == 1000.0 * 4.0 * 64.0**2 + 2.0 * 2.0 * 33.0 * 32.0 * 1000.0
    tape = Tape(1.0)
    attention(tape, Rows(1.0, 10.0, 64.0), 4, context=Rows(1.0, 7.0, 48.0))
    assert tape.macs == 10.0 * 2.0 * 64.0**2 + 7.0 * 48.0 * 128.0 + 2.0 * 10.0 * 7.0 * 64.0


def test_a_convolution_along_time_keeps_its_length() -> None:
    # Wrong: a signal of height 1 grows or shrinks in height. Dilated kernels keep the length too.
    tape = Tape(1.0)
    out = conv1d(tape, Map(1.0, 8.0, 1.0, 100.0), 16, 7, dilation=3)
    assert (out.height, out.width, tape.macs) == (1.0, 100.0, 100.0 * 8.0 * 16.0 * 7.0)
    assert conv1d(Tape(1.0), Map(1.0, 8.0, 1.0, 100.0), 16, 2, 2, pad=0).width == 50.0


def test_an_inverted_file_scans_its_share() -> None:
    # Wrong: probed cells are not scanned, or codes are read as whole vectors. 1e9 · 64 / 262144 codes of 16 bytes a query.
    tape = play_entry("ivf-pq-deep1b", batch=10.0)
    assert by_label(tape, "scan").read_bytes == pytest.approx(10.0 * 1e9 * 64.0 / 262144.0 * 16.0)
    assert by_label(tape, "tables").flop == pytest.approx(10.0 * 64.0 * 2.0 * 256.0 * 96.0)


def test_a_graph_index_visits_neighbours_of_what_it_expands() -> None:
    # Wrong: distances of a query by a factor: ef · 2M at the base, M for each of ln N / ln M levels above.
    op = by_label(play_entry("hnsw-sift1m"), "distances")
    assert op.flop == pytest.approx((100.0 * 32.0 + 16.0 * np.log(1e6) / np.log(16.0)) * 2.0 * 128.0)
    assert op.pattern == "gather"


def test_embedding_gathers_are_the_lookups_of_the_batch() -> None:
    # Wrong: DLRM reads one row per table instead of 214 per sample.
    op = by_label(play_entry("dlrm-mlperf-v2", batch=100.0), "embedding")
    assert op.read_bytes == 100.0 * 214.0 * 128.0 * 2.0


def test_a_policys_head_runs_its_steps_with_one_set_of_weights() -> None:
    # Wrong: every denoising step or decoded token gets weights of its own, or is run once.
    for name in ("openvla-7b", "pi0", "cogact-base"):
        few, many = play_entry(name, steps=1.0), play_entry(name, steps=9.0)
        assert few.total_parameters == many.total_parameters
        step = (many.macs - few.macs) / 8.0
        assert 0.0 < step < few.macs


def test_decoding_an_action_token_reads_the_whole_language_model() -> None:
    # Wrong: a decoded token skips a projection: 6.476e9 weights of 32 layers, a head of 32064 · 4096, and the prefix's keys.
    step = play_entry("openvla-7b", steps=2.0).macs - play_entry("openvla-7b", steps=1.0).macs
    layers = 32.0 * (4.0 * 4096.0**2 + 3.0 * 4096.0 * 11008.0)
    prefix = 32.0 * 2.0 * 4096.0 * (256.0 + 24.0)
    assert step == pytest.approx(layers + 32064.0 * 4096.0 + prefix, rel=1e-9)


def test_splatting_counts_listed_pairs() -> None:
    # Wrong: blending grows with the picture instead of with Gaussians and the tiles that they cover.
    one, two = play_entry("3dgs", gaussians=1e6), play_entry("3dgs", gaussians=2e6)
    assert by_label(two, "blend").flop == 2.0 * np.asarray(by_label(one, "blend").flop)
    assert by_label(one, "blend").flop == 20.0 * 256.0 * 4.0 * 1e6


def tape_of(name: str) -> Tape:
    net = find_network(name)
    assert net is not None
    return play(net, Tape(1.0), {})


def test_separable_3d_convolutions_keep_widths_and_lose_products():
    """Depthwise and pointwise: 27·c + c² products per position and output width c in place of 27·c² (Turbo-VAED)."""
    whole, light = map(tape_of, ("hunyuanvideo-vae-decoder", "hunyuanvideo-vae-decoder-separable"))
    assert light.total_parameters < 0.25 * whole.total_parameters
    assert light.macs < 0.5 * whole.macs
    names = {label for label in light.parameters if label.endswith("resnet.conv1_depthwise")}
    assert light.parameters[min(names)] % 28 == 0  # 27 weights and a bias for each channel


def test_an_inverse_transform_costs_hardly_anything():
    """iSTFTNet: leaving two levels out saves a third of the products; the transform adds less than a hundredth."""
    whole, short = map(tape_of, ("hifi-gan-v1", "istftnet-v1-c8c8i"))
    assert short.macs < 0.7 * whole.macs
    transform = [op for op, _ in ops(short.work) if op.label == "inverse_transform"]
    assert len(transform) == 1
    assert rules_of(transform[0]).flop(transform[0]) < 0.01 * 2.0 * short.macs
