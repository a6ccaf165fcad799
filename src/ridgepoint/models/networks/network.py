"""A network: a family, its configuration, and the sizes of its usual input. Frozen values, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Network:
    """One architecture of a family (``resnet`` with ``depths`` 3, 4, 6, 3 …).

    ``inputs`` are the sizes of one sample by name (``image_px``, ``channels``, ``frames``, ``nodes``, ``tokens`` …);
    ``sampling`` gives diffusion models their steps and whether guidance doubles the batch. Published figures are what its
    paper or library states (parameters; multiply-adds at the default input).
    """

    name: str
    family: str
    config: tuple[tuple[str, Any], ...] = ()
    inputs: tuple[tuple[str, float], ...] = ()
    sampling: tuple[tuple[str, float], ...] = ()
    domain: str = "vision"
    title: str = ""
    source: str = ""
    released: int = 0
    published_parameters: float = 0.0
    published_macs: float = 0.0
    notes: tuple[str, ...] = ()

    def option(self, name: str, default: Any = None) -> Any:
        """A value of the configuration."""
        return dict(self.config).get(name, default)

    def size(self, name: str, default: float = 0.0) -> float:
        """A default input size."""
        return dict(self.inputs).get(name, default)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it was captured for; none for the networks of the catalogue, which have forward and train."""
        return tuple(self.option("tasks", ()))

    @property
    def is_sampler(self) -> bool:
        """Whether it generates by repeated denoising."""
        return "steps" in dict(self.sampling)
