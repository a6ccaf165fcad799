"""In which order techniques act, however they are written: the model first, then what passes through it, then where it runs.

What a technique occupies says when it acts. Products must be narrow before a kernel multiplies them from tables; keys must be
chosen before they are kept in host memory; a draft is verified by the step as everything else has made it. Without an order,
``a,b`` and ``b,a`` would be two answers, one of them wrong.

>>> from ridgepoint.techniques.registry import find_technique
>>> [stage(find_technique(name)) for name in ("low-rank-weights", "kv-offload", "speculative-decoding")]
[3, 9, 10]
"""

from __future__ import annotations

from ridgepoint.techniques.technique import Technique

STAGES: tuple[frozenset[str], ...] = (
    # whose model it is
    frozenset({"model"}),
    # the shapes of its layers
    frozenset({"depth", "experts per token", "kv form", "kv layers", "kv window", "layer shapes", "vocabulary"}),
    # what else its layers are
    frozenset(
        {"attention", "attention form", "feed", "feed forward", "layouts", "normalisations", "operators", "recurrence"}
        | {"residual", "vectors"}
    ),
    # the form of their matrices
    frozenset({"channels", "feed-forward form", "matrix form", "weight sharing", "weights", "what is trained"}),
    # what passes through them
    frozenset({"batch", "input size", "output length", "prompt tokens", "samples", "tokens"}),
    # what attention reads of it
    frozenset(
        {"attention format", "attention split", "context exchange of decoding", "context parallelism", "kv heads"}
        | {"kv reads", "kv tokens", "prefill pairs"}
    ),
    # how weights, inputs, caches and states are written
    frozenset(
        {"expert balance", "expert exchange", "expert layout", "expert rows", "gradient format", "input format"}
        | {"kv format", "neurons", "optimizer place", "optimizer states", "weight coding", "weight format"}
    ),
    # in which passes
    frozenset({"logits", "schedule"}),
    # by which kernels, and when
    frozenset(
        {
            "accumulators",
            "activations",
            "arithmetic energy",
            "attention kernel",
            "elementwise kernels",
            "expert overlap",
        }
        | {"fft", "gradient exchange", "gradient overlap", "kernels", "launches", "micro-batch"}
        | {"optimizer update", "parameter overlap", "pipeline schedule", "product kernel", "recomputation"}
        | {"sequence parallelism", "tensor-parallel overlap", "vocabulary layers", "zero stage"}
    ),
    # where things lie
    frozenset({"activations place", "expert place", "kv place", "place", "weights place"}),
    # how often a step happens, and whose
    frozenset({"decode step", "guidance", "layout", "model choice", "step contents", "steps"}),
    # the run as a whole
    frozenset({"checkpoints", "input", "power limit", "price", "stragglers", "weights of tasks"}),
)
"""What there is to occupy, stage by stage."""
USUAL = 8
"""Techniques that occupy nothing known (users' own) act on the kernels that the others have left."""


def stage(found: Technique) -> int:
    """When a technique acts: first where it replaces the model, else at the last of the stages in which it occupies a thing."""
    own = [at for at, things in enumerate(STAGES) if things & found.occupies]
    return USUAL if not own else 0 if own[0] == 0 else own[-1]
