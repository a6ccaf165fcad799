"""Families whose layers run two parts side by side, described one after the other: the same weights and the same work.

Falcon-H1 has a Mamba-2 block beside attention; LongCat-Flash experts beside the second of two latent attention parts.
"""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.architecture import Experts, FeedForward, Layer, Model, Stack
from ridgepoint.models.huggingface import mixers
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import Style, embedding, finish, read_decoder, runs


def read_falcon_h1(f: Fields, name: str) -> Model:
    """Falcon-H1: attention and a Mamba-2 block read the same normalised input; their sum goes on to a dense part."""
    model = read_decoder(f, Style(), name)
    stack = model.main
    beside = Layer(mixers.mamba2(f), None, norms=0, rms_norm=True)
    layers = runs(part for layer, count in stack.layers for _ in range(count) for part in (beside, layer))
    note = "attention and the Mamba-2 block of a layer run one after the other, as engines run them"
    return replace(model, decoder=replace(stack, layers=layers), notes=(*model.notes, note))


def read_longcat(f: Fields, name: str) -> Model:
    """LongCat-Flash: two latent attention parts with a dense part each, and experts that read what the first one leaves.

    Some experts are identities (``zero_expert_num``): of ``moe_topk`` choices those that compute are as many as their
    part of all experts (LongCat-Flash Technical Report 2025, section 2.1: 8 of 12, which the router's bias holds).
    """
    style, hidden = Style(), f.count("hidden_size")
    count, zero = f.count("n_routed_experts"), f.count("zero_expert_num", 0, least=0)
    chosen = f.count("moe_topk")
    computed = max(1, round(chosen * count / (count + zero)))
    experts = Experts(count, computed, f.count("expert_ffn_hidden_size"), router_bias=True)
    attending = Layer(mixers.latent_attention(f, style), FeedForward(f.count("ffn_hidden_size")), rms_norm=True)
    layers = f.count("num_layers") if "num_layers" in f.values else max(1, f.count("num_hidden_layers") // 2)
    sparse = Layer(None, experts, norms=0, rms_norm=True)
    parts = [part for _ in range(layers) for part in (attending, sparse, attending)]
    model = Model(
        name,
        embedding(f, style),
        decoder=Stack(hidden, runs(parts), rms_norm=True),
        other_parameters=(("zero_expert_router", layers * zero * (hidden + 1)),),
        notes=(
            f"{computed} of a token's {chosen} experts compute, on average; the others are identities",
            "experts run after the first attention part, not beside the second",
        ),
    )
    return finish(f, model)
