"""What architectures add to layers: dense connections between all of them, memories of product keys, attention over pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Experts, Feed, FeedForward, Model, SelfAttention
from ridgepoint.numeric import Num
from ridgepoint.ops import Attention, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, infers, softmax_attention, transformer
from ridgepoint.techniques.products import divided, linear_format
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, labelled, with_entries, with_ops
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work


def _dense_feed(given: Scenario, values: Values) -> str:
    assert isinstance(given.model, Model)
    found = any(isinstance(layer.feed, Experts) for layer, _ in given.model.main.layers)
    return f"the feed-forward parts of {given.model.name} are experts" if found else ""


_FIRST = ("layers.attention.qkv", "layers.*.in_projection", "layers.attention.query_down")
"""The first product of a layer: one op of each layer, whose rows are its tokens."""


def _layers(given: Scenario) -> float:
    assert isinstance(given.model, Model)
    return float(given.model.main.depth)


def _more_weights(built: Built, given: Scenario, parameters: Num) -> Built:
    """``built`` whose fullest device holds its part of further weights."""
    layout = built.layout
    size = parameters * FORMATS[linear_format(given)].bytes / (layout.tp * layout.pp)
    return with_entries(built, weights=built.ledger["weights"] + size)


@technique(
    "dense-connections",
    title="every layer reads a mixture of all layers before it, weighted anew for each token",
    mechanism=("efficient_architecture",),
    papers=("muddformer",),
    quality="MUDDFormer: the loss of a Transformer trained with 1.8 to 2.4 times the compute (as reported)",
    grade="changed",
    cannot=every(transformer, infers, softmax_attention),
    parameters=(
        Parameter("streams", 4.0, "mixtures per layer: query, key, value and residual", 1.0, 16.0, whole=True),
    ),
    occupies=("residual",),
    training_free=False,
)
def dense_connections(given: Scenario, values: Values) -> Scenario:
    """Layer i mixes the outputs of the i layers before it into C streams; a small network makes the weights for each token.

    The network has d · K + K² weights with K = C · i, the mixtures cost 2 · C · i · d operations per token and read i outputs:
    operations grow by about half a per cent at 32 layers, but the outputs of all layers are read again in each of them, which
    takes bandwidth in proportion to the depth.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("pythia-2.8b", on="a100-sxm-80gb", task=rp.Prefill(batch=1, prompt=2048), apply=apply)
    >>> more, plain = run("dense-connections"), run()
    >>> round(more.memory["weights"] / plain.memory["weights"] - 1.0, 4), bool(more.time_s > 1.02 * plain.time_s)
    (0.002, True)
    """
    return edited(given, "dense-connections", _dense, values)


def _dense(built: Built, given: Scenario, values: Values) -> Built:
    assert isinstance(given.model, Model)
    depth, dim = _layers(given), float(given.model.hidden)
    streams, mean = values["streams"], (depth + 1.0) / 2.0
    squares = (depth + 1.0) * (2.0 * depth + 1.0) / 6.0

    def change(op: Op) -> Work:
        if not isinstance(op, Gemm) or not labelled(op, *_FIRST):
            return op
        width = FORMATS[op.acts].bytes
        make = replace(op, n=streams * mean, label="layers.connections.weights1")
        again = replace(op, n=streams * mean, k=streams * squares / mean, label="layers.connections.weights2")
        mix = Stream(
            read_bytes=op.m * width * (mean * dim + streams * mean),
            write_bytes=op.m * width * streams * dim,
            flop=2.0 * op.m * streams * mean * dim,
            label="layers.connections.mix",
        )
        return Seq(make, again, mix, op)

    weights = depth * (streams * mean * dim + streams**2 * squares)
    return _more_weights(with_ops(built, change), given, weights)


@technique(
    "product-key-memory",
    title="feed-forward parts of some layers replaced by a large memory with product keys",
    mechanism=("efficient_architecture", "retrieval_index"),
    papers=("product-key-memory",),
    quality="a 12-layer model with one memory beats a 24-layer one (as reported, on 28 billion words)",
    grade="changed",
    cannot=every(transformer, infers, softmax_attention, _dense_feed),
    parameters=(
        Parameter("layers", 1.0, "layers whose feed-forward part is a memory", 0.0, 1000.0, whole=True),
        Parameter("slots", 262144.0, "values of a memory: the square of the keys of a half", 4.0, 1e9),
        Parameter("heads", 4.0, "queries of a token", 1.0, 256.0, whole=True),
        Parameter("picked", 32.0, "values that a query reads", 1.0, 4096.0, whole=True),
        Parameter("key_dim", 512.0, "numbers of a query", 2.0, 65536.0, whole=True),
    ),
    occupies=("feed",),
    training_free=False,
    neutral={"layers": 0.0},
)
def product_key_memory(given: Scenario, values: Values) -> Scenario:
    """A query's halves are compared with √K keys each; the best of the k² pairs name the k values that are read and summed.

    Operations per query: √K · key_dim + k² and 2 · k · d for the sum, where K keys would cost 2 · K · key_dim. Weights: K · d.
    A step reads k · heads rows of the memory at random places.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("gpt2-medium", on="v100-sxm-16gb", task=rp.Prefill(batch=8), apply=apply)
    >>> memory, plain = run("product-key-memory:slots=1048576"), run()
    >>> bool(memory.memory["weights"] > 2.0e9 + plain.memory["weights"]), bool(memory.time_s < 1.2 * plain.time_s)
    (True, True)
    """
    return edited(given, "product-key-memory", _memory, values)


def _memory(built: Built, given: Scenario, values: Values) -> Built:
    assert isinstance(given.model, Model)
    share = np.minimum(values["layers"] / _layers(given), 1.0)
    dim, roots = float(given.model.hidden), np.sqrt(values["slots"])
    heads, picked, key_dim = values["heads"], values["picked"], values["key_dim"]
    removed = 0.0

    def looked_up(op: Gemm) -> Work:
        rows, width = op.m * heads, FORMATS[op.acts].bytes
        label = "layers.memory."
        return Seq(
            replace(op, n=heads * key_dim, k=dim, label=label + "query"),
            replace(op, m=rows, n=roots, k=key_dim / 2.0, batch=2.0, label=label + "keys"),
            Stream(
                read_bytes=4.0 * rows * (2.0 * roots + picked**2),
                write_bytes=8.0 * rows * picked,
                flop=rows * (2.0 * roots + picked**2),
                rows=rows,
                pattern="softmax",
                launches=4.0,
                label=label + "select",
            ),
            Stream(
                read_bytes=rows * picked * dim * width,
                write_bytes=op.m * dim * width,
                flop=2.0 * rows * picked * dim,
                pattern="gather",
                label=label + "values",
            ),
        )

    def change(op: Any) -> Work:
        if not labelled(op, "layers.feed.*"):
            return cast(Work, op)
        if op.label.endswith(".down") and not isinstance(op, Gemm):
            raise RidgepointError(
                "bad_technique",
                "product-key-memory finds no product to replace",
                "apply it before those that rewrite products",
            )
        return divided(_plain(share), looked_up(op) if op.label.endswith(".down") else Seq(), op)

    for layer, count in given.model.main.layers:
        removed = removed + count * _feed_parameters(layer.feed, dim)
    each = values["slots"] * dim + dim * heads * key_dim + 2.0 * heads * roots * key_dim / 2.0
    more = values["layers"] * each - share * removed
    return _more_weights(with_ops(built, change), given, more)


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value


def _feed_parameters(feed: Feed | None, dim: float) -> float:
    return dim * feed.width * (3.0 if feed.gated else 2.0) if isinstance(feed, FeedForward) else 0.0


@technique(
    "pair-attention",
    title="some layers attend to pairs of tokens in two windows",
    mechanism=("efficient_architecture",),
    papers=("2-simplicial-attention",),
    quality="2-simplicial Transformer: a steeper scaling exponent on reasoning and code under a fixed number of tokens",
    grade="changed",
    cannot=every(transformer, infers, softmax_attention),
    parameters=(
        Parameter("every", 4.0, "layers per layer that attends to pairs", 1.0, 1000.0),
        Parameter("first", 512.0, "tokens of the first window", 1.0, 1e6, whole=True),
        Parameter("second", 32.0, "tokens of the second window", 1.0, 1e6, whole=True),
    ),
    occupies=("attention form",),
    training_free=False,
)
def pair_attention(given: Scenario, values: Values) -> Scenario:
    """In one of ``every`` layers a token weighs all pairs of a key of one window and a key of another: 4 · N · w₁ · w₂ · d.

    A query times a key of the second window is a query of its own to the first: the kernel is that of w₂ times as many heads
    on the same keys. Each such layer projects and keeps a second set of keys and values; keys that leave its windows stay in
    the cache only for the other layers.

    >>> import ridgepoint as rp
    >>> def time(prompt: int, *apply: str) -> float:
    ...     return rp.estimate("llama-3.2-1b", on="h100-sxm", task=rp.Prefill(prompt=prompt), apply=apply).time_s
    >>> ratios = [time(n, "pair-attention") / time(n) for n in (4096, 131072)]
    >>> bool(ratios[0] > 1.1), bool(ratios[1] < ratios[0])
    (True, True)
    """
    return edited(given, "pair-attention", _pairs, values)


def _pairs(built: Built, given: Scenario, values: Values) -> Built:
    assert isinstance(given.model, Model)
    share, first, second = 1.0 / values["every"], values["first"], values["second"]
    wider = added = 0.0
    for layer, count in given.model.main.layers:
        mixer = layer.mixer
        if isinstance(mixer, SelfAttention):
            wider = 2.0 * mixer.kv_heads / (mixer.heads + 2.0 * mixer.kv_heads)
            added += count * 2.0 * mixer.kv_heads * mixer.head_dim * given.model.hidden

    def change(op: Op) -> Work:
        if isinstance(op, Attention) and labelled(op, "layers.attention.attention"):
            near = np.minimum(op.kv_len, first)
            keys = np.maximum(near, op.q_len)
            pairs = replace(op, heads=op.heads * np.minimum(second, op.kv_len), kv_len=keys, window=near)
            return divided(_plain(share), pairs, op)
        if isinstance(op, Gemm) and labelled(op, "layers.attention.qkv"):
            return divided(_plain(share), replace(op, n=op.n * (1.0 + wider)), op)
        return op

    found = _more_weights(with_ops(built, change), given, share * added)
    if "kv" not in found.ledger.entries:
        return found
    sizes = given.task.sizes()
    context = sizes.get("context", sizes.get("prompt", 1.0)) + sizes.get("output", 0.0)
    kept = (np.minimum(first, context) + np.minimum(second, context)) / context
    return with_entries(found, kv=found.ledger["kv"] * (1.0 - share + share * kept))
