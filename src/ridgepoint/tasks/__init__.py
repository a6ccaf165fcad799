"""Tasks: what is asked of a model (design §1). Each is a frozen value; how it becomes work is in this package's modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, TypeAlias

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.numeric import Num, as_num
from ridgepoint.plan import whole

LARGEST_BATCH = 1e9
LARGEST_LENGTH = 1e9


@dataclass(frozen=True, kw_only=True)
class _Sized:
    """Checks that every field is a whole, positive, finite number (or array of them)."""

    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for f in fields(self):
            largest = LARGEST_BATCH if f.name == "batch" else LARGEST_LENGTH
            if f.name == "inputs" or (f.default is None and getattr(self, f.name) is None):
                continue
            object.__setattr__(self, f.name, whole(getattr(self, f.name), f"{self.name}.{f.name}", largest))

    def sizes(self) -> dict[str, Num]:
        """The task's numbers by name; those left to the model's defaults are absent."""
        own = {f.name: v for f in fields(self) if f.name != "inputs" and (v := getattr(self, f.name)) is not None}
        return {**own, **getattr(self, "inputs", {})}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the sweep."""
        return np.broadcast_shapes(*(np.shape(v) for v in self.sizes().values()))


@dataclass(frozen=True, kw_only=True)
class _WithInputs(_Sized):
    """A task of networks: ``inputs`` gives any size of their input by its name (``nodes``, ``vectors``, ``tokens`` …), as a
    positive number or an array of them.
    """

    inputs: Mapping[str, Num] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        own = {f.name for f in fields(self)}
        for name in self.inputs:
            if name in own:
                raise RidgepointError("bad_size", f"{self.name}.inputs names {name}", f"give it as {name}=…")
        given = {name: _positive(value, f"{self.name}.inputs.{name}") for name, value in self.inputs.items()}
        object.__setattr__(self, "inputs", given)


def _positive(value: object, name: str) -> Num:
    try:
        number = as_num(value)
    except (TypeError, ValueError):
        raise RidgepointError("bad_size", f"{name} is {value!r}", "give a positive number") from None
    array = np.asarray(number)
    if array.size == 0 or not np.all(np.isfinite(array) & (array > 0.0)):
        raise RidgepointError("bad_size", f"{name} is {value!r}", "give a positive number")
    return number


@dataclass(frozen=True, kw_only=True)
class Prefill(_Sized):
    """Read ``prompt`` tokens of ``batch`` sequences and produce the first token of each."""

    name: ClassVar[str] = "prefill"
    batch: Num = 1.0
    prompt: Num = 1024.0


@dataclass(frozen=True, kw_only=True)
class Decode(_Sized):
    """One step of generation for ``batch`` sequences that each attend to ``context`` tokens (the new one included)."""

    name: ClassVar[str] = "decode"
    batch: Num = 1.0
    context: Num = 1024.0


@dataclass(frozen=True, kw_only=True)
class Generate(_Sized):
    """Prefill of ``prompt`` tokens, then decode steps over the growing context until ``output`` tokens are there."""

    name: ClassVar[str] = "generate"
    batch: Num = 1.0
    prompt: Num = 1024.0
    output: Num = 128.0


@dataclass(frozen=True, kw_only=True)
class Train(_WithInputs):
    """One optimizer step over ``batch`` sequences (over all devices) of ``seq`` tokens, or images of ``image_px`` pixels."""

    name: ClassVar[str] = "train"
    batch: Num = 1.0
    seq: Num = 2048.0
    image_px: Num | None = None


@dataclass(frozen=True, kw_only=True)
class Forward(_WithInputs):
    """One forward pass of ``batch`` sequences of ``seq`` tokens with outputs for every position (encoders, scoring), or of
    ``batch`` images of ``image_px`` pixels a side (vision; the model's own size by default).
    """

    name: ClassVar[str] = "forward"
    batch: Num = 1.0
    seq: Num = 512.0
    image_px: Num | None = None


@dataclass(frozen=True, kw_only=True)
class Sample(_WithInputs):
    """``batch`` samples of a diffusion model: conditioning, ``steps`` denoising passes, decoding. Sizes left out are the
    model's own.
    """

    name: ClassVar[str] = "sample"
    batch: Num = 1.0
    steps: Num | None = None
    image_px: Num | None = None
    frames: Num | None = None


Task: TypeAlias = Prefill | Decode | Generate | Train | Forward | Sample
TASKS: dict[str, type[Task]] = {t.name: t for t in (Prefill, Decode, Generate, Train, Forward, Sample)}
