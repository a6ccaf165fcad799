"""Models whose cache is smaller by construction: fewer key–value heads, latents, shared layers, windows, chunks, blocks."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.architecture import LatentAttention, Layer, Model, SelfAttention
from ridgepoint.ops import Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import mixers
from ridgepoint.techniques.conditions import every, has_mixer, infers, transformer
from ridgepoint.techniques.products import divided, weight_ratios, with_weight_bytes
from ridgepoint.techniques.pruning import in_layers, with_model, with_stacks
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, labelled, scaled_entries, with_layers, with_ops
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Work

_attends = has_mixer(SelfAttention)


def _more_heads(given: Scenario, values: Values) -> str:
    most = max(mixer.kv_heads for mixer in mixers(given))
    bad = [mixer.heads for mixer in mixers(given) if mixer.heads % values["kv_heads"]]
    if bad:
        return f"{values['kv_heads']:g} key–value heads do not divide {bad[0]} heads"
    return "" if values["kv_heads"] < most else f"{given.model.name} has {most} key–value heads"


@technique(
    "fewer-kv-heads",
    title="grouped or single keys and values for many heads",
    mechanism=("kv_compression", "efficient_architecture"),
    papers=("efficientllm", "puzzle", "mla-moe-bottleneck", "kv-cache-management-survey"),
    quality="GQA with 8 groups comes near full heads after 5 % of the training; one group costs more",
    grade="changed",
    cannot=every(transformer, infers, _attends, _more_heads),
    parameters=(Parameter("kv_heads", 4.0, "key–value heads", 1.0, 1024.0, whole=True, one_value=True),),
    occupies=("kv form",),
    training_free=False,
)
def fewer_kv_heads(given: Scenario, values: Values) -> Scenario:
    """All heads share ``kv_heads`` keys and values: cache, its reads and the key–value projections fall in proportion.

    With more tensor-parallel ranks than key–value heads every rank keeps a copy of one: nothing more is saved there.

    >>> import ridgepoint as rp
    >>> def kv(*apply: str) -> float:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task="decode", apply=apply).memory["kv"]
    >>> kv() / kv("fewer-kv-heads:kv_heads=8")
    4.0
    """
    assert isinstance(given.model, Model)

    def change(layer: Layer) -> Layer:
        mixer = layer.mixer
        if not isinstance(mixer, SelfAttention):
            return layer
        return replace(layer, mixer=replace(mixer, kv_heads=min(int(values["kv_heads"]), mixer.kv_heads)))

    return with_model(given, with_layers(given.model, change))


@technique(
    "latent-kv",
    title="keys and values cached as one latent (MLA)",
    mechanism=("kv_compression", "low_rank_attention"),
    papers=("transmla", "mla-moe-bottleneck", "deepseek-v3-insights", "efficientllm", "long-context-peak-analysis"),
    quality="TransMLA: a latent as large as the GQA cache can express it exactly; smaller ones need fine-tuning",
    grade="near",
    cannot=every(transformer, infers, _attends),
    parameters=(
        Parameter("rank", 0.0, "values of the latent per token (0: as large as the cache is now)", 0.0, 65536.0, whole=True,
                  one_value=True),
        Parameter("rope_dim", 64.0, "rotary key values that are cached beside it", 0.0, 1024.0, whole=True, one_value=True),
    ),
    occupies=("kv form",),
    training_free=False,
)  # fmt: skip
def latent_kv(given: Scenario, values: Values) -> Scenario:
    """Each layer caches ``rank`` + ``rope_dim`` values per token for all heads; a step multiplies them by absorbed matrices.

    bytes per token and layer = (rank + rope_dim) · width; a decode step does about 2 · heads operations per byte that it
    reads, so that long contexts come near the arithmetic roof where grouped heads are far below it. Every tensor-parallel rank
    keeps the whole latent. A prefill expands keys and values for all heads.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(batch=4, context=16384), apply=apply)
    >>> run().memory["kv"] / run("latent-kv:rank=512,rope_dim=64").memory["kv"] > 14
    True
    """
    assert isinstance(given.model, Model)

    def change(layer: Layer) -> Layer:
        mixer = layer.mixer
        if not isinstance(mixer, SelfAttention):
            return layer
        rotary = int(min(values["rope_dim"], mixer.head_dim))
        rank = int(values["rank"]) or max(2 * mixer.kv_heads * mixer.head_dim - rotary, 1)
        latent = LatentAttention(
            heads=mixer.heads, q_rank=0, kv_rank=rank, nope_dim=mixer.head_dim - rotary or mixer.head_dim, rope_dim=rotary,
            value_dim=mixer.head_dim, bias=mixer.bias,
        )  # fmt: skip
        return replace(layer, mixer=latent)

    return with_model(given, with_layers(given.model, change))


@technique(
    "sliding-window",
    title="a window and sinks in a part of the layers",
    mechanism=("sparse_attention", "kv_eviction"),
    papers=("masformer", "lizard", "based", "kv-cache-management-survey"),
    quality="windows in all layers lose what lies outside; full attention in a few layers keeps most (MASFormer)",
    grade="changed",
    cannot=every(transformer, infers, _attends),
    parameters=(
        Parameter("layers", 0.75, "part of the layers that get a window", 0.0, 1.0, one_value=True),
        Parameter("window", 1024.0, "last tokens that a token sees", 1.0, 1e9, whole=True, one_value=True),
        Parameter("sinks", 4.0, "first tokens that it sees besides", 0.0, 1e6, whole=True, one_value=True),
    ),
    occupies=("kv window",),
    neutral={"layers": 0.0},
)
def sliding_window(given: Scenario, values: Values) -> Scenario:
    """In a part of the layers a token attends to the last ``window`` tokens and the sinks; those layers cache no more.

    pairs = l·L²/2 + (layers − l)·L·w, cache likewise. Prefill, decode and memory gain beyond the window; nothing within it.

    >>> import ridgepoint as rp
    >>> def kv(context: float, *apply: str) -> float:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(context=context), apply=apply).memory["kv"]
    >>> round(kv(8224, "sliding-window:window=1024") / kv(8224), 3), kv(1024, "sliding-window") / kv(1024)
    (0.344, 1.0)
    """
    assert isinstance(given.model, Model)
    near = int(values["window"] + values["sinks"])

    def change(layer: Layer) -> Layer:
        mixer = layer.mixer
        if not isinstance(mixer, SelfAttention):
            return layer
        return replace(layer, mixer=replace(mixer, window=min(near, mixer.window) if mixer.window else near))

    return replace(given, model=with_stacks(given.model, lambda stack: in_layers(stack, values["layers"], change)))


def _one_shape(given: Scenario, values: Values) -> str:
    shapes = {(mixer.heads, mixer.kv_heads, mixer.output_gate) for mixer in mixers(given)}
    return "" if len(shapes) == 1 else f"the layers of {given.model.name} have heads of several kinds"


@technique(
    "cross-layer-kv-sharing",
    title="neighbouring layers share keys and values",
    mechanism=("kv_compression",),
    papers=("mixture-of-recursions", "kv-cache-management-survey", "long-context-peak-analysis"),
    quality="pairs cost little when trained in, larger groups more",
    grade="changed",
    cannot=every(transformer, infers, _attends, _one_shape),
    parameters=(Parameter("group", 2.0, "layers that use the same keys and values", 1.0, 1000.0),),
    occupies=("kv layers", "kv form"),
    training_free=False,
    neutral={"group": 1.0},
)
def cross_layer_kv_sharing(given: Scenario, values: Values) -> Scenario:
    """One layer of each group projects and caches keys and values; the others project queries only and read its cache.

    cache = 1/group, key–value projections 1/group; what attention reads in a step stays, for every layer still reads: more
    sequences fit, a step of one of them hardly gets shorter.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(batch=8, context=4096), apply=apply)
    >>> shared = run("cross-layer-kv-sharing:group=2")
    >>> shared.memory["kv"] / run().memory["kv"], bool(0.9 < shared.time_s / run().time_s < 1.0)
    (0.5, True)
    """
    return edited(given, "cross-layer-kv-sharing", _one_owner, values)


def _one_owner(built: Built, given: Scenario, values: Values) -> Built:
    mixer, owners = mixers(given)[0], 1.0 / values["group"]
    queries = mixer.heads * (2.0 if mixer.output_gate else 1.0)
    projected = queries / (queries + 2.0 * mixer.kv_heads)
    passed = mixer.heads / (mixer.heads + 3.0 * mixer.kv_heads)

    def change(op: Op) -> Work:
        if isinstance(op, Gemm) and labelled(op, "layers.attention.qkv", "encoder.layers.attention.qkv"):
            return divided(owners, op, replace(op, n=op.n * projected))
        if isinstance(op, Stream) and labelled(op, "layers.attention.rotary_and_cache"):
            fewer = replace(op, read_bytes=op.read_bytes * passed, write_bytes=op.write_bytes * passed)
            return divided(owners, op, fewer)
        return op

    kept = weight_ratios(built, given, change)
    return scaled_entries(with_weight_bytes(with_ops(built, change), given, kept), owners, "kv")
