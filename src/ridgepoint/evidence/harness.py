"""What a measurement harness adds to the kernel it times: host time of an eager call, sets of operands.

These are facts about how tables were made (read off their smallest rows and their collectors' code), not about
machines: a row is expressed as the work that its harness really ran, so that kernel coefficients are fitted to kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Harness:
    """How a source times kernels.

    ``host_s`` is the host time of one synchronous eager call by op, or by function where functions differ (``default``), of
    which ``before`` passes first; ``hosts`` how much slower the host of a machine was (an entry with its name: that
    itself). ``copies``: the harness goes through that many sets of operands, so that a cache holding all of them serves
    every run (0: operands come from main memory). ``timer_s``: what timing one kernel at a time adds to it. ``aging_s``: by
    how much the host's part of a call grew from the first row of an op to the last, by op and, where known, machine.
    """

    host_s: dict[str, float] = field(default_factory=dict)
    before: float = 0.75
    hosts: dict[str, float] = field(default_factory=dict)
    copies: float = 0.0
    timer_s: float = 0.0
    aging_s: dict[str, float] = field(default_factory=dict)


_GRAPH = Harness()
HARNESSES = {
    "aiconfigurator": Harness(copies=4.0),
    # torch.distributed's all-reduce returns after 60 us; its kernel starts early in that.
    # Messages between two devices take it 10 us there and 17 us on the machines with NVSwitch, whatever their size up to 1 MB.
    "vidur": Harness(
        {"all_reduce": 60e-6, "send_recv": 10e-6, "send_recv a100-sxm-80gb": 17e-6}, before=1.0 / 6.0, timer_s=1.4e-6
    ),
    # PyTorch calls timed one at a time between two events: the smallest rows of each op are the host's time.
    "neusight": Harness(
        {
            "gemm": 55.5e-6,
            "batched_gemm": 32.5e-6,
            "elementwise": 26e-6,
            "softmax": 33e-6,
            "norm": 46e-6,
            "conv2d": 70e-6,
        }
        # a number beside the tensor, or a module around the function
        | dict.fromkeys(("addu", "mulu", "divu", "relu"), 31.5e-6)
        | {"powu": 29.5e-6, "gelu": 30.5e-6, "gelu p100-pcie": 32e-6, "norm p100-pcie": 46.5e-6}
        | {"gemm p100-pcie": 98e-6, "gemm v100-pcie": 66.5e-6, "batched_gemm p100-pcie": 53.4e-6}
        | {"batched_gemm v100-pcie": 48.3e-6, "batched_gemm t4": 35e-6},
        hosts={"p100-pcie": 1.7, "v100-pcie": 1.22},
        # Every further shape of a convolution made the next calls slower, evenly, whatever their size.
        aging_s={"conv2d": 450e-6, "conv2d v100-pcie": 245e-6, "conv2d t4": 345e-6}
        | {"conv2d p4": 650e-6, "conv2d p100-pcie": 730e-6},
    ),
    "llmcompass": Harness({"default": 30e-6, "elementwise": 45e-6, "norm": 48e-6, "softmax": 16e-6}),
}


def harness_of(source: str) -> Harness:
    """The harness of a source; an unknown one times kernels in a captured graph and adds nothing."""
    return HARNESSES.get(source, _GRAPH)


def host_s(source: str, op: str, machine: str, function: str = "") -> float:
    """Host seconds of one eager call of ``op`` (as that ``function``) in that source, on the host that held ``machine``.

    >>> host_s("neusight", "norm", "t4"), host_s("neusight", "elementwise", "t4", "relu")
    (4.6e-05, 3.15e-05)
    """
    harness = harness_of(source)
    known = [name for name in (function, op) if name in harness.host_s] or ["default"]
    there = f"{known[0]} {machine}"
    if there in harness.host_s:
        return harness.host_s[there]
    return harness.host_s.get(known[0], 0.0) * harness.hosts.get(machine, 1.0)


def aging_s(source: str, op: str, machine: str) -> float:
    """Host seconds by which the last call of ``op`` in that source's rows of a machine is slower than the first.

    >>> aging_s("neusight", "conv2d", "v100-pcie"), aging_s("neusight", "gemm", "v100-pcie")
    (0.000245, 0.0)
    """
    grown = harness_of(source).aging_s
    return grown.get(f"{op} {machine}", grown.get(op, 0.0))
