"""Tasks: what is asked of a model (design §1). Each is a frozen value; how it becomes work is in this package's modules."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, TypeAlias

import numpy as np

from ridgepoint.numeric import Num
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
            if getattr(self, f.name) is None:
                continue
            object.__setattr__(self, f.name, whole(getattr(self, f.name), f"{self.name}.{f.name}", largest))

    def sizes(self) -> dict[str, Num]:
        """The task's numbers by name; those left to the model's defaults are absent."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the sweep."""
        return np.broadcast_shapes(*(np.shape(v) for v in self.sizes().values()))


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
class Train(_Sized):
    """One optimizer step over ``batch`` sequences (over all devices) of ``seq`` tokens, or images of ``image_px`` pixels."""

    name: ClassVar[str] = "train"
    batch: Num = 1.0
    seq: Num = 2048.0
    image_px: Num | None = None


@dataclass(frozen=True, kw_only=True)
class Forward(_Sized):
    """One forward pass of ``batch`` sequences of ``seq`` tokens with outputs for every position (encoders, scoring), or of
    ``batch`` images of ``image_px`` pixels a side (vision; the model's own size by default).
    """

    name: ClassVar[str] = "forward"
    batch: Num = 1.0
    seq: Num = 512.0
    image_px: Num | None = None


@dataclass(frozen=True, kw_only=True)
class Sample(_Sized):
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
