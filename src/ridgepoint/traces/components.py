"""Names of components: where in the model, or in which annotated region, an operator ran.

Three things name a component, best first: a note ``module:layers.0.mlp`` (``traces.naming``), which is the module's own path;
``nn.Module`` events of ``with_stack=True``, which know classes but not attributes; ``record_function``. Repeated layers share
a name: numbers of a path become ``*``, equal modules that hold others ``[*]``; a few equal modules without inner ones keep
their place, counted from 0 in the order of their first call.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ridgepoint.traces.events import MODULE, MODULE_PREFIX, Trace
from ridgepoint.traces.intervals import Ints

NAMED = "module:"
"""A note that names a module by its path."""
STEP = "ProfilerStep#"
MOST_ALIKE = 16
"""Equal modules without inner ones that are told apart; more of them are a list."""
_TRANSPARENT = (STEP, "nccl:", "PyTorch Profiler")
_NUMBER = re.compile(r"(^|\.)\d+(?=\.|$)")
_INSTANCE = re.compile(r"^(.*)_(\d+)$")


def names_a_part(note: str) -> bool:
    """Whether a note says where, rather than when or what for."""
    return not note.startswith(_TRANSPARENT)


def starred(path: str) -> str:
    """A path whose numbered parts share a name.

    >>> starred("layers.0.mlp.down_proj"), starred("0.weight"), starred("conv2.bn1")
    ('layers.*.mlp.down_proj', '*.weight', 'conv2.bn1')
    """
    return _NUMBER.sub(r"\1*", path)


@dataclass
class _Instance:
    """One ``nn.Module`` object: its class, the instance that calls it first, whether it calls others."""

    kind: str
    outer: str
    holds: bool = False


def paths(trace: Trace, contexts: Sequence[int], outer: Ints) -> dict[int, str]:
    """The name of every context event. ``contexts`` come parents first; ``outer`` is each event's enclosing context or -1."""
    labels = _module_labels(_instances(trace, contexts, outer))
    found: dict[int, str] = {-1: ""}
    for event in contexts:
        name, above = trace.names[trace.name[event]], found[int(outer[event])]
        if trace.role[event] == MODULE:
            label = labels[name]
            inside = int(outer[event]) >= 0 and trace.role[outer[event]] != MODULE and above
            found[event] = f"{above} / {label}" if inside else f"{above}.{label}" if above else label
        elif name.startswith(NAMED):
            found[event] = starred(name.removeprefix(NAMED).strip())
        else:
            found[event] = f"{above} / {name}" if above else name
    return found


def _instances(trace: Trace, contexts: Sequence[int], outer: Ints) -> dict[str, _Instance]:
    found: dict[str, _Instance] = {}
    for event in contexts:
        if trace.role[event] != MODULE:
            continue
        above = int(outer[event])
        while above >= 0 and trace.role[above] != MODULE:
            above = int(outer[above])
        caller = trace.names[trace.name[above]] if above >= 0 else ""
        if caller in found:
            found[caller].holds = True
        name = trace.names[trace.name[event]]
        if name not in found:
            plain = name.removeprefix(MODULE_PREFIX)
            numbered = _INSTANCE.match(plain)
            found[name] = _Instance(numbered[1] if numbered else plain, caller)
    return found


def _module_labels(instances: dict[str, _Instance]) -> dict[str, str]:
    """Instance → its part of a path."""
    alike: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for name, one in instances.items():
        alike[one.outer, one.kind, one.holds].append(name)
    labels = {}
    for (_, kind, holds), members in alike.items():
        for i, name in enumerate(members):
            together = holds or len(members) > MOST_ALIKE
            labels[name] = kind if len(members) == 1 else f"{kind}[*]" if together else f"{kind}[{i}]"
    return labels
