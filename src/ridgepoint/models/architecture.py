"""What a model is: shapes and layer kinds, no weights (design §5). Frozen values, no meaning.

A transformer-like model is stacks of layers; a layer is a mixer (attention in some form, a state-space or linear-attention
block) and a feed-forward part (dense or experts). ``parameters.py`` counts them, ``layers.py`` turns them into work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class SelfAttention:
    """Softmax attention with ``kv_heads`` ≤ ``heads`` (MHA, GQA, MQA).

    ``window`` > 0: sliding window of that many tokens, the token itself included. ``chunk`` > 0: attention inside blocks of
    that many positions (Llama 4). ``output_gate``: the query projection is twice as wide and gates the output (Qwen3.5).
    ``query_norm``: ``"head"`` normalises each head's queries and keys, ``"full"`` all of them, ``""`` none.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int = 0
    chunk: int = 0
    bias: bool = False
    output_bias: bool = False
    rope: bool = True
    query_norm: str = ""
    output_gate: bool = False
    sinks: bool = False
    """One learned sink logit per head (gpt-oss)."""
    relative_buckets: int = 0
    """Learned relative position biases (T5), in the first layer of a stack only."""


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2): keys and values are expanded from a cached latent of ``kv_rank`` values
    plus ``rope_dim`` shared rotary key values per token. ``q_rank`` = 0: queries are projected directly.

    ``index_topk`` > 0: an indexer (``index_heads`` × ``index_dim``) picks that many keys per query (DeepSeek sparse
    attention); its keys are cached too.
    """

    heads: int
    q_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    bias: bool = False
    index_heads: int = 0
    index_dim: int = 0
    index_topk: int = 0


@dataclass(frozen=True)
class DeltaAttention:
    """Gated delta net (Qwen3-Next, Qwen3.5; Yang et al. 2024): linear attention with a matrix state per value head.

    ``channel_gate``: the decay is per channel, from a low-rank projection (Kimi delta attention). ``gate_rank`` > 0: so is
    the output gate, of that rank.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_kernel: int = 4
    chunk: int = 64
    channel_gate: bool = False
    gate_rank: int = 0


@dataclass(frozen=True)
class Mamba2:
    """State-space duality block (Dao, Gu 2024)."""

    heads: int
    head_dim: int
    state_dim: int
    groups: int = 1
    conv_kernel: int = 4
    chunk: int = 256
    conv_bias: bool = True
    projection_bias: bool = False


@dataclass(frozen=True)
class Mamba1:
    """Selective state-space block (Gu, Dao 2023)."""

    inner: int
    state_dim: int
    dt_rank: int
    conv_kernel: int = 4
    conv_bias: bool = True
    projection_bias: bool = False


@dataclass(frozen=True)
class Recurrence:
    """A gated linear recurrence: RWKV, RetNet, gated linear attention, Based, mLSTM, the RG-LRU of Griffin.

    A head keeps ``key_dim`` × ``value_dim`` numbers. ``scan``: ``linear`` (products with that state), or channel by channel
    ``wkv`` (RWKV-4: three numbers) and ``lru`` (one); empty: a gated convolution alone. ``inputs``: total width of the
    projections that read the layer's input; ``products``: further ones as (inputs, outputs, blocks on a diagonal).
    ``vectors``: parameters outside matrices (biases, decays, norms). ``mixes``: inputs that blend a token with the one
    before it; ``shifted``: values of that token that are kept. ``feature_dim``: width of queries and keys before a feature
    map makes them ``key_dim`` wide.
    """

    heads: int
    key_dim: int
    value_dim: int
    inputs: int
    scan: str = "linear"
    products: tuple[tuple[int, int, int], ...] = ()
    vectors: int = 0
    conv_kernel: int = 0
    conv_channels: int = 0
    mixes: int = 0
    shifted: int = 0
    feature_dim: int = 0
    chunk: int = 64


Mixer: TypeAlias = SelfAttention | LatentAttention | DeltaAttention | Mamba2 | Mamba1 | Recurrence


@dataclass(frozen=True)
class FeedForward:
    """Dense feed-forward part; ``gated``: two projections in (SwiGLU, GeGLU), else one.

    ``composed``: the nonlinearity by the name of one that library code writes as a chain of operations (``gelu_new``).
    ``receptance``: a projection as wide as the model gates the output, and inputs blend two tokens (RWKV).
    """

    width: int
    gated: bool = True
    bias: bool = False
    receptance: bool = False
    composed: str = ""


@dataclass(frozen=True)
class Experts:
    """Mixture of experts: ``top_k`` of ``count`` experts of ``width``, plus a shared part of ``shared_width`` in total.

    ``shared_gate``: the shared part has a scalar gate (Qwen MoE). ``hidden``: the width that experts work in where it
    differs from the model's (latent experts), 0 = the model's.
    """

    count: int
    top_k: int
    width: int
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    shared_width: int = 0
    shared_gate: bool = False
    hidden: int = 0


Feed: TypeAlias = FeedForward | Experts


@dataclass(frozen=True)
class Layer:
    """One residual block. ``norms`` counts the hidden-wide normalisations; ``cross`` is attention to an encoder's output.

    ``parallel``: mixer and feed-forward part read the same input (GPT-J, Falcon, Command-R). ``rms_norm``: the norms are RMS
    norms, which library code composes of elementary operations, where a framework has one kernel for LayerNorm.
    """

    mixer: Mixer | None
    feed: Feed | None
    norms: int = 2
    norm_bias: bool = False
    norm_weight: bool = True
    parallel: bool = False
    cross: SelfAttention | None = None
    rms_norm: bool = False


@dataclass(frozen=True)
class Stack:
    """Layers in order as runs of equal ones: ``((layer, count), …)``; ``causal`` is False for encoders.

    ``weight_sets`` > 0: that many sets of weights serve all layers in turn (ALBERT).
    """

    hidden: int
    layers: tuple[tuple[Layer, int], ...]
    causal: bool = True
    final_norm: bool = True
    norm_bias: bool = False
    norm_weight: bool = True
    weight_sets: int = 0
    rms_norm: bool = False

    @property
    def depth(self) -> int:
        """Number of layers."""
        return sum(count for _, count in self.layers)

    @property
    def stored_share(self) -> float:
        """Part of the layers that has weights of its own."""
        return self.weight_sets / self.depth if self.weight_sets else 1.0


@dataclass(frozen=True)
class Embedding:
    """Token embedding and output head. ``width`` 0 = the model's hidden size (OPT-350M and ALBERT differ).

    ``learned_positions`` rows of a position table; ``types`` rows of a token-type table; ``norm``: a LayerNorm follows.
    ``head``: a projection to the vocabulary exists; ``tied``: it reuses the embedding. ``narrow``: the other tables and
    the norm are as wide as the token table too.
    """

    vocab: int
    width: int = 0
    tied: bool = False
    head: bool = True
    head_bias: bool = False
    learned_positions: int = 0
    types: int = 0
    norm: bool = False
    narrow: bool = False


@dataclass(frozen=True)
class Precision:
    """The formats that a checkpoint is stored in: ``weights`` in general, ``exceptions`` by component.

    Components: ``embedding``, ``head``, ``attention``, ``feed``, ``experts``, ``router``.
    """

    weights: str = "bf16"
    exceptions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Model:
    """A transformer-like model: a decoder, an encoder, or both.

    ``other_parameters`` are counted but take part in no work here (pooler, MLM head transform, vision tower, …), by name.
    ``published_parameters`` is what the model's publisher says, where the catalogue knows it. ``padded_input`` is the
    number of positions that every input of the encoder is padded to (Whisper: 30 s of sound), 0 where none is.
    """

    name: str
    embedding: Embedding
    decoder: Stack | None = None
    encoder: Stack | None = None
    precision: Precision = Precision()
    other_parameters: tuple[tuple[str, int], ...] = ()
    max_context: int = 0
    padded_input: int = 0
    title: str = ""
    source: str = ""
    published_parameters: float = 0.0
    published_active: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def main(self) -> Stack:
        """The stack that generates, or the encoder of an encoder-only model."""
        stack = self.decoder or self.encoder
        assert stack is not None
        return stack

    @property
    def hidden(self) -> int:
        """Width of the residual stream of the main stack."""
        return self.main.hidden
