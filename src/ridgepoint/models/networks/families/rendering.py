"""Learned scenes: NeRF, hash-grid fields (Instant-NGP), 3-D Gaussian splatting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.networks.families.tokens import mlp
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num
from ridgepoint.ops import Stream


def _composite(tape: Tape, samples: Rows) -> None:
    """Colours and densities along every ray become a pixel."""
    tape.activate(replace(samples, channels=4.0), special=1.0, flop=4.0, name="composite")


@family("nerf")
def nerf(tape: Tape, net: Network, sizes: Sizes) -> None:
    """NeRF (Mildenhall et al. 2020): a coarse network at ``coarse`` points of a ray, a fine one at those and ``fine`` more.

    Inputs: ``image_px``. Options: ``width``, ``coarse``, ``fine``, ``position`` and ``direction`` (encoded widths),
    ``chunk`` of rays at a time.
    """
    rays = sizes["image_px"] ** 2.0
    for name, points in (
        ("coarse", net.option("coarse", 64)),
        ("fine", net.option("coarse", 64) + net.option("fine", 128)),
    ):
        with tape.scope(name):
            _radiance(tape, net, rays * points)


def _in_chunks(tape: Tape, net: Network, sizes: Sizes, block: Callable[[Rows], Rows]) -> None:
    """Renders the picture's rays ``chunk`` at a time, so that memory does not grow with the picture."""
    rays = net.option("chunk", 32768.0)
    tape.again(sizes["image_px"] ** 2.0 / rays, block, tape.rows(rays, 3))


def _radiance(tape: Tape, net: Network, samples: Num) -> None:
    width, position, direction = net.option("width", 256), net.option("position", 63), net.option("direction", 27)
    x = tape.activate(tape.rows(samples, position), special=1.0, name="encoding")
    x = tape.activate(mlp(tape, x, *([width] * 5), special=0.0, name="first"))
    x = replace(x, channels=float(width + position))
    x = tape.activate(mlp(tape, x, *([width] * 3), special=0.0, name="second"))
    tape.linear(x, 1, name="density")
    x = tape.linear(x, width, name="feature")
    mlp(tape, replace(x, channels=float(width + direction)), width // 2, 3, special=0.0, name="colour")
    _composite(tape, x)


@family("hash_field")
def hash_field(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Instant-NGP (Müller et al. 2022): eight corners in each of L hash tables are interpolated, small networks read them.

    Inputs: ``image_px``, ``samples`` per ray that the occupancy grid leaves. Options: ``levels``, ``table`` entries of a level,
    ``features``, ``coarsest``, ``finest`` resolution, ``width``, ``density_layers``, ``colour_layers``, ``chunk``.
    """
    levels, features = net.option("levels", 16), net.option("features", 2)
    growth = (net.option("finest", 2048) / net.option("coarsest", 16)) ** (1.0 / (levels - 1))
    for level in range(levels):
        dense = (int(net.option("coarsest", 16) * growth**level) + 1) ** 3
        tape.count("tables", features * min(dense, net.option("table", 2**19)))

    def chunk(rays: Rows) -> Rows:
        _hash_samples(tape, net, tape.rows(rays.length * sizes["samples"], levels * features), levels, features)
        return rays

    _in_chunks(tape, net, sizes, chunk)


def _hash_samples(tape: Tape, net: Network, x: Rows, levels: int, features: int) -> None:
    tape.gather(x.rows * 8.0 * levels, features, "corners")
    tape.activate(x, flop=16.0, name="interpolate")
    width = net.option("width", 64)
    mlp(tape, x, *([width] * net.option("density_layers", 1)), 16, bias=False, special=0.0, name="density")
    colour = replace(x, channels=32.0)
    mlp(tape, colour, *([width] * net.option("colour_layers", 2)), 3, bias=False, special=0.0, name="colour")
    _composite(tape, x)


@family("splatting")
def splatting(tape: Tape, net: Network, sizes: Sizes) -> None:
    """3-D Gaussian splatting (Kerbl et al. 2023): project, list by tile, sort by depth, blend front to back.

    Inputs: ``image_px`` (height), ``aspect``, ``gaussians``, ``tiles_per_gaussian`` (listed pairs over all Gaussians).
    Bytes: 59 numbers per Gaussian (position 3, scale 3, rotation 4, opacity 1, harmonics 48), 11 per projected one, sorting
    in passes of 8 key bits over 64-bit keys with 32-bit values; every listed pair is read by its 16 × 16 pixels' block once
    and costs about 20 operations and one exponential at each pixel. Pixels that are done early are not taken off: an upper
    bound.
    """
    count, b = sizes["gaussians"], tape.batch
    pairs = count * sizes["tiles_per_gaussian"]
    tape.count("gaussians", 59.0 * count)
    tape.record(
        _pass(tape, "project", b * count * 59.0 * 4.0, b * count * 11.0 * 4.0, 300.0 * b * count, 4.0 * b * count)
    )
    tape.record(_pass(tape, "list_pairs", b * count * 11.0 * 4.0, b * pairs * 12.0, 0.0, 0.0, "gather"))
    passes = net.option("key_bits", 48) / 8.0
    sort = _pass(tape, "sort", passes * b * pairs * 20.0, passes * b * pairs * 12.0, 0.0, 0.0, "gather")
    tape.record(replace(sort, launches=passes * 2.0))
    pixels = sizes["image_px"] ** 2.0 * sizes.get("aspect", 1.0)
    blended = b * pairs * 256.0
    tape.record(_pass(tape, "blend", b * pairs * 44.0, b * pixels * 12.0, 20.0 * blended, blended))


def _pass(
    tape: Tape, name: str, read: Num, write: Num, flop: Num, special: Num, pattern: str = "elementwise"
) -> Stream:
    return Stream(
        read_bytes=read, write_bytes=write, flop=flop, special=special, pattern=pattern, label=tape.label(name)
    )
