"""How a training step is cut over devices: pipeline schedules, sequence and context parallelism, micro-batches."""

from __future__ import annotations

import numpy as np

from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Collective
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Decode
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import attends, key_bytes
from ridgepoint.techniques.conditions import every, softmax_attention, task_is, trains, transformer, wants
from ridgepoint.techniques.products import summed
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_entries, with_ops, with_plan
from ridgepoint.techniques.technique import Condition, Parameter
from ridgepoint.work import Op, Overlap, Repeat, Seq, Work


def _degree(value: Num | None) -> float:
    return 1.0 if value is None else float(np.max(np.asarray(value)))


def _schedule_is(*names: str) -> Condition:
    return wants(lambda g, _: g.plan.schedule in names, "another pipeline schedule is chosen already")


piped: Condition = wants(lambda g, _: _degree(g.plan.pp) > 1.0, "there is one pipeline stage only")
cut: Condition = wants(lambda g, _: _degree(g.plan.tp) > 1.0, "there is no tensor parallelism")


def _chunks(given: Scenario, values: Values) -> str:
    if not isinstance(given.model, Model):
        return f"{given.model.name} has no layers to divide"
    needed = _degree(given.plan.pp) * float(np.max(np.asarray(values["chunks"])))
    depth = given.model.main.depth
    return "" if needed <= depth else f"{needed:g} chunks are more than the {depth} layers"


@technique(
    "pipeline-interleaved",
    title="interleaved pipeline stages",
    mechanism=("pipeline_parallel",),
    papers=("megatron-lm", "frontier-llm-training", "layered-gradient-accumulation"),
    quality="same updates",
    grade="exact",
    cannot=every(trains, transformer, piped, _schedule_is("gpipe", "1f1b"), _chunks),
    parameters=(Parameter("chunks", 2.0, "model chunks per device", 2.0, 64.0, whole=True),),
    occupies=("pipeline schedule",),
)
def pipeline_interleaved(given: Scenario, values: Values) -> Scenario:
    """Each device holds v chunks of layers: the bubble falls from (p − 1)/m to (p − 1)/(v·m) of the step, messages grow v-fold.

    Narayanan et al. 2021. Worth it where micro-batches are few; more activations are alive at once.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=8, seq=2048), rp.Plan(pp=8, dp=1, micro_batch=1)
    ...     return rp.estimate("llama-2-13b", on="8xa100-sxm-80gb", task=task, plan=plan, apply=apply).time_s
    >>> run("pipeline-interleaved:chunks=4") < run("pipeline-interleaved:chunks=2") < run()
    True
    """
    return with_plan(given, schedule="interleaved", chunks=values["chunks"])


@technique(
    "pipeline-split-backward",
    title="backward passes split so that weight gradients fill the bubble",
    mechanism=("pipeline_parallel",),
    papers=("2bp",),
    quality="same updates",
    grade="exact",
    cannot=every(trains, transformer, piped, _schedule_is("gpipe", "1f1b")),
    parameters=(
        Parameter(
            "memory",
            1.0,
            "activations relative to 1F1B: 1 (ZB-H1) or 2 (ZB-H2, no bubble)",
            1.0,
            2.0,
            whole=True,
            one_value=True,
        ),
    ),
    occupies=("pipeline schedule",),
)
def pipeline_split_backward(given: Scenario, values: Values) -> Scenario:
    """Input gradients are computed first and handed on; weight gradients follow when a stage would otherwise wait.

    Qi et al. 2023: with forward, input-gradient and weight-gradient times F, B, W the bubble of (p − 1)(F + B + W) becomes
    (p − 1)(F + B − W) in the memory of 1F1B (ZB-H1), and (p − 1)(F + B − 2W) in twice of it (ZB-H2).

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=8, seq=2048), rp.Plan(pp=8, dp=1, micro_batch=1)
    ...     return rp.estimate("llama-2-13b", on="8xa100-sxm-80gb", task=task, plan=plan, apply=apply).time_s
    >>> run("pipeline-split-backward:memory=2") <= run("pipeline-split-backward") < run()
    True
    """
    return with_plan(given, schedule="zero_bubble" if values["memory"] == 1.0 else "zero_bubble_2")


@technique(
    "vocabulary-parallel",
    title="the vocabulary's layers divided among pipeline stages",
    mechanism=("pipeline_parallel", "load_balancing"),
    papers=("vocabulary-parallelism",),
    quality="same updates",
    grade="exact",
    cannot=every(trains, transformer, piped, wants(lambda g, _: not g.plan.vocab_parallel, "it is on already")),
    occupies=("vocabulary layers",),
)
def vocabulary_parallel(given: Scenario, values: Values) -> Scenario:
    """Each of p stages computes 1/p of the logits: the last is no slower than the others, which exchange sums.

    Yeung et al. 2024. The larger the vocabulary is beside a stage's layers, the more it brings.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=64, seq=2048), rp.Plan(pp=8, dp=1, micro_batch=1)
    ...     return rp.estimate("gemma-2-2b", on="8xh100-sxm", task=task, plan=plan, apply=apply).time_s
    >>> run("vocabulary-parallel") < run()
    True
    """
    return with_plan(given, vocab_parallel=True)


@technique(
    "sequence-parallel",
    title="norms and residuals divided over tensor-parallel ranks",
    mechanism=("sequence_parallel", "tensor_parallel"),
    papers=("parallelization-layouts", "megatron-lm"),
    quality="same updates",
    grade="exact",
    cannot=every(trains, transformer, cut, wants(lambda g, _: g.plan.sequence_parallel is False, "it is on already")),
    occupies=("sequence parallelism",),
)
def sequence_parallel(given: Scenario, values: Values) -> Scenario:
    """Each all-reduce becomes a reduce-scatter and an all-gather, and what lies between them is held by 1/t of the tokens.

    Korthikanti et al. 2022: the same bytes on the links, activations of the layer's ends divided by t.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task, plan = rp.Train(batch=8, seq=4096), rp.Plan(tp=8, sequence_parallel=False)
    ...     return rp.estimate("llama-2-13b", on="8xa100-sxm-80gb", task=task, plan=plan, apply=apply)
    >>> run("sequence-parallel").memory["activations"] < run().memory["activations"]
    True
    """
    return with_plan(given, sequence_parallel=True)


@technique(
    "context-parallel",
    title="one sequence over several devices: ring or all-to-all attention",
    mechanism=("sequence_parallel", "comm_overlap"),
    papers=("tokenring", "tree-attention", "zeppelin"),
    quality="same results",
    grade="exact",
    cannot=every(
        transformer,
        wants(lambda g, _: _degree(g.plan.cp) == 1.0, "the sequence is divided already"),
        wants(
            lambda g, v: (
                g.machine.devices
                >= float(np.max(np.asarray(v["degree"]))) * _degree(g.plan.tp) * _degree(g.plan.pp) * _degree(g.plan.dp)
            ),
            "there are not enough devices",
        ),
        wants(lambda g, _: g.plan.tp is not None or g.task.name == "train", "give --tp, so that devices are left over"),
    ),
    parameters=(
        Parameter("degree", 2.0, "devices that share a sequence", 1.0, 1024.0, whole=True),
        Parameter("exchange", "ring", "how keys and values meet queries", choices=("ring", "all_to_all", "all_gather")),
    ),
    occupies=("context parallelism",),
)
def context_parallel(given: Scenario, values: Values) -> Scenario:
    """Each of c devices holds 1/c of the tokens: keys and values go round a ring beside the attention, or heads are exchanged.

    Liu et al. 2023 (ring), Jacobs et al. 2023 (all-to-all). Activations and cache fall by c; the ring is hidden where a
    block's attention, quadratic in its length, takes longer than its keys and values on the link.

    >>> import ridgepoint as rp
    >>> def kept(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=1, seq=65536), rp.Plan(tp=2, dp=1, recompute="full")
    ...     return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, plan=plan, apply=apply).memory["activations"]
    >>> kept("context-parallel:degree=4") < 0.3 * kept()
    True
    """
    return with_plan(given, cp=values["degree"], context_exchange=values["exchange"])


@technique(
    "keys-around-ring",
    title="decoding with keys and values that go round a ring",
    mechanism=("sequence_parallel",),
    papers=("tree-attention",),
    quality="same results",
    grade="exact",
    cannot=every(
        task_is(Decode),
        softmax_attention,
        wants(lambda g, _: _degree(g.plan.cp) > 1.0, "no sequence is divided (--cp)"),
        wants(lambda g, _: g.plan.context_exchange != "all_to_all", "heads are exchanged, not keys"),
    ),
    occupies=("context exchange of decoding",),
)
def keys_around_ring(given: Scenario, values: Values) -> Scenario:
    """Every step passes each rank's keys and values on to all others, as ring attention does, beside the attention to them.

    Liu et al. 2023 made for training: with one query, (c − 1)/c of the cache crosses links where partial results of a few
    kilobytes, added up in a tree (Shyam et al. 2024, what is modelled otherwise), would do. The slower way, to compare with.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Decode(batch=1, context=131072), rp.Plan(tp=1, dp=1, cp=8)
    ...     return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, plan=plan, apply=apply).time_s
    >>> run("keys-around-ring") > 2.0 * run()
    True
    """

    def rework(built: Built, given: Scenario, values: Values) -> Built:
        ranks, stride = built.layout.cp, built.layout.tp

        def change(op: Op) -> Work:
            if isinstance(op, Collective) and op.label.endswith(".context_exchange"):
                return Seq()
            if not isinstance(op, Attention) or not attends(op):
                return op
            size, label = key_bytes(op, op.kv_len), op.label.removesuffix(".attention") + ".context_exchange"
            hop = Collective(operation="send_recv", bytes=size, ranks=2.0, stride=stride, label=label)
            return Overlap(op, Repeat(ranks - 1.0, hop))

        assert isinstance(given.model, Model)
        buffers = summed(built.phases[-1].work, lambda op: _block(op) / np.asarray(built.layout.pp))
        return with_entries(with_ops(built, change), kv_buffer=plain(2.0 * buffers / given.model.main.depth))

    return edited(given, "keys-around-ring", rework, values)


def _block(op: Op) -> Num:
    """Bytes of the keys and values that an attention reads."""
    return key_bytes(op, op.kv_len) if isinstance(op, Attention) and attends(op) else 0.0


@technique(
    "larger-micro-batch",
    title="more sequences per micro-batch",
    mechanism=("batching_scheduling", "data_parallel"),
    papers=("parallelization-layouts", "academic-pretraining"),
    quality="same updates",
    grade="exact",
    cannot=every(trains, transformer),
    parameters=(Parameter("sequences", 2.0, "sequences per micro-batch", 1.0, 1e4, whole=True),),
    occupies=("micro-batch",),
)
def larger_micro_batch(given: Scenario, values: Values) -> Scenario:
    """Fewer, larger micro-batches: better tiles and fewer launches, against more activations and a larger pipeline bubble.

    The bubble is (p − 1)/m of the step for m micro-batches; Hagemann et al. 2023 find micro-batches of one best with it.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-3.2-1b", on="h100-sxm", task=rp.Train(batch=16, seq=512), apply=apply)
    >>> run("larger-micro-batch:sequences=4").time_s < run().time_s
    True
    """
    return with_plan(given, micro_batch=values["sequences"])
