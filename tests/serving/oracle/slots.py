"""Adapters on a device: a list in order of last use."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.serving.oracle.jobs import NO_ADAPTER, Job


@dataclass
class Slots:
    most: int
    load_s: float
    there: list[int] = field(default_factory=list)  # least recently used first
    loads: int = 0
    waits_s: float = 0.0  # of copies, for the next step

    def fits(self, job: Job, running: list[Job]) -> bool:
        if job.adapter == NO_ADAPTER or job.adapter in self.there or len(self.there) < self.most:
            return True
        return any(name not in {one.adapter for one in running} for name in self.there)

    def enter(self, job: Job, running: list[Job]) -> None:
        if job.adapter == NO_ADAPTER or job.adapter in self.there:
            return
        if len(self.there) == self.most:
            self.there.remove(next(name for name in self.there if name not in {one.adapter for one in running}))
        self.there.append(job.adapter)
        self.loads += 1
        self.waits_s += self.load_s

    def leave(self, job: Job, running: list[Job]) -> None:
        """The last one that used an adapter makes it the newest of those that may go."""
        if job.adapter in self.there and all(one.adapter != job.adapter for one in running):
            self.there.remove(job.adapter)
            self.there.append(job.adapter)
