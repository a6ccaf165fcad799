"""The same attention by better kernels: fused with its softmax, in 8 bits, divided evenly."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.formats import FORMATS
from ridgepoint.ops import Attention, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Train
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import attends, others_of, steps_of, with_attention
from ridgepoint.techniques.conditions import every, generates, infers, softmax_attention, transformer, wants
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_plan
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq, Work, ops


def _separate(given: Scenario, values: Values) -> str:
    return f"attention of {given.model.name} is one fused kernel already" if given.plan.fused_attention else ""


_fused = wants(
    lambda given, _: given.plan.fused_attention, "attention is not one fused kernel; apply fused-attention first"
)


@technique(
    "fused-attention",
    title="attention as one kernel that keeps its scores on chip",
    mechanism=("exact_attention_kernel", "kernel_fusion"),
    papers=(
        "flashattention", "flashattention-2", "flashattention-3", "attention-io-complexity", "fusemax",
        "multimodal-gen-characterization", "thunderkittens", "hipkittens", "sdpa-streaming-dataflow",
    ),
    quality="exact",
    grade="exact",
    cannot=_separate,
    occupies=("attention kernel",),
)  # fmt: skip
def fused_attention(given: Scenario, values: Values) -> Scenario:
    """Scores stay on chip in tiles and softmax is done as they come: L² scores are neither written nor read.

    Main memory moves 4·L·d values per head instead of these and about 4·L² (two writes, two reads; masks add more); causal
    kernels leave out the masked half, which separate products compute. In training the scores are computed again in the
    backward pass instead of kept: activations fall by 2·heads·L² values a layer. The gain grows with L.

    >>> import ridgepoint as rp
    >>> def time(prompt: float, *apply: str) -> float:
    ...     task, plan = rp.Prefill(batch=4, prompt=prompt), rp.Plan(fused_attention=False)
    ...     return rp.estimate("gpt2-xl", on="a100-sxm-80gb", task=task, plan=plan, apply=apply).time_s
    >>> bool(1.0 < time(256) / time(256, "fused-attention") < time(1024) / time(1024, "fused-attention"))
    True
    """
    return with_plan(given, fused_attention=True)


def _narrow_products(given: Scenario, values: Values) -> str:
    note = given.machine.arithmetic(values["format"]).note
    if note:
        return note
    if isinstance(given.task, Train):
        return "it is for inference"
    bits = FORMATS[values["format"]].bits
    built = given.build()
    wide = any(
        isinstance(op, Attention) and attends(op) and FORMATS[op.acts].bits > bits
        for phase in built.phases
        if phase.name in others_of(built)
        for op in ops(phase.work)
    )
    return "" if wide else f"no attention over new tokens runs in more than {bits:g} bits"


@technique(
    "eight-bit-attention",
    title="attention's products in 8 bits",
    mechanism=("exact_attention_kernel", "activation_quantization"),
    papers=("flashattention-3",),
    quality="block scales and rotations keep the error 2.6 times below plain FP8 (FlashAttention-3)",
    grade="near",
    cannot=every(infers, _fused, _narrow_products),
    parameters=(
        Parameter("format", "fp8", "what queries, keys and values are rounded to", choices=("fp8", "int8")),
        Parameter("rotation", True, "queries and keys are rotated before, in the same pass"),
    ),
    occupies=("attention format",),
)
def eight_bit_attention(given: Scenario, values: Values) -> Scenario:
    """Queries, keys and values of new tokens are rounded in blocks, both products of attention run in 8 bits.

    A pass reads the projections and writes them narrow (with a rotation: log2(head_dim) additions a value); the softmax in
    between keeps its rate, so that the gain stays below 2. Prefill, encoders and diffusion; a decode step's attention is bound
    by the cache (kv-quantization).

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Prefill(batch=1, prompt=131072)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).time_s
    >>> bool(1.1 < time() / time("eight-bit-attention") < 2.0)
    True
    """
    return edited(given, "eight-bit-attention", _in_eight_bits, values)


def _in_eight_bits(built: Built, given: Scenario, values: Values) -> Built:
    narrow = FORMATS[values["format"]]

    def change(op: Attention) -> Work:
        if FORMATS[op.acts].bits <= narrow.bits:
            return op
        new = op.batch * op.q_len * (op.heads + 2.0 * op.kv_heads) * op.head_dim
        cast = Stream(
            read_bytes=new * FORMATS[op.acts].bytes,
            write_bytes=new * narrow.bytes,
            flop=new * (4.0 + (7.0 if values["rotation"] else 0.0)),
            pattern="quantize",
            label=f"{op.label}.quantize_heads",
        )
        return Seq(cast, replace(op, acts=narrow.name, kv=narrow.name))

    return with_attention(built, change, others_of(built))


@technique(
    "even-context-split",
    title="decode attention divided evenly over all multiprocessors",
    mechanism=("exact_attention_kernel",),
    papers=("lean-attention",),
    quality="exact",
    grade="exact",
    cannot=every(transformer, generates, softmax_attention, _fused),
    parameters=(
        Parameter("how", "even", "even shares of all keys; none is FlashAttention-2's kernel, for comparison",
                  choices=("even", "none")),
    ),
    occupies=("attention split",),
)  # fmt: skip
def even_context_split(given: Scenario, values: Values) -> Scenario:
    """All keys of all heads form one line that is cut into equal shares, one per multiprocessor (stream-K with online softmax).

    Kernels that give each multiprocessor whole heads, or whole parts of them (Flash-Decoding, the usual estimate here), leave
    ⌈units/SMs⌉·SMs − units of them idle in the last wave: the gain is that rest, most where units are a little more than
    the multiprocessors or, against unsplit kernels, far fewer. Partial results are added afterwards.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Decode(batch=4, context=65536)
    ...     return rp.estimate("opt-30b", on="4xa100-sxm-80gb", task=task, plan=rp.Plan(tp=1), apply=apply).time_s
    >>> bool(time("even-context-split") < time() <= time("even-context-split:how=none"))
    True
    """
    return edited(given, "even-context-split", _split, values)


def _split(built: Built, given: Scenario, values: Values) -> Built:
    return with_attention(built, lambda op: replace(op, split=values["how"]), steps_of(built))
