"""Two modalities in one network: video and sound that attend to each other jointly or through a few bottleneck tokens."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.tokens import feed_forward, transformer_layer
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape


@family("bottleneck_fusion")
def bottleneck_fusion(tape: Tape, net: Network, sizes: Sizes) -> None:
    """MBT (Nagrani et al. 2021): two ViTs, one for frames and one for a spectrogram, whose last layers exchange.

    With B bottleneck tokens the pairs of a layer are (N_a + B)² + (N_v + B)²; without any, (N_a + N_v)².

    Inputs: ``frames`` of 224 pixels, ``spectrum`` patches. Options: ``dim``, ``depth``, ``heads``, ``fusion`` (the layer from
    which on they exchange), ``bottleneck`` tokens (0: all tokens attend to all), ``classes``.
    """
    dim, heads, depth, first = (net.option(name) for name in ("dim", "heads", "depth", "fusion"))
    image = tape.image(3, 224, 224)
    pixels = replace(image, batch=image.batch * sizes["frames"])
    tape.conv(pixels, dim, 16, 16, bias=True, pad=0, name="patches")
    sound = tape.linear(tape.rows(sizes["spectrum"], 256), dim, name="spectrum")
    video = Rows(tape.batch, sizes["frames"] * 196.0 + 1.0, float(dim))
    sound = replace(sound, length=sound.length + 1.0)
    streams = {"video": video, "sound": sound}
    tape.count("positions", float(dim) * (197.0 + 401.0))
    for name, rows in streams.items():
        with tape.scope(name):
            tape.repeat(first, lambda x: transformer_layer(tape, x, heads, 4 * dim), rows)
    tokens = float(net.option("bottleneck", 0))
    if tokens:
        tape.count("bottleneck", tokens * dim)
        for name, rows in streams.items():
            with tape.scope(f"{name}_exchange"):
                wide = replace(rows, length=rows.length + tokens)
                tape.repeat(depth - first, lambda x: transformer_layer(tape, x, heads, 4 * dim), wide)
    else:
        with tape.scope("joint"):
            _joint(tape, streams, depth - first, heads, dim)
    for name, rows in streams.items():
        tape.linear(replace(rows, length=1.0), net.option("classes", 309), name=f"{name}_classifier")


def _joint(tape: Tape, streams: dict[str, Rows], layers: int, heads: int, dim: int) -> None:
    """Layers whose tokens attend to those of both streams; each stream keeps weights of its own."""
    rows = list(streams.values())
    both = replace(rows[0], length=rows[0].length + rows[1].length)

    def layer(x: Rows) -> Rows:
        for name, part in streams.items():
            with tape.scope(name):
                tape.linear(tape.norm(part, "layer", name="norm1"), 3.0 * dim, name="qkv")
        tape.attend(x, x, heads, dim // heads)
        for name, part in streams.items():
            with tape.scope(name):
                y = tape.add(tape.linear(part, dim, name="output"))
                tape.add(feed_forward(tape, tape.norm(y, "layer", name="norm2"), 4 * dim))
        return x

    tape.repeat(layers, layer, both)
