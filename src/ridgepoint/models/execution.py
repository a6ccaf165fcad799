"""How a model's layers are stored, cut and called on one device: what the layer builders need to know besides shapes.

Tasks translate a ``Plan`` into these values; every number may be an array over a sweep.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.numeric import Num, plain


@dataclass(frozen=True)
class Formats:
    """Number formats by role. ``weights`` maps components (``attention``, ``feed``, ``experts``, ``router``, ``embedding``,
    ``head``) to formats; ``inputs`` is what matrix products read, ``stream`` what lies between the layers, ``kv`` the cache.
    """

    weights: tuple[tuple[str, str], ...]
    inputs: str = "bf16"
    stream: str = "bf16"
    kv: str = "bf16"

    def weight(self, component: str) -> str:
        """The stored format of a component's weights."""
        table = dict(self.weights)
        return table.get(component, table["default"])

    def gemm_inputs(self, component: str) -> str:
        """What the left operand of this component's products is read in: 16-bit weights are never fed 8-bit inputs."""
        narrow = FORMATS[self.inputs].bits < FORMATS[self.stream].bits
        keeps = FORMATS[self.weight(component)].bits >= FORMATS[self.stream].bits
        return self.stream if narrow and keeps else self.inputs


@dataclass(frozen=True)
class Cut:
    """How one layer is divided: tensor, expert and context parallel degrees, each rank ``*_stride`` devices apart.

    ``ep`` ≤ ``tp``: the tensor-parallel ranks each hold whole experts and add their results by the all-reduce that is there
    anyway. ``ep`` > ``tp``: ``ep``/``tp`` data-parallel replicas of the attention pool their tokens and exchange them
    all-to-all. ``sequence``: norms work on 1/tp of the tokens, all-reduces become reduce-scatter and all-gather.
    ``context_exchange``: how context-parallel ranks attend to each other's tokens (``models/context.py``). ``whole_tables``:
    embedding and head are not divided.
    """

    tp: Num = 1.0
    ep: Num = 1.0
    cp: Num = 1.0
    sequence: bool = False
    context_exchange: str = "all_gather"
    whole_tables: bool = False

    @property
    def table_slices(self) -> Num:
        """Devices that share embedding and head."""
        return 1.0 if self.whole_tables else self.tp

    @property
    def expert_slices(self) -> Num:
        """Devices that share one expert's matrices."""
        return np.maximum(self.tp / self.ep, 1.0)

    @property
    def pooled_replicas(self) -> Num:
        """Data-parallel replicas whose tokens meet at the experts."""
        return np.maximum(self.ep / self.tp, 1.0)


@dataclass(frozen=True)
class Tokens:
    """What passes through: ``batch`` sequences with ``new`` tokens each that attend to ``context`` keys (new ones included).

    ``decode``: one step of generation (absorbed latent attention). ``keep``: positions per sequence that get logits.
    """

    batch: Num
    new: Num
    context: Num
    decode: bool = False
    keep: Num = 1.0

    @property
    def total(self) -> Num:
        """New tokens of all sequences."""
        return self.batch * self.new


@dataclass(frozen=True)
class Execution:
    """Everything that a layer builder needs: formats, cut, kernels.

    ``expert_imbalance`` multiplies the busiest expert rank's rows (0 = what chance does, and favourites when a model serves).
    ``expert_library``: whose fused layers run the experts (``kernels.expert_libraries``; empty: nobody said).
    """

    formats: Formats
    cut: Cut = field(default_factory=Cut)
    fused_attention: bool = True
    fused_elementwise: bool = True
    fused_norms: bool = True
    all_reduce: str = "auto"
    paged: bool = False
    training: bool = False
    expert_imbalance: Num = 0.0
    expert_library: str = ""
    dropout: float = 0.0

    def rows(self, tokens: Tokens) -> Num:
        """Tokens of one context-parallel rank: those of a decode step are split by whole sequences."""
        if isinstance(self.cut.cp, float) and self.cut.cp == 1.0:
            return tokens.total
        here = tokens.total / self.cut.cp
        return plain(np.ceil(here)) if tokens.decode else here
