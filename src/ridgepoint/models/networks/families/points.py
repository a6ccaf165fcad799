"""Networks on point clouds: PointNet and PointNet++."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape


def _shared(tape: Tape, x: Rows, *widths: int) -> Rows:
    """Projections of every point with batch norms."""
    for index, width in enumerate(widths):
        x = tape.activate(tape.norm(tape.linear(x, width, name=f"linear{index}"), "batch", name=f"norm{index}"))
    return x


def _transform(tape: Tape, x: Rows, size: int, name: str) -> Rows:
    """A small PointNet gives the matrix that turns every point."""
    with tape.scope(name):
        y = tape.global_pool(_shared(tape, x, 64, 128, 1024))
        with tape.scope("matrix"):
            tape.linear(_shared(tape, y, 512, 256), size * size, name="last")
        tape.matmul(x.length, float(size), float(size), x.batch, "turn")
    return x


@family("pointnet")
def pointnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """PointNet for classification (Qi et al. 2017). Options: ``transforms`` (the small networks that turn the points),
    ``classes``.
    """
    x = tape.rows(sizes["points"], 3)
    turning = net.option("transforms", True)
    x = _transform(tape, x, 3, "transform1") if turning else x
    with tape.scope("first"):
        x = _shared(tape, x, 64, 64)
    x = _transform(tape, x, 64, "transform2") if turning else x
    with tape.scope("second"):
        x = _shared(tape, x, 64, 128, 1024)
    _head(tape, net, tape.global_pool(x))


def _head(tape: Tape, net: Network, x: Rows) -> None:
    with tape.scope("head"):
        tape.linear(_shared(tape, x, 512, 256), net.option("classes", 40), name="classifier")


@family("pointnet2")
def pointnet2(tape: Tape, net: Network, sizes: Sizes) -> None:
    """PointNet++ for classification (Qi et al. 2017): centres far from one another gather their neighbours.

    Options: ``levels``: (centres, neighbours, widths) each; 0 centres gather all points. ``classes``.
    """
    x = tape.rows(sizes["points"], 0)
    for index, (centres, neighbours, *widths) in enumerate(net.option("levels")):
        with tape.scope(f"level{index + 1}"):
            if centres:
                # Choosing a centre measures every point's distance to the last one; grouping measures all pairs.
                tape.move(Rows(x.batch, x.length * centres, 4.0), written=1.0, name="centres")
                tape.matmul(float(centres), x.length, 3.0, x.batch, "distances")
                tape.gather(x.batch * centres * neighbours, x.channels + 3.0)
            groups = Rows(x.batch * (centres or 1), float(neighbours) if centres else x.length, x.channels + 3.0)
            pooled = tape.global_pool(_shared(tape, groups, *widths))
            x = Rows(x.batch, float(centres or 1), pooled.channels)
    _head(tape, net, replace(x, length=1.0))
