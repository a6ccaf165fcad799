"""Speech: wav2vec 2.0 and Conformer encoders, Tacotron 2 and HiFi-GAN for synthesis."""

from __future__ import annotations

from dataclasses import replace
from math import log2

from ridgepoint.formats import FORMATS
from ridgepoint.models.networks.families.recurrent import recurrent
from ridgepoint.models.networks.families.tokens import attention, feed_forward, transformer_layer
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num
from ridgepoint.ops import Stream


def conv1d(
    tape: Tape,
    x: Map,
    out: Num,
    kernel: int,
    stride: int = 1,
    groups: Num = 1,
    bias: bool = True,
    pad: int | None = None,
    dilation: int = 1,
    name: str = "conv",
) -> Map:
    """A convolution along time; a signal is a map of height 1."""
    room = (kernel - 1) * dilation // 2 if pad is None else pad
    return tape.conv(x, out, (1, kernel), stride, groups, bias, (0, room), dilation, name)


@family("wav2vec2")
def wav2vec2(tape: Tape, net: Network, sizes: Sizes) -> None:
    """wav2vec 2.0 (Baevski et al. 2020): convolutions over the waveform, one convolution for positions, a transformer.

    Inputs: ``samples`` (16 kHz). Options: ``depth``, ``width``, ``heads``, ``feed``, ``layer_norms`` after every convolution
    (large models; their convolutions have biases).
    """
    width, every = net.option("width"), net.option("layer_norms", False)
    x = tape.image(1, 1, sizes["samples"])
    with tape.scope("features"):
        for index, (kernel, stride) in enumerate(((10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2)):
            x = conv1d(tape, x, 512, kernel, stride, bias=every, pad=0)
            if every or index == 0:
                tape.norm(x, "layer" if every else "group")
            tape.activate(x, special=1.0)
    rows = tape.linear(tape.norm(tape.to_rows(x), "layer"), width, name="project")
    tape.count("mask", width)
    wide = conv1d(tape, tape.to_map(rows, 1.0, rows.length), width, 128, groups=16, name="positions")
    tape.count("positions", 128.0)
    rows = replace(tape.to_rows(tape.activate(wide, special=1.0)), length=rows.length)
    x_rows = tape.norm(tape.add(rows), "layer")
    tape.repeat(
        net.option("depth"), lambda y: transformer_layer(tape, y, net.option("heads"), net.option("feed")), x_rows
    )


@family("conformer")
def conformer(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Conformer transducers (Gulati et al. 2020): two half feed-forward parts around attention with relative positions and a
    depthwise convolution; a recurrent predictor and a joint network.

    Inputs: ``frames`` (10 ms), ``letters`` of the text. Options: ``depth``, ``width``, ``heads``, ``kernel``, ``predictor``
    width, ``joint`` width, ``vocabulary``, ``bins``.
    """
    width, bins = net.option("width"), net.option("bins", 80)
    x = tape.image(1, sizes["frames"], bins)
    with tape.scope("subsample"):
        for index in (1, 2):
            x = tape.activate(tape.conv(x, width, 3, 2, bias=True, pad=0, name=f"conv{index}"))
        rows = tape.linear(Rows(x.batch, x.height, x.channels * x.width), width, name="project")
    rows = tape.repeat(net.option("depth"), lambda y: _conformer_layer(tape, net, y), rows)
    vocabulary, predictor, joint = net.option("vocabulary"), net.option("predictor"), net.option("joint")
    with tape.scope("transducer"):
        tape.gather(tape.batch * sizes["letters"], predictor, "embedding", float(vocabulary * predictor))
        text = recurrent(tape, tape.rows(sizes["letters"], predictor), predictor, biases=1)
        tape.linear(rows, joint, name="sound")
        tape.linear(text, joint, name="text")
        pairs = Rows(tape.batch, rows.length * text.length, float(joint))
        tape.linear(tape.activate(pairs, special=1.0), vocabulary, name="joint")


def _conformer_layer(tape: Tape, net: Network, x: Rows) -> Rows:
    width = net.option("width")
    with tape.scope("layer"):
        x = tape.add(feed_forward(tape, tape.norm(x, "layer", name="norm1"), 4 * width, name="feed1"))
        y = attention(tape, tape.norm(x, "layer", name="norm2"), net.option("heads"))
        tape.linear(Rows(1.0, 2.0 * x.length, x.channels), width, False, "positions")
        tape.count("position_biases", 2.0 * width)
        x = tape.add(y)
        y = tape.multiply(tape.linear(tape.norm(x, "layer", name="norm3"), 2 * width, name="up"), "glu")
        shaped = tape.to_map(replace(y, channels=float(width)), 1.0, x.length)
        mixed = conv1d(tape, shaped, width, net.option("kernel"), groups=width, name="depthwise")
        tape.activate(tape.norm(mixed), special=1.0)
        x = tape.add(tape.linear(x, width, name="down"))
        x = tape.add(feed_forward(tape, tape.norm(x, "layer", name="norm4"), 4 * width, name="feed2"))
        return tape.norm(x, "layer", name="norm_out")


@family("hifi_gan")
def hifi_gan(tape: Tape, net: Network, sizes: Sizes) -> None:
    """HiFi-GAN's generator (Kong et al. 2020): transposed convolutions and residual blocks of several fields of view.

    Inputs: ``frames`` of the spectrogram (256 samples each). Options: ``channels``, ``rates``, ``kernels`` of the upsampling,
    ``blocks`` kernels, ``dilations`` per block, ``pairs`` (two convolutions per dilation), ``istft`` (points of an inverse
    short-time Fourier transform, a quarter apart, in place of the last levels: iSTFTNet, Kaneko et al. 2022).
    """
    x = conv1d(tape, tape.image(80, 1, sizes["frames"]), net.option("channels"), 7, name="conv_in")
    for level, (rate, kernel) in enumerate(zip(net.option("rates"), net.option("kernels"), strict=True)):
        out = x.channels / 2.0
        with tape.scope(f"level{level}"):
            tape.activate(x)
            rows = tape.linear(tape.to_rows(x), out * kernel, False, "upsample")
            tape.count("upsample", out)
            x = Map(rows.batch, out, 1.0, x.width * rate)
            for size, dilations in zip(net.option("blocks"), net.option("dilations"), strict=True):
                for dilation in dilations:
                    y = conv1d(tape, tape.activate(x), out, size, dilation=dilation)
                    if net.option("pairs", True):
                        y = conv1d(tape, tape.activate(y), out, size)
                    tape.add(y)
                tape.add(x)
    points = net.option("istft", 0)
    x = conv1d(tape, tape.activate(x), points + 2 if points else 1, 7, name="conv_out")
    if points:
        tape.activate(x, special=1.0, name="magnitude_phase")
        fourier = 5.0 * points * log2(points) * x.width * x.batch
        size = FORMATS[tape.acts].bytes
        tape.record(
            Stream(read_bytes=x.values * size, write_bytes=x.batch * x.width * points / 4.0 * size, flop=fourier,
                   label=tape.label("inverse_transform"))
        )  # fmt: skip


@family("tacotron2")
def tacotron2(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Tacotron 2 (Shen et al. 2018): letters to a spectrogram, frame after frame.

    Inputs: ``letters``, ``frames``. Options: ``symbols``.
    """
    text = tape.rows(sizes["letters"], 512)
    tape.gather(tape.batch * sizes["letters"], 512, "embedding", net.option("symbols", 148) * 512.0)
    with tape.scope("encoder"):
        x = _stack(tape, tape.to_map(text, 1.0, text.length), (512, 512, 512))
        memory = recurrent(tape, tape.to_rows(x), 256, both=True)
        tape.linear(memory, 128, False, "memory")
    with tape.scope("decoder"):
        tape.again(sizes["frames"], lambda y: _frame(tape, y, memory), tape.rows(1.0, 80))
    with tape.scope("postnet"):
        _stack(tape, tape.image(80, 1, sizes["frames"]), (512, 512, 512, 512, 80))


def _stack(tape: Tape, x: Map, widths: tuple[int, ...]) -> Map:
    for index, width in enumerate(widths):
        x = tape.activate(tape.norm(conv1d(tape, x, width, 5, name=f"conv{index}"), name=f"norm{index}"), special=1.0)
    return x


def _cell(tape: Tape, x: Rows, inputs: int, hidden: int, name: str) -> Rows:
    """One step of an LSTM: one product over inputs and state."""
    y = tape.linear(replace(x, channels=float(inputs + hidden)), 4 * hidden, False, name)
    tape.count(name, 8.0 * hidden)
    return tape.activate(replace(y, channels=float(hidden)), special=4.0, flop=8.0, name=f"{name}_gates")


def _frame(tape: Tape, x: Rows, memory: Rows) -> Rows:
    """One frame: prenet, attention's LSTM, attention with locations, decoder's LSTM, projections."""
    y = tape.activate(tape.linear(tape.activate(tape.linear(x, 256, False, "prenet1")), 256, False, "prenet2"))
    y = _cell(tape, y, 256 + 512, 1024, "attention_lstm")
    with tape.scope("attention"):
        tape.linear(y, 128, False, "query")
        places = conv1d(tape, Map(x.batch, 2.0, 1.0, memory.length), 32, 31, bias=False, name="location")
        energies = tape.linear(tape.to_rows(places), 128, False, "location_dense")
        tape.linear(tape.activate(energies, special=1.0), 1, False, "energy")
        tape.softmax(x.batch, memory.length)
        tape.matmul(1.0, 512.0, memory.length, x.batch, "context")
    y = _cell(tape, y, 1024 + 512, 1024, "decoder_lstm")
    tape.linear(replace(y, channels=1536.0), 81, name="output")
    return x
