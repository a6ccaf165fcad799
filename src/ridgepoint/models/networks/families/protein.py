"""Protein structure: AlphaFold's Evoformer and AlphaFold 3's Pairformer."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.tokens import attention, feed_forward
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


def gated_attention(
    tape: Tape, x: Rows, heads: int, head_dim: int, pair: Rows | None, name: str, qkv_bias: bool = False
) -> Rows:
    """Attention with a gate on its result and, from a pair representation, a bias on its scores."""
    with tape.scope(name):
        tape.norm(x, "layer")
        if pair is not None:
            tape.linear(tape.norm(pair, "layer", name="pair_norm"), heads, False, "pair_bias")
        tape.activate(tape.linear(x, heads * head_dim, True, "gate"), special=1.0)
        y = attention(tape, x, heads, head_dim, bias=qkv_bias, name="core")
        return tape.add(tape.multiply(y, "gated"))


def triangle_multiplication(tape: Tape, pair: Rows, length: Num, inner: int, name: str, bias: bool = True) -> Rows:
    """Each edge (i, j) from the products of edges (i, k) and (j, k): one length³ product per channel."""
    with tape.scope(name):
        tape.norm(pair, "layer", name="norm_in")
        sides = tape.linear(pair, 4 * inner, bias, "sides")
        tape.multiply(tape.activate(replace(sides, channels=2.0 * inner), special=1.0), "gate_sides")
        tape.matmul(length, length, length, pair.batch * inner, "triangle")
        tape.norm(replace(pair, channels=float(inner)), "layer", name="norm_out")
        tape.linear(replace(pair, channels=float(inner)), pair.channels, bias, "output")
        tape.activate(tape.linear(pair, pair.channels, bias, "gate"), special=1.0)
        return tape.add(tape.multiply(pair, "gated"))


def triangle_attention(tape: Tape, pair: Rows, length: Num, heads: int, head_dim: int, name: str) -> Rows:
    """Attention along the rows (or columns) of the pair representation: length sequences of the same length."""
    rows = Rows(pair.batch * length, length, pair.channels)
    with tape.scope(name):
        tape.norm(pair, "layer")
        tape.linear(pair, heads, False, "pair_bias")
        tape.activate(tape.linear(pair, heads * head_dim, True, "gate"), special=1.0)
        attention(tape, rows, heads, head_dim, bias=False, name="core")
        return tape.add(tape.multiply(pair, "gated"))


def transition(tape: Tape, x: Rows, factor: int, name: str, gated: bool = False) -> Rows:
    """A norm and a feed-forward part."""
    y = tape.norm(x, "layer", name=f"{name}_norm")
    return tape.add(feed_forward(tape, y, factor * x.channels, gated=gated, bias=not gated, name=name))


def pair_stack(tape: Tape, pair: Rows, length: Num, heads: int, head_dim: int, inner: int, gated: bool = False) -> Rows:
    """Both triangle multiplications, both triangle attentions, transition."""
    for name in ("outgoing", "incoming"):
        triangle_multiplication(tape, pair, length, inner, f"triangle_{name}", bias=not gated)
    for name in ("starting", "ending"):
        triangle_attention(tape, pair, length, heads, head_dim, f"triangle_{name}")
    return transition(tape, pair, 4, "pair_transition", gated)


@family("evoformer")
def evoformer(tape: Tape, net: Network, sizes: Sizes) -> None:
    """AlphaFold 2's trunk (Jumper et al. 2021): sequences of an alignment and pairs of residues inform each other.

    Inputs: ``residues``, ``sequences``. Options: ``blocks``, ``msa_width``, ``pair_width``, ``heads``, ``pair_heads``,
    ``outer`` width of the outer product, ``recycles`` (passes through the trunk).
    """
    r, s = sizes["residues"], sizes["sequences"]
    wide, narrow, outer = net.option("msa_width", 256), net.option("pair_width", 128), net.option("outer", 32)
    pair = tape.rows(r * r, narrow)
    heads, pair_heads = net.option("heads", 8), net.option("pair_heads", 4)

    def block(msa: Rows) -> Rows:
        with tape.scope("block"):
            along = Rows(msa.batch * s, r, msa.channels)
            gated_attention(tape, along, heads, wide // heads, pair, "row_attention")
            gated_attention(tape, Rows(msa.batch * r, s, msa.channels), heads, wide // heads, None, "column_attention")
            transition(tape, msa, 4, "msa_transition")
            tape.linear(tape.norm(msa, "layer", name="outer_norm"), 2 * outer, name="outer_sides")
            tape.matmul(r * outer, r * outer, s, msa.batch, "outer_product")
            tape.linear(replace(pair, channels=float(outer * outer)), narrow, name="outer_output")
            pair_stack(tape, tape.add(pair), r, pair_heads, narrow // pair_heads, narrow)
            return msa

    tape.repeat(net.option("blocks", 48), block, tape.rows(s * r, wide))


@family("pairformer")
def pairformer(tape: Tape, net: Network, sizes: Sizes) -> None:
    """AlphaFold 3's trunk (Abramson et al. 2024): pairs as in the Evoformer, one sequence that attends with pair biases.

    Inputs: ``tokens``. Options: ``blocks``, ``single_width``, ``pair_width``, ``heads``, ``pair_heads``.
    """
    n, wide, narrow = sizes["tokens"], net.option("single_width", 384), net.option("pair_width", 128)
    pair = tape.rows(n * n, narrow)
    heads, pair_heads = net.option("heads", 16), net.option("pair_heads", 4)

    def block(single: Rows) -> Rows:
        with tape.scope("block"):
            pair_stack(tape, pair, n, pair_heads, narrow // pair_heads, narrow, gated=True)
            gated_attention(tape, single, heads, wide // heads, pair, "single_attention")
            return transition(tape, single, 4, "single_transition", gated=True)

    tape.repeat(net.option("blocks", 48), block, tape.rows(n, wide))
