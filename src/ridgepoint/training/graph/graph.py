"""Training that is a graph of calls to several models: what is called, on which devices, after what.

Reinforcement learning from feedback is such a graph: the actor generates, the reward model, the reference and the critic
score what it wrote, actor and critic train on it (Ouyang et al. 2022; group-relative methods leave the critic out, Shao et al.
2024). An iteration calls everything once; the next one starts with the weights that this one trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.models.architecture import Model
from ridgepoint.training.divisors import divisors

KINDS = ("generate", "score", "train")
RESTS = ("device", "host")


def unknown(what: str, name: str, known: Iterable[str]) -> RidgepointError:
    """The error for a name that the graph does not have."""
    close = nearest(name, sorted(known))
    hint = f"did you mean {' or '.join(close)}?" if close else "known: " + ", ".join(sorted(known))
    return RidgepointError("bad_graph", f"unknown {what} '{name}'", hint)


@dataclass(frozen=True)
class Member:
    """A model of the graph. ``rest``: where its weights (and states) lie while others are called: ``device`` or ``host``."""

    name: str
    model: Model
    rest: str = "device"

    def __post_init__(self) -> None:
        if self.rest not in RESTS:
            raise RidgepointError("bad_graph", f"{self.name} rests on '{self.rest}'", "use device or host")


@dataclass(frozen=True)
class Call:
    """One call of an iteration over ``batch`` sequences of ``prompt`` + ``output`` tokens.

    ``generate`` writes the outputs, ``score`` reads whole sequences once, ``train`` makes ``steps`` optimizer steps over them.
    It starts when the calls named in ``after`` are done. ``group`` names the devices that it runs on (none: all), ``plan``
    fixes fields of its plan.
    """

    name: str
    member: str
    kind: str
    batch: int
    prompt: int
    output: int
    steps: int = 1
    after: tuple[str, ...] = ()
    group: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind of call", self.kind, KINDS)
        for name in ("batch", "prompt", "output", "steps"):
            value = getattr(self, name)
            if value < 1 or value != int(value):
                raise RidgepointError(
                    "bad_graph", f"{self.name}: {name} is {value:g}", "give a whole number of at least 1"
                )
        if self.batch % self.steps:
            near = [n for n in divisors(self.batch) if n <= 64]
            raise RidgepointError(
                "bad_graph",
                f"{self.name}: {self.steps} steps do not divide a batch of {self.batch}",
                "use one of " + ", ".join(map(str, near)),
            )

    @property
    def seq(self) -> int:
        """Tokens of a whole sequence."""
        return self.prompt + self.output


@dataclass(frozen=True)
class Graph:
    """Members by name, calls in an order in which each comes after those that it waits for, and groups of devices: name →
    count (none: every call has all devices).
    """

    members: Mapping[str, Member]
    calls: tuple[Call, ...]
    groups: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.calls:
            raise RidgepointError("bad_graph", "the graph has no calls", "add a [[call]]")
        for call in self.calls:
            if call.member not in self.members:
                raise unknown("model of the graph", call.member, tuple(self.members))
            if call.group and call.group not in self.groups:
                raise unknown("group of devices", call.group, tuple(self.groups))
        object.__setattr__(self, "calls", ordered(self.calls))
        trains = [call.member for call in self.calls if call.kind == "train"]
        twice = {name for name in trains if trains.count(name) > 1}
        if twice:
            raise RidgepointError(
                "bad_graph", f"{min(twice)} is trained by several calls", "make them one call with steps"
            )

    def trained(self, member: str) -> Call | None:
        """The call that trains a member."""
        return next((call for call in self.calls if call.kind == "train" and call.member == member), None)


def ordered(calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """The calls in an order in which each comes after those that it waits for; otherwise as given.

    Errors: ``bad_graph`` for a cycle, two calls of one name, and the name of a call that is not there.
    """
    names = [call.name for call in calls]
    for name in names:
        if names.count(name) > 1:
            raise RidgepointError("bad_graph", f"two calls are named {name}", "give each a name of its own")
    for call in calls:
        for other in call.after:
            if other not in names:
                raise unknown("call", other, names)
    found: list[Call] = []
    left = list(calls)
    while left:
        ready = next((c for c in left if all(any(f.name == other for f in found) for other in c.after)), None)
        if ready is None:
            cycle = ", ".join(c.name for c in left)
            raise RidgepointError("bad_graph", f"{cycle} wait for each other", "take one `after` out")
        found.append(ready)
        left.remove(ready)
    return tuple(found)


def feedback(
    actor: Model,
    *,
    critic: Model | None = None,
    reference: Model | None = None,
    reward: Model | None = None,
    batch: int,
    prompt: int,
    output: int,
    steps: int = 1,
    host: tuple[str, ...] = (),
) -> Graph:
    """The usual graph: the actor generates; reward, reference and critic score; critic and actor train.

    >>> from ridgepoint.models.catalog import find_model
    >>> small = find_model("llama-3.2-1b")
    >>> [c.name for c in feedback(small, reference=small, reward=small, batch=64, prompt=512, output=512).calls]
    ['generate', 'reference scores', 'reward scores', 'actor trains']
    """
    given = {"actor": actor, "critic": critic, "reference": reference, "reward": reward}
    members = {
        name: Member(name, model, "host" if name in host else "device")
        for name, model in given.items()
        if model is not None
    }
    for name in host:
        if name not in members:
            raise unknown("model of the graph", name, tuple(members))

    def call(name: str, member: str, kind: str, steps: int = 1, after: tuple[str, ...] = ()) -> Call:
        return Call(name, member, kind, batch, prompt, output, steps, after)

    calls = [call("generate", "actor", "generate")]
    calls += [
        call(f"{name} scores", name, "score", after=("generate",))
        for name in ("reference", "reward", "critic")
        if name in members
    ]
    scored = tuple(one.name for one in calls)
    calls += [call(f"{name} trains", name, "train", steps, scored) for name in ("critic", "actor") if name in members]
    return Graph(members, tuple(calls))
