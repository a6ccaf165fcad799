"""Both roads agree on networks without tokens, too (design §5): equal matrix FLOPs, bytes within 10 %; and Whisper by hand."""

import pytest

import ridgepoint as rp
from ridgepoint.models.networks.captured.kernels import Evaluation, Formats
from ridgepoint.models.networks.catalog import find_network
from ridgepoint.tasks.networks import forward_tape
from tests.capture.test_agreement import amounts, matrix

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ridgepoint.capture import huggingface  # noqa: E402
from ridgepoint.capture.pytorch import capture_pass  # noqa: E402
from tests.capture import models  # noqa: E402
from tests.capture.test_modules import subject  # noqa: E402

FP32 = Formats("fp32", "fp32", "fp32")


def captured(made, **sizes):
    at = Evaluation(capture_pass(made).graph, {n: float(s) for n, s in sizes.items()}, FP32, fused=True)
    return amounts(at.passes()[0])


def family(name, batch, **sizes):
    net = find_network(name)
    assert net is not None
    return amounts(forward_tape(net, rp.Plan(acts="fp32"), float(batch), {n: float(s) for n, s in sizes.items()}).work)


def test_a_recurrent_language_model():
    mine, my_bytes = captured(subject(models.WordsByLSTM, "ids: int64[B,S=64]"), batch=20, seq=35)
    theirs, their_bytes = family("lstm-ptb-medium", 20, tokens=35)
    assert mine["gemm"] == theirs["gemm"]
    assert mine["scan"] == theirs["scan"]
    assert my_bytes == pytest.approx(their_bytes, rel=0.10)


def test_a_convolutional_network():
    config = transformers.ResNetConfig(num_labels=1000, architectures=["ResNetForImageClassification"], dtype="float32")
    mine, my_bytes = captured(huggingface.subject(config, "forward"), batch=8)
    theirs, their_bytes = family("resnet50", 8, image_px=224)
    assert (mine["conv"], mine["gemm"]) == (theirs["conv"], theirs["gemm"])
    assert my_bytes == pytest.approx(their_bytes, rel=0.10)


def test_graph_convolutions():
    # Plain PyTorch writes every message down and reads it again, which the family's sparse kernel does not.
    nodes, edges = 2708, 10556
    specs = ("x: float32[N=512,1433]", "source: int64[E=2048]", "target: int64[E]", "share: float32[E]")
    mine, my_bytes = captured(subject(models.GraphConvolutions, *specs), N=nodes, E=edges + nodes)
    theirs, their_bytes = family("gcn-cora", 1, nodes=nodes, edges=edges)
    assert mine["gemm"] == theirs["gemm"]
    written_down = sum(2 * 4 * width * (edges + nodes) for width in (16, 7))
    assert my_bytes - written_down == pytest.approx(their_bytes, rel=0.10)


def test_whisper_by_hand():
    # Whisper large: 1500 positions of sound after two convolutions, 32 layers each, cross attention to all of them.
    width, inner, layers, sound, words, batch, vocabulary = 1280, 5120, 32, 1500, 200, 3, 51866
    config = transformers.WhisperConfig(
        d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=20,
        decoder_attention_heads=20, encoder_ffn_dim=inner, decoder_ffn_dim=inner, num_mel_bins=128,
        vocab_size=vocabulary, architectures=["WhisperForConditionalGeneration"],
    )  # fmt: skip
    made = huggingface.subject(config, "forward")
    mine, _ = captured(made, batch=batch, seq=words)
    feed, square = 2 * width * inner, width * width
    encoder = layers * sound * (4 * square + feed)
    decoder = layers * (words * (6 * square + feed) + sound * 2 * square) + words * width * vocabulary
    assert mine["gemm"] == 2 * batch * (encoder + decoder)
    assert mine["conv"] == 2 * batch * (2 * sound * 128 * 3 * width + sound * width * 3 * width)
    seen = sound * sound + words * sound + words * (words + 1) / 2
    assert matrix(mine) - mine["gemm"] - mine["conv"] == pytest.approx(4 * batch * layers * width * seen, rel=0.01)
    assert "unknown" not in mine
