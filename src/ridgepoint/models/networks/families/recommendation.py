"""Recommendation: embedding tables, feature interactions and networks over them; sequences of a user's behaviour."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.recurrent import recurrent
from ridgepoint.models.networks.families.tokens import mlp
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


def embed(tape: Tape, lookups: Num, width: float, entries: float, name: str = "embedding") -> None:
    """Rows of all tables for one sample, summed by feature where one has several; training changes those rows alone."""
    tape.gather(tape.batch * lookups, width, name, entries * width, sparse=True)


def cross(tape: Tape, x: Rows, layers: int, rank: int) -> Rows:
    """DCN-v2's cross layers (Wang et al. 2021): x₀ ⊙ (W x + b) + x, W of low ``rank`` or (0) full."""

    def layer(y: Rows) -> Rows:
        with tape.scope("cross"):
            inner = tape.linear(y, rank, False, "reduce") if rank else y
            tape.multiply(tape.linear(inner, x.channels, name="expand"))
            return tape.add(y)

    return tape.repeat(layers, layer, x)


@family("dlrm")
def dlrm(tape: Tape, net: Network, sizes: Sizes) -> None:
    """DLRM (Naumov et al. 2019) with pairwise products, or with cross layers (MLPerf's DLRM-DCNv2).

    Inputs: ``lookups`` of one sample over all tables. Options: ``dense`` features, ``bottom``, ``top`` widths, ``tables``,
    ``entries`` of all tables together, ``dim``, ``interaction`` (``dot``, ``cross``), ``cross_layers``, ``rank``.
    """
    dim, tables = net.option("dim"), net.option("tables")
    dense = mlp(tape, tape.rows(1.0, net.option("dense", 13)), *net.option("bottom"), special=0.0, name="bottom")
    tape.activate(dense)
    embed(tape, sizes["lookups"], dim, net.option("entries"))
    if net.option("interaction", "dot") == "cross":
        x = tape.move(tape.rows(1.0, (tables + 1.0) * dim), name="concat")
        x = cross(tape, x, net.option("cross_layers", 3), net.option("rank", 512))
    else:
        count = tables + 1.0
        tape.matmul(count, count, float(dim), tape.batch, "interaction")
        x = tape.move(tape.rows(1.0, dim + count * (count - 1.0) / 2.0), name="concat")
    mlp(tape, x, *net.option("top"), special=0.0, name="top")


@family("ctr")
def ctr(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Click models over one embedding per field: Wide & Deep (Cheng et al. 2016), DeepFM (Guo et al. 2017), DCN-v2.

    Inputs: ``fields``. Options: ``entries`` of all tables, ``dim``, ``mlp``, ``wide`` (one weight per entry), ``fm``,
    ``cross_layers``, ``rank``.
    """
    fields, dim = sizes["fields"], net.option("dim")
    embed(tape, fields, dim, net.option("entries"))
    if net.option("wide"):
        embed(tape, fields, 1.0, net.option("entries"), "wide")
    x = tape.rows(1.0, fields * dim)
    if net.option("fm"):
        tape.activate(x, flop=4.0, name="factorisation")
    if net.option("cross_layers"):
        cross(tape, x, net.option("cross_layers"), net.option("rank", 0))
    mlp(tape, x, *net.option("mlp"), 1, special=0.0)


@family("behaviour")
def behaviour(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Interest from past behaviour: DIN (Zhou et al. 2018) weighs past items by the candidate, DIEN (Zhou et al. 2019) lets
    two recurrent layers evolve them.

    Inputs: ``behaviours`` (length), ``fields`` beside them. Options: ``entries``, ``dim`` of an item, ``evolve`` (DIEN),
    ``unit`` widths of the attention unit, ``mlp``.
    """
    dim, length = net.option("dim"), sizes["behaviours"]
    embed(tape, length + sizes["fields"], dim, net.option("entries"))
    past = tape.rows(length, dim)
    if net.option("evolve"):
        past = recurrent(tape, past, dim, "gru", name="interest")
    mlp(tape, tape.multiply(replace(past, channels=4.0 * dim)), *net.option("unit"), 1, name="unit")
    if net.option("evolve"):
        recurrent(tape, past, dim, "gru", name="evolution")
    else:
        tape.scale(past, name="weigh")
    mlp(tape, tape.rows(1.0, (sizes["fields"] + 1.0) * dim), *net.option("mlp"), 1, name="mlp")


@family("two_tower")
def two_tower(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Two towers (Covington et al. 2016; Yi et al. 2019): user and item each through a network, all pairs
    of the batch scored.

    Inputs: ``user_lookups``, ``item_lookups``. Options: ``entries``, ``dim``, ``user``, ``item`` widths.
    """
    dim = net.option("dim")
    embed(tape, sizes["user_lookups"] + sizes["item_lookups"], dim, net.option("entries"))
    for side in ("user", "item"):
        x = tape.rows(1.0, sizes[f"{side}_lookups"] * dim)
        mlp(tape, x, *net.option(side), special=0.0, name=side)
    tape.matmul(tape.batch, tape.batch, float(net.option("user")[-1]), name="scores")


@family("ncf")
def ncf(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Neural collaborative filtering (He et al. 2017): factors multiplied, and a network over concatenated factors.

    Options: ``users``, ``items``, ``factors``, ``mlp`` widths (the first is the concatenated embeddings').
    """
    widths, factors = net.option("mlp"), net.option("factors")
    width = factors + widths[0] / 2.0
    tape.gather(tape.batch * 2.0, width, "embedding", (net.option("users") + net.option("items")) * width, True)
    x = mlp(tape, tape.rows(1.0, widths[0]), *widths[1:], special=0.0)
    tape.linear(replace(x, channels=x.channels + factors), 1, name="head")


@family("hstu")
def hstu(tape: Tape, net: Network, sizes: Sizes) -> None:
    """HSTU (Zhai et al. 2024): layers whose pointwise attention is gated, over a user's sequence of actions.

    Inputs: ``actions``. Options: ``depth``, ``width``, ``heads``, ``head_dim``, ``entries`` of the item table.
    """
    width, inner = net.option("width"), net.option("heads") * net.option("head_dim")
    embed(tape, sizes["actions"], width, net.option("entries"))

    def layer(x: Rows) -> Rows:
        with tape.scope("layer"):
            y = tape.activate(tape.linear(tape.norm(x, "layer"), 4 * inner, False, "uvqk"), special=1.0)
            y = replace(y, channels=float(inner))
            tape.attend(y, y, net.option("heads"), net.option("head_dim"), causal=True)
            tape.multiply(tape.norm(y, "layer", affine=False, name="gate_norm"))
            return tape.add(tape.linear(y, width, True, "output"))

    tape.repeat(net.option("depth"), layer, tape.rows(sizes["actions"], width))
