"""Nonlinear recurrences evaluated over the whole sequence at once, or step by step as a library's loop does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Gemm, Scan, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, infers
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, only, with_entries, with_ops, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Repeat, Seq, Work, ops

_LAUNCHES_PER_GATE = 3.0
"""Kernels of a step that a library's loop starts per gate, beside the product: nonlinearity, product with a state, sum."""


def _steps_serially(op: Op) -> bool:
    return isinstance(op, Scan) and op.variant == "rnn"


def _has_recurrence(given: Scenario, values: Values) -> str:
    found = any(_steps_serially(op) for phase in given.build_whole().phases for op in ops(phase.work))
    return "" if found else f"{given.model.name} has no nonlinear recurrence"


def levels(steps: Num) -> Num:
    """Levels of a parallel scan up and down a tree of so many steps: 2·⌈log2 T⌉.

    >>> levels(1024.0), levels(1.0)
    (20.0, 0.0)
    """
    return plain(2.0 * np.ceil(np.log2(np.maximum(steps, 1.0))))


@technique(
    "parallel-recurrence",
    title="nonlinear recurrences solved over the whole sequence at once",
    mechanism=("parallel_scan", "ssm_rnn", "parallel_decoding"),
    papers=("deer", "pararnn", "flashrnn"),
    quality="the same results up to the iterations' tolerance; a diagonal Jacobian wants cells that are made for it",
    grade="near",
    cannot=every(infers, _has_recurrence),
    parameters=(
        Parameter("how", "newton", "Newton's iterations; stepwise is a library's loop, for comparison",
                  choices=("newton", "stepwise")),
        Parameter("iterations", 3.0, "Newton iterations until the states are found", 1.0, 1000.0),
        Parameter("jacobian", "diagonal", "a step's derivative by the state before: all of it, or a diagonal per gate",
                  choices=("diagonal", "dense")),
    ),
    occupies=("recurrence",),
)  # fmt: skip
def parallel_recurrence(given: Scenario, values: Values) -> Scenario:
    """h_t = f(h_(t−1), x_t) for all t at once: K iterations of f, its Jacobian, and a linear recurrence solved by a scan.

    T dependent steps become K · 2·log2(T) levels. An iteration evaluates all steps as one product, 2·N·P² operations each;
    the scan combines P numbers a step where the Jacobian is diagonal (ParaRNN) and multiplies P × P matrices where it is not
    (DEER: 4·P³ a step, P² values kept), so that wide dense cells lose. Without it the usual estimate is one kernel that keeps
    its weights on chip (cuDNN, FlashRNN); ``stepwise`` starts a product and three kernels per gate for every step.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("lstm-ptb-medium", on="h100-sxm", task=rp.Forward(batch=1), apply=apply).time_s
    >>> time("parallel-recurrence") < time() < time("parallel-recurrence:how=stepwise")
    True
    """
    return edited(given, "parallel-recurrence", _evaluated, values)


def _evaluated(built: Built, given: Scenario, values: Values) -> Built:
    stepwise = values["how"] == "stepwise"

    def change(op: Scan) -> Work:
        if not _steps_serially(op):
            return op
        return _stepwise(op) if stepwise else Repeat(values["iterations"], _iteration(op, values["jacobian"]))

    changed = with_ops(built, only(Scan, change))
    if stepwise:
        # Every operator of the loop is counted: none of them stands for several that an interpreter goes through.
        return with_phases(changed, lambda phase: replace(phase, eager=False))
    return _with_jacobians(changed, built, values["jacobian"])


def _product(op: Scan, rows: Num) -> Gemm:
    """The recurrent product of all gates for so many rows."""
    return Gemm(m=rows, n=op.state_dim * op.head_dim, k=op.head_dim, batch=op.heads, acts=op.acts, weights=op.acts,
                out=op.acts, label=f"{op.label}.recurrent")  # fmt: skip


def _gates(op: Scan, rows: Num, launches: Num) -> Stream:
    """Everything pointwise: products and projected inputs of N gates are read, a state is written."""
    values, width = rows * op.heads * op.head_dim, FORMATS[op.acts].bytes
    return Stream(
        read_bytes=2.0 * op.state_dim * values * width,
        write_bytes=values * width,
        flop=8.0 * op.state_dim * values,
        special=op.state_dim * values,
        launches=launches,
        label=f"{op.label}.gates",
    )


def _stepwise(op: Scan) -> Work:
    return Repeat(op.seq, Seq(_product(op, op.batch), _gates(op, op.batch, _LAUNCHES_PER_GATE * op.state_dim)))


def _iteration(op: Scan, jacobian: str) -> Work:
    rows = op.batch * op.seq
    evaluate = (_product(op, rows), _gates(op, rows, 1.0))
    if jacobian == "diagonal":
        channels = op.heads * op.head_dim
        solve = replace(op, variant="mamba1", heads=channels, head_dim=1.0, state_dim=1.0, label=f"{op.label}.solve")
        return Seq(*evaluate, solve)
    depth = levels(op.seq)
    formed = rows * op.heads * op.head_dim**2
    form = Stream(read_bytes=0.0, write_bytes=formed * FORMATS[op.acts].bytes, flop=2.0 * op.state_dim * formed,
                  label=f"{op.label}.jacobians")  # fmt: skip
    pairs = 2.0 * rows * op.heads / np.maximum(depth, 1.0)
    combine = Gemm(m=op.head_dim, n=op.head_dim, k=op.head_dim, batch=plain(pairs), acts=op.acts, weights=op.acts,
                   out=op.acts, label=f"{op.label}.solve")  # fmt: skip
    return Seq(*evaluate, form, Repeat(depth, combine))


def _with_jacobians(changed: Built, built: Built, jacobian: str) -> Built:
    """The ledger with the Jacobians and states of all steps of the largest layer."""

    def held(op: Op) -> Num:
        if not isinstance(op, Scan) or op.variant != "rnn":
            return 0.0
        values = op.heads * op.head_dim * (op.head_dim if jacobian == "dense" else 1.0)
        return op.batch * op.seq * (values + op.heads * op.head_dim) * FORMATS[op.acts].bytes

    sizes = [held(op) for phase in built.phases for op in ops(phase.work)]
    extra = np.maximum.reduce(np.broadcast_arrays(*sizes))
    return with_entries(changed, activations=plain(built.ledger["activations"] + extra))
