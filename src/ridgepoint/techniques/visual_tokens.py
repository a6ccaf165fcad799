"""Fewer visual tokens in a vision-language model: pruned by saliency, or compressed into a few learned ones.

The prompt is taken as ``visual`` image tokens and text; the vision tower is not part of a language model's work.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.numeric import Num
from ridgepoint.ops import Attention, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Decode, Generate, Prefill, Train
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every, serves, task_is, transformer
from ridgepoint.techniques.reductions import (
    cached_tokens,
    fewer_keys,
    fewer_queries,
    fewer_tokens,
    layer_rule,
    parted,
    prompt_tokens,
)
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, scaled_entries, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work

_VISUAL = Parameter("visual", 576.0, "visual tokens of a prompt (576: one image of LLaVA-1.5)", 1.0, 1e8, whole=True)
_TOWER = "the vision tower is not part of the work; every prompt has the same number of visual tokens"


def _enough(given: Scenario, values: Values) -> str:
    have = prompt_tokens(given)
    short = bool(np.any(np.asarray(values["visual"]) > np.asarray(have)))
    return f"a prompt of {np.min(have):g} tokens cannot hold {np.max(values['visual']):g} visual ones" if short else ""


@technique(
    "visual-token-pruning",
    title="visual tokens pruned before or inside the language model",
    mechanism=("token_reduction",),
    papers=(
        "vtc-cls", "globalcom2", "showui", "zipvl", "efficient-vla", "iva-long-video", "hires-llava", "apollo-video-lmm",
    ),
    quality="depends on task and keep; ZipVL reports −0.2 % on Video-MME, other papers small losses",
    grade="near",
    cannot=every(transformer, task_is(Prefill, Decode, Generate, Train), _enough),
    parameters=(
        _VISUAL,
        Parameter("keep", 0.25, "part of the visual tokens that stay", 0.0, 1.0),
        Parameter("after", 0.0, "part of the layers that still see all tokens", 0.0, 1.0),
    ),
    occupies=("prompt tokens",),
    presumes="part of the prompt are visual tokens",
)  # fmt: skip
def visual_token_pruning(given: Scenario, values: Values) -> Scenario:
    """Of a prompt of T tokens with ``visual`` image tokens, T' = T − visual · (1 − keep) pass the layers behind ``after``.

    Rows of products scale with T'/T, attention with its square; keys and values of dropped tokens are never written, so
    decode steps read fewer. Choosing costs a pass over the scores and a gather of what stays; choosing inside the model
    needs scores of every head, which fused attention does not hand out: they are computed again. In training (ShowUI)
    the same layers skip the same tokens, forward and backward.

    >>> import ridgepoint as rp
    >>> def ttft(*apply: str) -> float:
    ...     task = rp.Prefill(batch=8, prompt=640)
    ...     return rp.estimate("llava-1.5-7b", on="a100-sxm-80gb", task=task, apply=apply).ttft_s
    >>> early, late = (ttft(f"visual-token-pruning:keep=0.1,after={x}") for x in (0, 0.5))
    >>> early < late < ttft()
    True
    """
    return edited(given, "visual-token-pruning", _pruned, values)


def _pruned(built: Built, given: Scenario, values: Values) -> Built:
    visual, keep, after = values["visual"], values["keep"], values["after"]
    dropped = visual * (1.0 - keep)
    share = 1.0 - dropped / prompt_tokens(given)

    def rows(op: Op) -> Work:
        return parted(after, op, fewer_tokens(op, share))

    def keys(op: Op) -> Work:
        if not isinstance(op, Attention):
            return op
        return parted(after, op, fewer_keys(op, lambda length: length - dropped / built.layout.cp))

    def change(phase: Phase) -> Phase:
        if phase.role == "next":
            return replace(phase, work=layer_rule(given, keys)(phase.work))
        thin = layer_rule(given, rows)(phase.work)
        return replace(phase, work=Seq(_selection(built, given, values, keep), thin))

    mean = after + (1.0 - after) * (1.0 - dropped / cached_tokens(given))
    return assumed(scaled_entries(with_phases(built, change), mean, "kv"), _TOWER)


def _selection(built: Built, given: Scenario, values: Values, keep: Num) -> Work:
    """One score per visual token and head read and compared, what stays gathered."""
    model = given.model
    hidden = getattr(model, "hidden", 0)
    heads = 1.0 + np.where(np.asarray(values["after"]) > 0.0, hidden / 128.0, 0.0)
    count = per_replica(given.task.sizes()["batch"], built.layout) * values["visual"]
    return Stream(
        read_bytes=count * (4.0 * heads + keep * hidden * 2.0),
        write_bytes=count * keep * hidden * 2.0,
        flop=8.0 * count * heads,
        pattern="gather",
        launches=3.0,
        label="visual.select",
    )


@technique(
    "visual-token-compression",
    title="an image's tokens compressed into a few, whose keys and values are kept",
    mechanism=("token_reduction", "kv_compression", "distillation"),
    papers=("voco-llama", "hires-llava", "cramming-1568-tokens"),
    quality="VoCo-LLaMA: minimal loss at 576 to 1 on its own tasks; encoders end near 10 to 1 on text (Cramming)",
    grade="near",
    cannot=every(transformer, serves, _enough),
    parameters=(
        _VISUAL,
        Parameter("into", 1.0, "tokens that stand for them", 1.0, 1e8, whole=True),
        Parameter("cached", True, "the compressed keys and values are there already; otherwise each prompt compresses first"),
    ),
    occupies=("prompt tokens",),
    presumes="part of the prompt are visual tokens",
    training_free=False,
)  # fmt: skip
def visual_token_compression(given: Scenario, values: Values) -> Scenario:
    """``visual`` tokens become ``into``: the model reads its text with the compressed tokens' keys and values before it.

    With a cache the prefill has T − visual rows over T − visual + into keys; without one, a pass over visual + into tokens
    comes first. FLOPs fall with (T − visual + into)/T; time falls less, because weights are read all the same.

    >>> import ridgepoint as rp
    >>> def cost(*apply: str) -> tuple[float, float]:
    ...     est = rp.estimate("llava-1.5-7b", on="a100-sxm-80gb", task=rp.Prefill(batch=1, prompt=608), apply=apply)
    ...     return est.ttft_s, est.bound_s
    >>> full, few = cost(), cost("visual-token-compression")
    >>> few[0] < full[0] < cost("visual-token-compression:cached=false")[0]
    True
    """
    return edited(given, "visual-token-compression", _compressed, values)


def _compressed(built: Built, given: Scenario, values: Values) -> Built:
    visual, into = values["visual"], np.minimum(values["into"], values["visual"])
    whole = prompt_tokens(given)
    text = np.maximum(whole - visual, 1.0)
    saved = (visual - into) / built.layout.cp

    def rows(op: Op) -> Work:
        fewer = fewer_queries(op, text / whole)
        return fewer_keys(fewer, lambda length: length * (text + into) / whole)

    def change(phase: Phase) -> tuple[Phase, ...]:
        if phase.role == "next":
            rule = layer_rule(given, lambda op: fewer_keys(op, lambda length: length - saved))
            return (replace(phase, work=rule(phase.work)),)
        main = replace(phase, work=layer_rule(given, rows)(phase.work))
        if values["cached"]:
            return (main,)
        ahead = layer_rule(given, lambda op: fewer_tokens(op, (visual + into) / whole))(phase.work)
        return replace(phase, name="compress", work=ahead), main

    kept = 1.0 - (visual - into) / cached_tokens(given)
    return assumed(scaled_entries(with_phases(built, change), kept, "kv"), _TOWER)
