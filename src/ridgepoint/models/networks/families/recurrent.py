"""Recurrent networks: layers of gates along a sequence, language models and translators made of them."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.tokens import mlp
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape

GATES = {"lstm": 4.0, "gru": 3.0, "rnn": 1.0}


def recurrent(
    tape: Tape, x: Rows, hidden: int, kind: str = "lstm", both: bool = False, biases: int = 2, name: str = ""
) -> Rows:
    """One recurrent layer: inputs of all gates as one product over the whole sequence, then step after step. ``both``
    directions give twice the channels. Libraries keep a bias for inputs and one for states (``biases`` = 2).
    """
    gates, directions = GATES[kind], 2.0 if both else 1.0
    with tape.scope(name or kind):
        projected = tape.linear(x, directions * gates * hidden, False, "inputs")
        tape.count("recurrent", directions * gates * (hidden * hidden + biases * hidden))
        return tape.scan(projected, directions, float(hidden), gates, "rnn", "steps")


@family("rnn_lm")
def rnn_lm(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Language models of recurrent layers (Zaremba et al. 2014; AWD-LSTM: Merity et al. 2018).

    Inputs: ``tokens``. Options: ``kind``, ``hidden`` per layer, ``embedding``, ``vocabulary``, ``tied``, ``biases``.
    """
    width, vocabulary = net.option("embedding"), net.option("vocabulary")
    tape.gather(tape.batch * sizes["tokens"], width, "embedding", float(vocabulary * width))
    x = tape.rows(sizes["tokens"], width)
    for index, hidden in enumerate(net.option("hidden")):
        x = recurrent(tape, x, hidden, net.option("kind", "lstm"), biases=net.option("biases", 2), name=f"layer{index}")
    tied = net.option("tied", False)
    tape.linear(x, vocabulary, name="head", counted=not tied)
    tape.count("head", vocabulary if tied else 0.0)


@family("rnn_seq2seq")
def rnn_seq2seq(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Translation with attention between recurrent stacks (GNMT, Wu et al. 2016), decoder fed with the true target.

    Inputs: ``source``, ``target`` tokens. Options: ``width``, ``encoder``, ``decoder`` layers, ``vocabulary`` (shared).
    """
    width, vocabulary = net.option("width"), net.option("vocabulary")
    tape.gather(tape.batch * (sizes["source"] + sizes["target"]), width, "embedding", float(vocabulary * width))
    x = tape.rows(sizes["source"], width)
    with tape.scope("encoder"):
        x = recurrent(tape, x, width, both=True, name="layer0")
        for index in range(1, net.option("encoder")):
            x = recurrent(tape, x, width, name=f"layer{index}")
    y = tape.rows(sizes["target"], width)
    with tape.scope("decoder"):
        y = recurrent(tape, y, width, name="layer0")
        with tape.scope("attention"):
            tape.linear(x, width, False, "keys")
            tape.linear(y, width, False, "queries")
            tape.count("normalised", 2.0 * width + 1.0)
            tape.attend(y, x, 1, width)
        for index in range(1, net.option("decoder")):
            y = recurrent(tape, replace(y, channels=2.0 * width), width, name=f"layer{index}")
    tape.linear(y, vocabulary, name="head")


@family("deep_speech")
def deep_speech(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Deep Speech 2 (Amodei et al. 2016): convolutions over the spectrogram, bidirectional recurrent layers, letters.

    Inputs: ``frames`` (10 ms). Options: ``kind``, ``layers``, ``hidden``, ``letters``, ``bins``.
    """
    x = tape.image(1, net.option("bins", 161), sizes["frames"])
    x = tape.activate(tape.norm(tape.conv(x, 32, (41, 11), 2, bias=True, name="conv1"), name="norm1"))
    # The second filter strides over frequency alone: twice the width stands for a stride of one in time.
    x = replace(x, width=2.0 * x.width)
    x = tape.conv(x, 32, (21, 11), 2, bias=True, name="conv2")
    x = tape.activate(tape.norm(x, name="norm2"))
    rows = Rows(x.batch, x.width, x.channels * x.height)
    for index in range(net.option("layers")):
        with tape.scope(f"layer{index}"):
            if index:
                tape.norm(rows)
            y = recurrent(tape, rows, net.option("hidden"), net.option("kind", "gru"), both=True, biases=2)
            tape.add(replace(y, channels=y.channels / 2.0))
            rows = replace(y, channels=y.channels / 2.0)
    mlp(tape, tape.norm(rows), net.option("letters", 29), name="letters")
