"""Counting parameters by component: one rule per kind of part (design §5).

Conventions. Tied embeddings count once. Multi-token-prediction modules, quantization scales and buffers do not count.
Components: ``embedding[.positions|.types|.norm|.projection]``, ``layers.<part>`` of the main stack,
``encoder.layers.<part>`` of an encoder beside a decoder, ``final_norm``, ``head`` and ``other.<name>``. Parts are
``attention``, ``cross_attention``, ``linear_attention``, ``ssm``, ``recurrence``, ``feed``, ``experts``,
``shared_expert``, ``router``, ``latent`` and ``norm``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ridgepoint.models.architecture import (
    DeltaAttention,
    Embedding,
    Experts,
    Feed,
    FeedForward,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    Mixer,
    Model,
    Recurrence,
    SelfAttention,
    Stack,
)

Counts = dict[str, float]
FOR_IMAGES = ("vision", "image_attention_layers", "image_tokens")
"""Other parameters that a token of text does not use."""


def parameters(model: Model) -> Counts:
    """Parameters of the whole model by component.

    >>> from ridgepoint.models.architecture import Embedding
    >>> layer = Layer(SelfAttention(4, 2, 16), FeedForward(128))
    >>> model = Model("small", Embedding(1000, tied=True), decoder=Stack(64, ((layer, 2),)))
    >>> parameters(model)  # doctest: +NORMALIZE_WHITESPACE
    {'embedding': 64000.0, 'layers.attention': 24576.0, 'layers.feed': 49152.0, 'layers.norm': 256.0,
     'final_norm': 64.0}
    """
    counts = embedding_parameters(model.embedding, model.hidden)
    if model.encoder is not None and model.decoder is not None:
        _add(counts, stack_parameters(model.encoder), "encoder.")
    _add(counts, stack_parameters(model.main))
    _add(counts, head_parameters(model.embedding, model.hidden))
    _add(counts, {f"other.{name}": float(count) for name, count in model.other_parameters})
    return {name: count for name, count in counts.items() if count}


def total_parameters(model: Model) -> float:
    """All parameters of the model."""
    return sum(parameters(model).values())


def active_parameters(model: Model, embedding: bool | None = None) -> float:
    """Parameters that one token of text uses: ``top_k`` of the experts, and everything else but parts for images.

    Publishers differ on whether the input table counts, of which a token reads one row (Mixtral's 12.9 B has it,
    gpt-oss's 5.1 B and DeepSeek-V3's 37 B do not). ``embedding`` says; ``None`` takes the publisher's convention, which
    is the one of the two counts nearer to ``published_active``, and counts the table where nothing is published. A tied
    table always counts.
    """
    stacks = [stack for stack in (model.encoder, model.decoder) if stack]
    beside = sum(count for name, count in model.other_parameters if name in FOR_IMAGES)
    everything = total_parameters(model) - beside - sum(_idle(stack) for stack in stacks)
    table = model.embedding
    without = everything if table.tied or not table.head else everything - table.vocab * (table.width or model.hidden)
    if embedding is None:
        published = model.published_active
        embedding = not published or abs(everything - published) <= abs(without - published)
    return everything if embedding else without


def _idle(stack: Stack) -> float:
    """Parameters of the experts that a token does not visit."""
    return sum(
        count * expert_parameters(layer.feed, stack.hidden) * (layer.feed.count - layer.feed.top_k)
        for layer, count in stack.layers
        if isinstance(layer.feed, Experts)
    )


def embedding_parameters(embedding: Embedding, hidden: int) -> Counts:
    """The input tables, their norm, and the projections to the model's width and back where the table is narrower."""
    width = embedding.width or hidden
    beside = width if embedding.narrow else hidden
    return {
        "embedding": float(embedding.vocab * width),
        "embedding.positions": float(embedding.learned_positions * beside),
        "embedding.types": float(embedding.types * beside),
        "embedding.norm": float(2 * beside if embedding.norm else 0),
        "embedding.projection": float((1 + embedding.head) * width * hidden if width != hidden else 0),
    }


def head_parameters(embedding: Embedding, hidden: int) -> Counts:
    """The output head: its own matrix unless it is tied, and its bias."""
    if not embedding.head:
        return {}
    matrix = 0 if embedding.tied else embedding.vocab * (embedding.width or hidden)
    return {"head": float(matrix + embedding.vocab * embedding.head_bias)}


def stack_parameters(stack: Stack) -> Counts:
    """All layers of a stack, its relative position table (kept by the first layer for all) and its final norm."""
    counts: Counts = {}
    for layer, count in stack.layers:
        each = layer_parameters(layer, stack.hidden)
        _add(counts, {name: value * count * stack.stored_share for name, value in each.items()}, "layers.")
    tables = [m.relative_buckets * m.heads for layer, _ in stack.layers if isinstance(m := layer.mixer, SelfAttention)]
    _add(counts, {"layers.attention": float(max(tables, default=0))})
    if stack.final_norm:
        _add(counts, {"final_norm": norm_parameters(1, stack.hidden, stack.norm_weight, stack.norm_bias)})
    return counts


def layer_parameters(layer: Layer, hidden: int) -> Counts:
    """One layer by part."""
    counts: Counts = {}
    if layer.mixer is not None:
        counts[MIXER_PARTS[type(layer.mixer)]] = mixer_parameters(layer.mixer, hidden)
    if layer.cross is not None:
        counts["cross_attention"] = mixer_parameters(layer.cross, hidden)
    if layer.feed is not None:
        counts |= feed_parts(layer.feed, hidden)
    counts["norm"] = norm_parameters(layer.norms, hidden, layer.norm_weight, layer.norm_bias)
    return counts


def norm_parameters(norms: int, hidden: int, weight: bool, bias: bool) -> float:
    """That many normalisations over the hidden width."""
    return float(norms * hidden * (weight + bias))


def mixer_parameters(mixer: Mixer, hidden: int) -> float:
    """One mixer at that hidden width; the relative position table of T5 is the stack's.

    >>> mixer_parameters(SelfAttention(heads=32, kv_heads=8, head_dim=128), 4096)
    41943040.0
    """
    return float(_MIXERS[type(mixer)](mixer, hidden))


def feed_parameters(feed: Feed, hidden: int) -> float:
    """One feed-forward part at that hidden width, all experts and the router included.

    >>> feed_parameters(FeedForward(14336), 4096), feed_parameters(Experts(8, 2, 14336), 4096)
    (176160768.0, 1409318912.0)
    """
    return sum(feed_parts(feed, hidden).values())


def feed_parts(feed: Feed, hidden: int) -> Counts:
    """A feed-forward part by component: ``feed``, or ``experts``, ``shared_expert``, ``router``, ``latent``."""
    if isinstance(feed, FeedForward):
        gate = hidden * (hidden + 2) if feed.receptance else 0
        return {"feed": _dense(feed.width, hidden, feed.gated, feed.bias) + gate}
    return {
        "experts": feed.count * expert_parameters(feed, hidden),
        "shared_expert": _dense(feed.shared_width, hidden, feed.gated, feed.bias) + hidden * feed.shared_gate,
        "router": float(feed.count * (hidden + feed.router_bias)),
        "latent": float(2 * hidden * feed.hidden),
    }


def expert_parameters(feed: Experts, hidden: int) -> float:
    """One expert."""
    return _dense(feed.width, feed.hidden or hidden, feed.gated, feed.bias)


def _dense(width: int, hidden: int, gated: bool, bias: bool) -> float:
    if not width:
        return 0.0
    inputs = 2 if gated else 1
    return float((inputs + 1) * hidden * width + bias * (inputs * width + hidden))


def _self_attention(m: SelfAttention, hidden: int) -> int:
    queries, keys = m.heads * m.head_dim, m.kv_heads * m.head_dim
    inputs = queries * (2 if m.output_gate else 1) + 2 * keys
    norm = {"": 0, "head": 2 * m.head_dim, "full": queries + keys}[m.query_norm]
    return inputs * (hidden + m.bias) + (queries + m.output_bias) * hidden + norm + m.heads * m.sinks


def _latent_attention(m: LatentAttention, hidden: int) -> int:
    queries = m.heads * (m.nope_dim + m.rope_dim)
    # Down to the rank, a norm there, up to the heads; or straight to the heads without bias.
    query = m.q_rank * (hidden + m.bias + 1 + queries) if m.q_rank else hidden * queries
    latent = (m.kv_rank + m.rope_dim) * (hidden + m.bias) + m.kv_rank
    expand = m.kv_rank * m.heads * (m.nope_dim + m.value_dim)
    output = (m.heads * m.value_dim + m.bias) * hidden
    return query + latent + expand + output + _indexer(m, hidden)


def _indexer(m: LatentAttention, hidden: int) -> int:
    """Queries from the query latent, one key per token with a LayerNorm, a weight per head."""
    if not m.index_topk:
        return 0
    return (m.q_rank or hidden) * m.index_heads * m.index_dim + hidden * (m.index_dim + m.index_heads) + 2 * m.index_dim


def _delta_attention(m: DeltaAttention, hidden: int) -> int:
    keys, values = m.key_heads * m.key_dim, m.value_heads * m.value_dim
    gate = (hidden + values) * m.gate_rank if m.gate_rank else hidden * values
    projections = hidden * (2 * keys + values) + gate + values * hidden
    strength = hidden * m.value_heads
    # A decay per head from one projection, or per key channel through a projection of rank `key_dim`.
    decay = (hidden + keys) * m.key_dim + keys if m.channel_gate else (hidden + 1) * m.value_heads
    return projections + strength + decay + m.value_heads + (2 * keys + values) * m.conv_kernel + m.value_dim


def _mamba2(m: Mamba2, hidden: int) -> int:
    inner, shared = m.heads * m.head_dim, 2 * m.groups * m.state_dim
    inputs = 2 * inner + shared + m.heads
    conv = (inner + shared) * (m.conv_kernel + m.conv_bias)
    # Per head: step bias, decay, skip. The gated norm is as wide as the inner part.
    return inputs * (hidden + m.projection_bias) + conv + 3 * m.heads + inner + (inner + m.projection_bias) * hidden


def _mamba1(m: Mamba1, hidden: int) -> int:
    inputs = 2 * m.inner * (hidden + m.projection_bias)
    steps = m.inner * (m.dt_rank + 2 * m.state_dim) + (m.dt_rank + 1) * m.inner
    state = m.inner * (m.state_dim + 1)
    return inputs + m.inner * (m.conv_kernel + m.conv_bias) + steps + state + (m.inner + m.projection_bias) * hidden


def _recurrence(m: Recurrence, hidden: int) -> int:
    further = sum(inputs * outputs * blocks for inputs, outputs, blocks in m.products)
    width = m.heads * m.value_dim
    return hidden * (m.inputs + width) + further + m.conv_channels * m.conv_kernel + m.vectors


_MIXERS: Mapping[type, Callable[[Any, int], int]] = {
    SelfAttention: _self_attention,
    LatentAttention: _latent_attention,
    DeltaAttention: _delta_attention,
    Mamba2: _mamba2,
    Mamba1: _mamba1,
    Recurrence: _recurrence,
}
MIXER_PARTS: Mapping[type, str] = {
    SelfAttention: "attention",
    LatentAttention: "attention",
    DeltaAttention: "linear_attention",
    Mamba2: "ssm",
    Mamba1: "ssm",
    Recurrence: "recurrence",
}
"""The component that a mixer counts under."""


def _add(counts: Counts, more: Counts, prefix: str = "") -> None:
    for name, value in more.items():
        counts[prefix + name] = counts.get(prefix + name, 0.0) + value
