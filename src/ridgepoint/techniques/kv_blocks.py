"""Layers that work on chunks or blocks of tokens, so that the cache holds fewer entries than there are tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.models.architecture import SelfAttention
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Collective, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import attends, mixers, others_of, steps_of, with_keys
from ridgepoint.techniques.conditions import every, has_mixer, serves, transformer
from ridgepoint.techniques.products import divided, weight_ratios, with_weight_bytes
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, labelled, scaled_entries, with_ops
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Repeat, Seq, Work

_attends = has_mixer(SelfAttention)


@technique(
    "chunked-attention",
    title="recurrence inside chunks, attention between them",
    mechanism=("ssm_rnn", "sparse_attention", "kv_compression"),
    papers=("rat",),
    quality="RAT with chunks of 16: 1 to 4 points below attention; a hybrid with windows comes near",
    grade="changed",
    cannot=every(transformer, serves, _attends),
    parameters=(
        Parameter("chunk", 16.0, "tokens of a chunk", 1.0, 1e6),
        Parameter("layers", 1.0, "part of the layers that are made so", 0.0, 1.0),
    ),
    occupies=("kv form", "kv tokens", "kv window"),
    training_free=False,
)
def chunked_attention(given: Scenario, values: Values) -> Scenario:
    """A gated recurrence sums each chunk's keys and values; queries attend to the L/chunk sums: pairs L²/(2C), cache L/C.

    The recurrence reads and writes keys and values with a gate once per token, and a projection as wide as the keys makes
    the gate. At chunk 1 it is attention with those extras.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(batch=8, context=4096), apply=apply)
    >>> rat = run("chunked-attention:chunk=16")
    >>> bool(rat.time_s < 0.6 * run().time_s), round(run().memory["kv"] / rat.memory["kv"], 6)
    (True, 16.0)
    """
    return edited(given, "chunked-attention", _chunked, values)


def _chunked(built: Built, given: Scenario, values: Values) -> Built:
    chunk, share, cp = values["chunk"], values["layers"], built.layout.cp

    def recurrence(op: Attention) -> Work:
        gates = op.batch * op.q_len * op.kv_heads * op.head_dim
        state = op.batch * op.kv_heads * op.head_dim * 2.0
        size = (3.0 * gates + state) * 2.0
        return Stream(read_bytes=size, write_bytes=size * 2.0 / 3.0, flop=6.0 * gates, special=gates,
                      label=f"{op.label}.recurrence")  # fmt: skip

    def gate(op: Gemm) -> Work:
        mixer = mixers(given)[0]
        keys = mixer.kv_heads / (mixer.heads * (2.0 if mixer.output_gate else 1.0) + 2.0 * mixer.kv_heads)
        return Seq(op, Repeat(share, replace(op, n=op.n * keys, label="layers.attention.chunk_gate")))

    def change(op: Op, step: bool) -> Work:
        if isinstance(op, Attention) and attends(op):
            if step:
                fewer = with_keys(op, lambda length: np.ceil(length / chunk), cp)
            else:
                mean = np.maximum((op.kv_len - (op.q_len - 1.0) / 2.0) / chunk, 1.0)
                fewer = replace(op, kv_len=plain(np.minimum(mean, op.kv_len)), causal=False)
            return divided(share, Seq(recurrence(op), fewer), op)
        if isinstance(op, Gemm) and labelled(op, "layers.attention.qkv"):
            return gate(op)
        return op

    changed = with_ops(built, lambda op: change(op, True), *steps_of(built)) if steps_of(built) else built
    if others_of(built):
        changed = with_ops(changed, lambda op: change(op, False), *others_of(built))
    weights = weight_ratios(built, given, lambda op: change(op, True))
    return scaled_entries(with_weight_bytes(changed, given, weights), 1.0 - share + share / chunk, "kv")


@technique(
    "block-transformer",
    title="lower layers over blocks of tokens, upper layers inside a block",
    mechanism=("efficient_architecture", "kv_compression"),
    papers=("block-transformer",),
    quality="equal perplexity needs two to three times the parameters (as reported at 10–20 times the throughput)",
    grade="changed",
    cannot=every(transformer, serves, _attends),
    parameters=(
        Parameter("block", 4.0, "tokens of a block", 1.0, 1024.0),
        Parameter("below", 0.5, "part of the layers that work on blocks", 0.0, 1.0),
    ),
    occupies=("kv form", "kv tokens", "kv window"),
    training_free=False,
)
def block_transformer(given: Scenario, values: Values) -> Scenario:
    """Lower layers run once per block of B tokens over L/B keys, upper layers for every token over at most B keys.

    A prefill runs the lower layers over L/B blocks and leaves the upper ones out but for the last block. Cache: L/B tokens in
    the lower layers, B in the upper. Weights of the lower layers are read once in B steps.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(batch=16, context=4096), apply=apply)
    >>> block = run("block-transformer:block=4")
    >>> bool(block.time_s < 0.6 * run().time_s), round(run().memory["kv"] / block.memory["kv"], 1)
    (True, 8.0)
    """
    return edited(given, "block-transformer", _blocked, values)


def _fewer_rows(op: Op, part: Num) -> Op:
    """A layer's op for a part of the tokens."""
    if isinstance(op, Gemm):
        return replace(op, m=op.m * part)
    if isinstance(op, Attention):
        return replace(op, q_len=op.q_len * part, kv_len=op.kv_len * part)
    if isinstance(op, Stream):
        return replace(
            op, read_bytes=op.read_bytes * part, write_bytes=op.write_bytes * part, flop=op.flop * part,
            special=op.special * part, rows=op.rows * part,
        )  # fmt: skip
    return replace(op, bytes=op.bytes * part) if isinstance(op, Collective) else op


def _blocked(built: Built, given: Scenario, values: Values) -> Built:
    block, below, cp = values["block"], values["below"], built.layout.cp
    prompt = given.task.sizes().get("prompt", 1.0)

    def inside(op: Op) -> bool:
        return op.label.startswith("layers.")

    def step(op: Op) -> Work:
        if not inside(op):
            return op
        lower: Op = with_keys(op, lambda n: np.ceil(n / block), cp) if isinstance(op, Attention) else op
        upper: Op = with_keys(op, lambda n: np.minimum(n, block), cp) if isinstance(op, Attention) else op
        return Seq(Repeat(below / block, lower), Repeat(1.0 - below, upper))

    def first(op: Op) -> Work:
        if not inside(op):
            return op
        last = np.minimum(block / prompt, 1.0)
        return Seq(Repeat(below, _fewer_rows(op, 1.0 / block)), Repeat(1.0 - below, _fewer_rows(op, last)))

    changed = with_ops(built, step, *steps_of(built)) if steps_of(built) else built
    if others_of(built):
        changed = with_ops(changed, first, *others_of(built))
    length = given.task.sizes().get("context", prompt + given.task.sizes().get("output", 1.0) - 1.0)
    return scaled_entries(changed, below / block + (1.0 - below) * np.minimum(block / length, 1.0), "kv")
