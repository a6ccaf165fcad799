"""What befalls engines: starts and stops by load, and clocks that follow the power of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Any

from tests.serving.oracle.engine import Engine
from tests.serving.oracle.fleet import Fleet


@dataclass
class Scaler:
    """The rule of Kubernetes' autoscaler on jobs per engine: as many as ever wanted in the last ``patience_s``."""

    env: Any
    fleet: Fleet
    target: float
    least: int
    start_s: float
    every_s: float
    patience_s: float
    leaving: list[int] = field(default_factory=list)
    starting: dict[int, Any] = field(default_factory=dict)

    def run(self):
        engines, wishes = self.fleet.engines, list[tuple[float, int]]()
        while True:
            yield self.env.timeout(self.every_s)
            self.leaving = [n for n in self.leaving if engines[n].load]
            under_way = sum(engine.load for engine in engines) + len(self.fleet.held)
            wish = min(max(ceil(under_way / self.target), self.least), len(engines))
            wishes = [(t, w) for t, w in wishes if t > self.env.now - self.patience_s] + [(self.env.now, wish)]
            wanted = max(w for _, w in wishes)
            have = sorted([*self.fleet.up, *self.starting])
            while len(have) < wanted:
                have.append(self.start([n for n in range(len(engines)) if n not in have]))
            for n in sorted(have, key=lambda n: (engines[n].load, -n))[: len(have) - wanted]:
                self.starting.pop(n, None)
                self.fleet.up.discard(n)
                if engines[n].load:
                    self.leaving.append(n)
                engines[n].cache.kept = []

    def start(self, able: list[int]) -> int:
        """One that leaves but has not gone stays; else the first begins."""
        stays = [n for n in able if n in self.leaving]
        if stays:
            self.leaving.remove(stays[0])
            self.fleet.come(stays[0])
            return stays[0]
        token = object()
        self.starting[able[0]] = token

        def later(number: int):
            yield self.env.timeout(self.start_s)
            if self.starting.get(number) is token:
                del self.starting[number]
                self.fleet.come(number)

        self.env.process(later(able[0]))
        return able[0]


@dataclass
class Governor:
    """POLCA's row: looks at the power of the last window and sets clocks after a delay. ``idle_w``: of one engine."""

    env: Any
    engines: list[Engine]
    watts: float
    low: int
    thresholds: tuple[float, float]
    hysteresis: float
    every_s: float
    delay_s: float
    idle_w: float
    state: int = 0
    looks: list[tuple[float, float, int]] = field(default_factory=list)

    def run(self):
        limits = [*self.thresholds, 1.0]
        before = now = 0.0
        while True:
            yield self.env.timeout(self.every_s)
            now = sum(engine.joules for engine in self.engines)
            dynamic, before = (now - before) / self.every_s, now
            part = (dynamic + self.idle_w * len(self.engines)) / self.watts
            while self.state < 3 and part > limits[self.state]:
                self.state += 1
                self.env.process(self.later(self.state))
            while self.state > 0 and part <= limits[self.state - 1] - self.hysteresis:
                self.state -= 1
                self.env.process(self.later(self.state))
            self.looks.append((self.env.now, part, self.state))

    def later(self, state: int):
        yield self.env.timeout(self.delay_s)
        first_low = len(self.engines) - self.low
        for number, engine in enumerate(self.engines):
            level = state if number >= first_low else max(state - 1, 0)
            engine.set_level(3 if state == 3 else level)
