"""Attention whose cost is linear in length: kernels with a state, state-space layers, agents, projected keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Layer, Mamba2, Model, SelfAttention
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Scan, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import (
    attends,
    cache_of,
    cached_tokens,
    others_of,
    steps_of,
    with_attention,
    with_keys,
)
from ridgepoint.techniques.conditions import every, has_mixer, infers, serves, transformer
from ridgepoint.techniques.products import divided, summed
from ridgepoint.techniques.pruning import in_layers, with_model, with_stacks
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_entries
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work

_LAYERS = Parameter("layers", 0.75, "part of the layers that is replaced", 0.0, 1.0)


def feature_map(op: Attention, values_out: Num, label: str) -> Stream:
    """The pass that turns queries and keys into features."""
    width = FORMATS[op.acts].bytes
    read = op.batch * op.q_len * (op.heads + op.kv_heads) * op.head_dim
    return Stream(read_bytes=read * width, write_bytes=values_out * width, flop=2.0 * read, special=values_out,
                  label=f"{op.label}.{label}")  # fmt: skip


@technique(
    "linear-attention-hybrid",
    title="linear attention with a small window in a part of the layers",
    mechanism=("linear_attention", "sparse_attention", "ssm_rnn"),
    papers=("lizard", "based", "asi-arch", "hydra-ssm-moe"),
    quality="recall grows with the state; converted models (Lizard) come near with some training, hybrids nearest",
    grade="changed",
    cannot=every(transformer, serves, has_mixer(SelfAttention)),
    parameters=(
        _LAYERS,
        Parameter("features", 256.0, "features per head that keys and queries become", 1.0, 65536.0),
        Parameter("window", 64.0, "last tokens that those layers attend to exactly (0: none)", 0.0, 1e6),
    ),
    occupies=("kv form", "kv tokens"),
    training_free=False,
    neutral={"layers": 0.0},
)
def linear_attention_hybrid(given: Scenario, values: Values) -> Scenario:
    """In those layers a state of features × head_dim per head, beside a window, takes the place of the growing cache.

    decode bytes per layer = state (read and written, fp32) + window; prefill operations L·features·head_dim in chunks instead
    of L²/2. Below the crossover, L ≈ features, it is slower than attention: the state is read whole from the first token on.

    >>> import ridgepoint as rp
    >>> def ratio(context: float) -> float:
    ...     task = rp.Decode(batch=16, context=context)
    ...     before, after = (rp.estimate("llama-2-7b", on="h200", task=task, apply=a).time_s
    ...                      for a in ([], ["linear-attention-hybrid"]))
    ...     return before / after
    >>> bool(ratio(16384) > 1.5 > 1.0 > ratio(128))
    True
    """
    return edited(given, "linear-attention-hybrid", _hybrid, values)


def _hybrid(built: Built, given: Scenario, values: Values) -> Built:
    share, features, window, cp = values["layers"], values["features"], values["window"], built.layout.cp
    local = np.any(np.asarray(window) > 0.0)

    def linear(op: Attention) -> list[Work]:
        width = plain(np.where(np.asarray(op.value_dim) > 0.0, op.value_dim, op.head_dim))
        scan = Scan(batch=op.batch, seq=op.q_len, heads=op.heads, head_dim=width, state_dim=features, variant="linear",
                    acts=op.acts, label=f"{op.label}.linear")  # fmt: skip
        mapped = op.batch * op.q_len * (op.heads + op.kv_heads) * features
        return [feature_map(op, mapped, "features"), scan]

    def step(op: Attention) -> Work:
        near = [with_keys(op, lambda n: np.minimum(n, window), cp)] if local else []
        return divided(share, Seq(*linear(op), *near), op)

    def first(op: Attention) -> Work:
        near = [replace(op, window=window)] if local else []
        return divided(share, Seq(*linear(op), *near), op)

    changed = with_attention(with_attention(built, step, steps_of(built)), first, others_of(built))

    def state(op: Op) -> Num:
        return op.batch * op.heads * features * op.head_dim * 4.0 if isinstance(op, Attention) and attends(op) else 0.0

    tokens = cached_tokens(given)
    near_part = cache_of(given, built, np.minimum(np.maximum(window, 0.0), tokens)) / cache_of(given, built, tokens)
    kept = built.ledger["kv"] * (1.0 - share + share * near_part)
    per_step = summed(built.phases[-1].work, state) / built.layout.pp
    return with_entries(changed, kv=plain(kept), kv_state=plain(per_step * share))


@technique(
    "state-space-layers",
    title="attention layers replaced by state-space ones",
    mechanism=("ssm_rnn", "linear_attention"),
    papers=("ssm-hybrid-characterization", "nemotron-flash", "lizard", "hydra-ssm-moe", "quamba2", "matmul-free-lm"),
    quality="trained or distilled: near on most tasks, below on copying and recall unless some attention stays",
    grade="changed",
    cannot=every(transformer, infers, has_mixer(SelfAttention)),
    parameters=(
        Parameter("layers", 0.75, "part of the layers that is replaced", 0.0, 1.0, one_value=True),
        Parameter("expand", 2.0, "inner width over the model's width", 0.25, 8.0, one_value=True),
        Parameter("state", 128.0, "values of the state per channel", 1.0, 1024.0, whole=True, one_value=True),
        Parameter("head_dim", 64.0, "channels of a head", 1.0, 1024.0, whole=True, one_value=True),
    ),
    occupies=("kv form", "layer shapes"),
    training_free=False,
    neutral={"layers": 0.0},
)
def state_space_layers(given: Scenario, values: Values) -> Scenario:
    """A part of the attention layers becomes Mamba-2 blocks: a state of constant size instead of a cache, no pairs.

    state = expand · d · state values per layer and sequence in fp32. At short contexts attention is faster (the crossover is
    where 4L·d operations meet those of the scan and its kernels); at long ones the blocks are, and hold more sequences.

    >>> import ridgepoint as rp
    >>> def gain(prompt: float) -> float:
    ...     task = rp.Prefill(batch=1, prompt=prompt)
    ...     before, after = (rp.estimate("llama-3.2-1b", on="rtx-4090", task=task, apply=a).time_s
    ...                      for a in ([], ["state-space-layers:layers=1"]))
    ...     return before / after
    >>> bool(gain(1024) < 1.0 < gain(65536))
    True
    """
    assert isinstance(given.model, Model)
    hidden, head_dim = given.model.hidden, int(values["head_dim"])
    heads = max(round(hidden * values["expand"] / head_dim), 1)
    groups = 8 if heads % 8 == 0 else 1
    block = Mamba2(heads=heads, head_dim=head_dim, state_dim=int(values["state"]), groups=groups)

    def change(layer: Layer) -> Layer:
        return replace(layer, mixer=block) if isinstance(layer.mixer, SelfAttention) else layer

    return with_model(given, with_stacks(given.model, lambda stack: in_layers(stack, values["layers"], change)))
