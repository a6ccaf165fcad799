"""Networks of fields on grids and spheres: Fourier neural operators, FourCastNet, Pangu-Weather, GraphCast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.models.networks.families.graphs import message_mlp, message_step
from ridgepoint.models.networks.families.tokens import attention, feed_forward, mlp
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num
from ridgepoint.ops import Stream


def fourier(tape: Tape, transforms: Num, points: Num, passes: int, name: str = "fft") -> None:
    """``transforms`` real Fourier transforms of ``points`` values each, as ``passes`` passes over the data (one per axis).

    Arithmetic: 2.5·N·log2(N) per real transform (half of the 5·N·log2(N) of a complex one, the convention of FFTW's
    benchmarks). Bytes: fp32; every pass reads and writes all values.
    """
    values = transforms * points
    tape.record(
        Stream(
            read_bytes=passes * 4.0 * values,
            write_bytes=passes * 4.0 * values,
            flop=2.5 * values * np.log2(points),
            launches=float(passes),
            pattern="copy",
            label=tape.label(name),
        )
    )


def complex_mix(tape: Tape, rows: Num, width: Num, groups: Num, name: str) -> None:
    """Complex matrix products, one matrix for each of ``groups`` modes or blocks: four real products each."""
    tape.matmul(2.0 * rows, 2.0 * width, width, groups, name)


@family("fno")
def fno(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Fourier neural operator (Li et al. 2021): transform, mix the channels of the lowest modes, transform back; a pointwise
    linear map beside it.

    Inputs: ``points`` along each axis, ``times`` along the third for 3-D. Options: ``axes`` (1, 2, 3), ``modes``, ``width``,
    ``layers``, ``inputs``, ``batch_norm``, ``hidden`` of the projection.
    """
    axes, modes, width = net.option("axes"), net.option("modes"), net.option("width")
    layers = net.option("layers", 4)
    points: Num = sizes["points"] ** (2.0 if axes == 3 else float(axes)) * (sizes["times"] if axes == 3 else 1.0)
    x = tape.linear(tape.rows(points, net.option("inputs")), width, name="lift")

    def layer(y: Rows) -> Rows:
        with tape.scope("layer"):
            fourier(tape, y.batch * width, points, axes)
            kept = 2.0 ** (axes - 1) * float(modes) ** axes
            complex_mix(tape, y.batch, float(width), kept, "modes")
            tape.count("modes", 2.0 * width * width * kept)
            fourier(tape, y.batch * width, points, axes, "inverse_fft")
            tape.linear(y, width, name="pointwise")
            if net.option("batch_norm"):
                tape.norm(y)
            return tape.activate(tape.add(y), special=1.0)

    x = tape.repeat(layers, layer, x)
    mlp(tape, x, net.option("hidden", 128), 1, name="project")


@family("afno")
def afno(tape: Tape, net: Network, sizes: Sizes) -> None:
    """FourCastNet (Pathak et al. 2022) with the adaptive Fourier mixer (Guibas et al. 2022): block-diagonal networks act on
    every mode.

    Inputs: ``latitudes``, ``longitudes``. Options: ``width``, ``depth``, ``blocks``, ``patch``, ``channels``.
    """
    width, blocks, patch = net.option("width"), net.option("blocks"), net.option("patch")
    grid = sizes["latitudes"] / patch * sizes["longitudes"] / patch
    pixels = net.option("channels") * patch * patch
    x = tape.linear(tape.rows(grid, pixels), width, name="patches")
    tape.count("positions", grid * width)

    def layer(y: Rows) -> Rows:
        with tape.scope("layer"):
            tape.norm(y, "layer", name="norm1")
            fourier(tape, y.batch * width, y.length, 2)
            modes, inner = y.rows / 2.0, width / blocks
            for name in ("mix1", "mix2"):
                complex_mix(tape, modes, inner, float(blocks), name)
                tape.count(name, 2.0 * (width * inner + width))
            fourier(tape, y.batch * width, y.length, 2, "inverse_fft")
            return tape.add(feed_forward(tape, tape.norm(tape.add(y), "layer", name="norm2"), 4 * width))

    x = tape.repeat(net.option("depth"), layer, x)
    tape.linear(tape.norm(x, "layer"), pixels, False, "head")


@family("pangu")
def pangu(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Pangu-Weather (Bi et al. 2023): a 3-D Swin transformer over pressure levels, latitudes and longitudes; every window's
    position on Earth has attention biases of its own.

    Inputs: ``latitudes``, ``longitudes``. Options: ``width``, ``depths``, ``heads``, ``window``.
    """
    width, window = net.option("width", 192), net.option("window", (2, 6, 12))
    shape = (8.0, np.ceil(sizes["latitudes"] / 4.0), np.ceil(sizes["longitudes"] / 4.0))
    cells: Num = shape[0] * shape[1] * shape[2]
    levels = (2, 1, 1, 2)
    with tape.scope("patches"):
        tape.linear(tape.rows(cells * 7.0 / 8.0, 2 * 4 * 4 * 5), width, name="air")
        tape.linear(tape.rows(cells / 8.0, 4 * 4 * 7), width, name="surface")
    x = tape.rows(cells, width)
    for index, (depth, heads) in enumerate(zip(net.option("depths"), net.option("heads"), strict=True)):
        half = levels[index] == 1
        if index == 1:
            x = tape.linear(tape.norm(Rows(x.batch, cells / 4.0, 4.0 * width), "layer"), 2 * width, False, "down")
        if index == 3:
            tape.linear(x, 4 * width, False, "up")
            x = tape.linear(tape.norm(tape.rows(cells, width), "layer"), width, False, "up_mix")
        height = np.ceil(shape[1] / (2.0 if half else 1.0) / window[1])
        types = shape[0] / window[0] * height
        with tape.scope(f"stage{index}"):
            x = tape.repeat(depth, lambda y, h=heads, t=types: _earth_block(tape, y, window, h, t), x)  # type: ignore[misc]
    joined = Rows(x.batch, cells, 2.0 * width)
    with tape.scope("recover"):
        tape.linear(replace(joined, length=cells * 7.0 / 8.0), 2 * 4 * 4 * 5, name="air")
        tape.linear(replace(joined, length=cells / 8.0), 4 * 4 * 4, name="surface")


def _earth_block(tape: Tape, x: Rows, window: tuple[int, int, int], heads: int, types: Num) -> Rows:
    """Attention inside windows, with a bias for every kind of window and pair of positions; post-norm."""
    size = float(np.prod(window))
    pairs = (2 * window[2] - 1) * window[1] ** 2 * window[0] ** 2
    tape.count("earth_bias", pairs * types * heads)
    windows = Rows(x.batch * x.length / size, size, x.channels)
    tape.move(x, name="partition")
    tape.add(tape.norm(attention(tape, windows, heads), "layer", name="norm1"))
    return tape.add(tape.norm(feed_forward(tape, x, 4.0 * x.channels), "layer", name="norm2"))


@family("graphcast")
def graphcast(tape: Tape, net: Network, sizes: Sizes) -> None:
    """GraphCast (Lam et al. 2023): grid points to a multi-scale mesh, message passing there, and back.

    Inputs: ``grid_nodes``, ``mesh_nodes``, ``mesh_edges``, ``up_edges`` (grid to mesh), ``down_edges``. Options: ``width``,
    ``steps``, ``inputs``, ``outputs``.
    """
    width, inputs = net.option("width", 512), net.option("inputs", 474)
    grid, mesh = tape.rows(sizes["grid_nodes"], width), tape.rows(sizes["mesh_nodes"], width)
    up, across, down = (tape.rows(sizes[name], width) for name in ("up_edges", "mesh_edges", "down_edges"))
    with tape.scope("encoder"):
        for name, rows, features in (("grid", grid, inputs), ("mesh", mesh, inputs), ("edges", up, 4)):
            message_mlp(tape, rows, float(features), width, 1, name)
        message_step(tape, mesh, up, width, 1, senders=grid)
        tape.add(message_mlp(tape, grid, float(width), width, 1, "grid_update"))
    with tape.scope("processor"):
        message_mlp(tape, across, 4.0, width, 1, "embed_edges")
        mesh = tape.repeat(net.option("steps", 16), lambda y: message_step(tape, y, across, width, 1), mesh)
    with tape.scope("decoder"):
        message_mlp(tape, down, 4.0, width, 1, "embed_edges")
        message_step(tape, grid, down, width, 1, senders=mesh)
        message_mlp(tape, mesh, float(width), width, 1, "mesh_update")
        mlp(tape, grid, width, net.option("outputs", 227), name="output")
