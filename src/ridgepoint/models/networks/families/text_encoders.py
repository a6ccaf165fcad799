"""Encoders of prompts, as parts of generation runs and of robot policies."""

from __future__ import annotations

from ridgepoint.models.networks.families.tokens import transformer_layer
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape


@family("text_encoder")
def text_encoder(tape: Tape, net: Network, sizes: Sizes) -> None:
    """One pass of a transformer over ``tokens`` tokens of text, states as results.

    Options: ``depth``, ``width``, ``heads``, ``head_dim``, ``kv_heads``, ``feed``, ``gated``, ``norm``, ``bias``,
    ``qkv_bias``, ``causal``, ``rope``, ``post_norms``, ``vocabulary``, ``positions`` (learned ones), ``projection``,
    ``buckets`` of relative positions and whether they are ``buckets_per_layer``.
    """
    width = net.option("width")
    table = net.option("vocabulary") * float(width)
    tape.count("positions", net.option("positions", 0) * width)
    tape.gather(tape.batch * sizes["tokens"], width, "embedding", table)
    layers = net.option("depth") if net.option("buckets_per_layer") else 1
    tape.count("relative_positions", layers * net.option("buckets", 0) * net.option("heads"))
    x = tape.repeat(net.option("depth"), lambda y: layer(tape, net, y), tape.rows(sizes["tokens"], width))
    tape.norm(x, net.option("norm", "rms"), name="norm_out")
    if net.option("projection"):
        tape.linear(Rows(tape.batch, 1.0, float(width)), net.option("projection"), False, "projection")


def layer(tape: Tape, net: Network, x: Rows) -> Rows:
    """One layer as the network's options describe it."""
    return transformer_layer(
        tape,
        x,
        net.option("heads"),
        net.option("feed"),
        head_dim=net.option("head_dim", 0),
        kv_heads=net.option("kv_heads", 0),
        gated=net.option("gated", True),
        bias=net.option("bias", False),
        qkv_bias=net.option("qkv_bias", net.option("bias", False)),
        norm=net.option("norm", "rms"),
        rope=net.option("rope", False),
        causal=net.option("causal", False),
        post_norms=net.option("post_norms", False),
    )
