"""A model's shape as options of Megatron-LM's ``pretrain_gpt.py``."""

from __future__ import annotations

from typing import Any

from ridgepoint.models.architecture import Experts, FeedForward, LatentAttention, Layer, SelfAttention
from ridgepoint.training.emit.facts import Facts, Refusal

Options = dict[str, Any]
"""Name → value; None for a switch."""
REFUSE = Refusal("Megatron-LM")


def shape(facts: Facts) -> Options:
    """Layers, widths, attention, feed-forward parts, embedding."""
    model = facts.model
    kinds = [layer for layer, _ in model.main.layers]
    mixers = {layer.mixer for layer in kinds}
    feeds = [layer.feed for layer in kinds]
    one = next(iter(mixers)) if len(mixers) == 1 else None
    REFUSE.unless(
        model.encoder is None
        and isinstance(one, SelfAttention | LatentAttention)
        and all(isinstance(feed, FeedForward | Experts) for feed in feeds)
        and len({feed for feed in feeds if isinstance(feed, Experts)}) <= 1
        and len({feed for feed in feeds if isinstance(feed, FeedForward)}) <= 1,
        f"the layers of {model.name}: pretrain_gpt.py takes decoders of one kind of attention",
        "take its own recipe and the degrees of the table",
    )
    assert one is not None
    return {
        "--num-layers": model.main.depth,
        "--hidden-size": model.hidden,
        **_attention(one),
        **_feeds(facts, kinds),
        **_ends(facts, kinds[0]),
    }


def _attention(mixer: Any) -> Options:
    found: Options = {"--num-attention-heads": mixer.heads}
    if isinstance(mixer, LatentAttention):
        REFUSE.unless(not mixer.index_topk, "attention with an indexer", "take the model's own recipe")
        rank: Options = {"--q-lora-rank": mixer.q_rank} if mixer.q_rank else {}
        return found | {
            "--multi-latent-attention": None,
            **rank,
            "--kv-lora-rank": mixer.kv_rank,
            "--qk-head-dim": mixer.nope_dim,
            "--qk-pos-emb-head-dim": mixer.rope_dim,
            "--v-head-dim": mixer.value_dim,
            "--qk-layernorm": None,
        }
    REFUSE.unless(
        not (mixer.window or mixer.chunk or mixer.output_gate or mixer.sinks or mixer.relative_buckets),
        "windows, gates, sinks or biases of this attention",
        "take the model's own recipe and the degrees of the table",
    )
    found["--kv-channels"] = mixer.head_dim
    if mixer.kv_heads != mixer.heads:
        found |= {"--group-query-attention": None, "--num-query-groups": mixer.kv_heads}
    if mixer.query_norm:
        found["--qk-layernorm"] = None
    if mixer.bias and not mixer.output_bias:
        found["--add-qkv-bias"] = None
    return found | ({"--position-embedding-type": "rope"} if mixer.rope else {})


def _feeds(facts: Facts, kinds: list[Layer]) -> Options:
    dense = next((layer.feed for layer in kinds if isinstance(layer.feed, FeedForward)), None)
    routed = next((layer.feed for layer in kinds if isinstance(layer.feed, Experts)), None)
    gated = (routed or dense).gated if routed or dense else False  # type: ignore[union-attr]
    found: Options = {"--swiglu": None} if gated else {}
    if routed is None:
        assert dense is not None
        return found | {"--ffn-hidden-size": dense.width}
    REFUSE.unless(not routed.hidden and not routed.shared_gate, "latent or gated shared experts", "take its own recipe")
    found |= {
        "--ffn-hidden-size": dense.width if dense is not None else routed.width,
        "--num-experts": routed.count,
        "--moe-router-topk": routed.top_k,
        "--moe-ffn-hidden-size": routed.width,
        "--moe-grouped-gemm": None,
    }
    if routed.shared_width:
        found["--moe-shared-expert-intermediate-size"] = routed.shared_width
    if dense is not None:
        runs = [f"[{int(isinstance(layer.feed, Experts))}]*{count}" for layer, count in facts.model.main.layers]
        found["--moe-layer-freq"] = f"({'+'.join(runs)})"
    return found


def _ends(facts: Facts, layer: Layer) -> Options:
    table = facts.model.embedding
    found: Options = {} if layer.norm_bias else {"--normalization": "RMSNorm"}
    biased = isinstance(layer.feed, FeedForward | Experts) and layer.feed.bias
    if not biased:
        found["--disable-bias-linear"] = None
    if not table.tied:
        found["--untie-embeddings-and-output-weights"] = None
    return found | {"--vocab-size": table.vocab, "--make-vocab-size-divisible-by": 1}
