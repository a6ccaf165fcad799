"""The kinds of operation, and what each needs to be said (design §2). No meaning here: rules are in ``kernels/``.

All sizes are per device: an op is what one device does. Formats are names from ``formats.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ridgepoint.numeric import Num
from ridgepoint.work import Op


@dataclass(frozen=True, kw_only=True)
class Gemm(Op):
    """``batch`` products (m × k) · (k × n) with different right-hand sides, computed as one kernel.

    Grouped products (MoE experts) have ``batch`` = experts that receive any token and ``m`` = mean rows of such an expert;
    ``imbalance`` is the busiest group's rows over the mean (1 = balanced). ``weights`` is the format of the k × n operand,
    ``acts`` that of the m × k operand, ``out`` that of the result. ``shared_input``: all groups read the same m × k operand.

    ``stored`` is what memory holds of the k × n operand over its dense bytes in its format: below 1 where it lies there sparse
    or coded and is unpacked on chip, ``unpack_flop`` simple operations per value whenever a tile of rows reads it.
    ``computed`` is the part of the multiply-adds that is carried out: the engine skips the rest (N:M sparsity).
    ``tile_rows`` > 0: the library cuts a group's rows into tiles of so many (0 = the best for it), ``row_tiles`` of them on
    average (0 = as groups of about equal size have).
    ``library``: whose kernels multiply, where they have habits of their own (``kernels.libraries``; empty: the best known).
    """

    kind: ClassVar[str] = "gemm"
    m: Num
    n: Num
    k: Num
    batch: Num = 1.0
    acts: str = "bf16"
    weights: str = "bf16"
    out: str = "bf16"
    grouped: bool = False
    imbalance: Num = 1.0
    shared_input: bool = False
    stored: Num = 1.0
    unpack_flop: Num = 0.0
    computed: Num = 1.0
    library: str = ""
    tile_rows: Num = 0.0
    row_tiles: Num = 0.0


@dataclass(frozen=True, kw_only=True)
class Attention(Op):
    """Softmax(Q Kᵀ) V for ``batch`` sequences with ``q_len`` new tokens that attend to ``kv_len`` keys, as one kernel.

    ``kv_len`` counts history and new tokens. ``causal``: new token i sees the keys up to itself. ``window`` > 0 limits a
    token to its last ``window`` keys, itself included; ``chunk`` > 0 limits it to its own block of ``chunk`` positions
    (Llama 4). ``value_dim`` is the width of V (0 = ``head_dim``). ``latent``: K and V are one stored tensor (absorbed MLA;
    V is its first ``value_dim`` columns). ``paged``: keys and values lie in blocks. ``backward``: the gradient kernel.
    ``split``: how the keys of few queries are divided among multiprocessors: in ``fixed`` equal parts (Flash-Decoding),
    ``even`` over all multiprocessors (stream-K, LeanAttention), or ``none`` (FlashAttention-2). ``rows`` > 0: so many queries
    go through keys of their own choice together, not a whole tile (one where every token picks its blocks). ``packed``: at
    most so many heads that share keys go through them in one block (0 = all of them). ``parts``: keys are split into at most
    so many (0 = as many as keep the machine busy).
    """

    kind: ClassVar[str] = "attention"
    batch: Num
    heads: Num
    kv_heads: Num
    q_len: Num
    kv_len: Num
    head_dim: Num
    value_dim: Num = 0.0
    causal: bool = True
    window: Num = 0.0
    chunk: Num = 0.0
    latent: bool = False
    paged: bool = False
    backward: bool = False
    split: str = "fixed"
    rows: Num = 0.0
    packed: Num = 0.0
    parts: Num = 0.0
    prompt: bool = False
    tile: Num = 0.0
    heads_first: bool = False
    acts: str = "bf16"
    kv: str = "bf16"


@dataclass(frozen=True, kw_only=True)
class Scan(Op):
    """A recurrent or linear-attention pass over ``seq`` tokens of ``batch`` sequences.

    ``variant``: ``mamba1`` (``heads`` = inner channels, ``head_dim`` = 1), ``mamba2``, ``linear``, ``gated_delta``, ``kda``
    (a decay for every channel), ``rnn``, and channel by channel ``wkv`` (RWKV-4) and ``lru`` (Griffin). Each head keeps a
    ``head_dim`` × ``state_dim`` state in format ``state``.
    ``chunk`` is the block length of chunked (matrix) forms. ``groups``: heads share B and C (Mamba-2) or queries and keys
    (gated delta net) in that many groups.
    ``seq`` = 1 is the decode step. ``stateless``: sequences begin with no state and leave none behind.
    """

    kind: ClassVar[str] = "scan"
    batch: Num
    seq: Num
    heads: Num
    head_dim: Num
    state_dim: Num
    groups: Num = 1.0
    chunk: Num = 128.0
    variant: str = "mamba2"
    backward: bool = False
    stateless: bool = False
    acts: str = "bf16"
    state: str = "fp32"


@dataclass(frozen=True, kw_only=True)
class Conv(Op):
    """A convolution of ``batch`` images (c_in × h × w) with ``c_out`` filters (c_in/groups × kh × kw), stride and padding.

    ``direction``: ``fwd``, ``bwd_data`` or ``bwd_weight`` (shapes are always those of the forward pass).
    """

    kind: ClassVar[str] = "conv"
    batch: Num
    c_in: Num
    c_out: Num
    h: Num
    w: Num
    kh: Num
    kw: Num
    stride: Num = 1.0
    pad_h: Num = 0.0
    pad_w: Num = 0.0
    groups: Num = 1.0
    direction: str = "fwd"
    acts: str = "bf16"
    weights: str = "bf16"


@dataclass(frozen=True, kw_only=True)
class Stream(Op):
    """A memory-bound kernel: it reads and writes once, with some arithmetic on the vector engine.

    ``flop`` counts simple operations, ``special`` exponentials, roots and reciprocals. ``pattern`` picks the efficiency
    (``kernels.stream.PATTERNS``: ``elementwise``, ``norm``, ``softmax``, ``gather``, ``quantize``, ``copy`` …); ``rows``
    independent rows limit the parallelism of norms and softmaxes (0 = elementwise). ``launches`` kernels are started.
    """

    kind: ClassVar[str] = "stream"
    read_bytes: Num
    write_bytes: Num
    flop: Num = 0.0
    special: Num = 0.0
    pattern: str = "elementwise"
    rows: Num = 0.0
    launches: Num = 1.0
    acts: str = "fp32"
    saved_bytes: Num = 0.0
    """What training keeps from it for the backward pass."""
    bare: bool = False
    """Whether its launches are single operators of a formula, without the module, views and casts around most kernels."""


@dataclass(frozen=True, kw_only=True)
class Collective(Op):
    """Communication among ``ranks`` devices, of which two neighbours are ``stride`` devices apart in rank order.

    ``operation``: ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``all_to_all``, ``broadcast``, ``send_recv``.
    ``bytes`` per rank as nccl-tests count them: all_reduce the buffer; all_gather the full gathered output; reduce_scatter
    the full input; all_to_all the whole send buffer; broadcast and send_recv the message. ``algorithm``: ``auto`` takes the
    fastest of ``ring``, ``tree``, ``hierarchical``, ``in_switch`` that the machine has. ``fanout`` > 0: every row of an
    all_to_all goes to that many ranks by chance, and to each node once, whose devices pass it on (expert dispatch).
    """

    kind: ClassVar[str] = "collective"
    operation: str
    bytes: Num
    ranks: Num
    stride: Num = 1.0
    algorithm: str = "auto"
    fanout: Num = 0.0


@dataclass(frozen=True, kw_only=True)
class Transfer(Op):
    """``bytes`` moved in ``pieces`` copies between the device's memory and another tier (``host``, ``storage``, or
    one of the machine's own tiers by its name).

    ``direction``: ``read`` (towards the device), ``write``, or ``inside``: a tier that computes reads its own memory, nothing
    reaches the device.
    """

    kind: ClassVar[str] = "transfer"
    bytes: Num
    tier: str = "host"
    direction: str = "read"
    pieces: Num = 1.0
    pinned: bool = True


@dataclass(frozen=True, kw_only=True)
class Host(Op):
    """Work of the host processor: ``launches`` kernel launches from a framework (``eager``: from an interpreter), plus
    ``seconds`` of other host time, spread over ``workers`` processes; ``bytes`` move through its memory, which all devices
    of a node share.
    """

    kind: ClassVar[str] = "host"
    launches: Num = 0.0
    seconds: Num = 0.0
    workers: Num = 1.0
    bytes: Num = 0.0
    eager: bool = False


@dataclass(frozen=True, kw_only=True)
class Storage(Op):
    """``bytes`` read from or written to storage in ``accesses`` requests."""

    kind: ClassVar[str] = "storage"
    bytes: Num
    accesses: Num = 1.0
    direction: str = "read"


@dataclass(frozen=True, kw_only=True)
class Delay(Op):
    """A fixed time that no resource of the machine shortens (a network round trip, a human, a sensor)."""

    kind: ClassVar[str] = "delay"
    seconds: Num
