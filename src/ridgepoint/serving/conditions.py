"""What befalls replicas during a run: failures, starts and stops by load, clocks that follow the power of all.

``events`` keep what happened and when; ``on`` in which spans each replica was switched on (failed ones included: somebody
pays for them).
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

from ridgepoint.cost.energy import idle_w
from ridgepoint.serving.budget import HIGH_LEVELS, LOW_LEVELS, Governor
from ridgepoint.serving.failures import Breaking
from ridgepoint.serving.log import Log
from ridgepoint.serving.power import Draws
from ridgepoint.serving.replica import Replica
from ridgepoint.serving.scaling import Scaler
from ridgepoint.serving.timing import write
from ridgepoint.serving.usage import actions

if TYPE_CHECKING:
    from ridgepoint.serving.simulate import Run


class Event(NamedTuple):
    """``what`` happened to a replica (−1: to all): failed, repaired, starts, up, leaves, off, or a clock (``clock 0.9``)."""

    time_s: float
    replica: int
    what: str


class Conditions:
    """Runs the processes that a deployment names, on the events of a simulation."""

    def __init__(self, run: Run, seed: int) -> None:
        given = run.given
        self._run, self.events = run, list[Event]()
        count = given.all_replicas
        self.on: list[list[tuple[float, float]]] = [[] for _ in range(count)]
        self._since: list[float | None] = [0.0] * count
        self._down: set[int] = set()
        self._leaving: set[int] = set()
        self._starting: dict[int, float] = {}
        if given.scaling is not None:
            self._scaler = Scaler(given.scaling, count)
            for replica in run.replicas[given.scaling.least :]:
                run.pools.remove(replica)
                self._since[replica.name] = None
            run.at(given.scaling.every_s, self._scale)
        if given.failures is not None:
            random = Random(seed + 1)
            Breaking(given.failures, count, given.devices_per_replica, random, run.at, self._lose, self._restore)
        if given.budget is not None:
            self._governor, self._state = Governor(given.budget), 0
            self._draws = Draws(given.machine, run.replicas[0].clocks)
            self._idle = idle_w(given.machine) or 0.0
            self._marks = [replica.log.mark for replica in run.replicas]
            self._ahead = [0.0] * count
            run.at(given.budget.every_s, self._look)

    def close(self, end_s: float) -> None:
        """The run is over: what is on was on until then."""
        for number, since in enumerate(self._since):
            if since is not None:
                self.on[number].append((since, max(end_s, since)))

    def _say(self, time_s: float, replica: int, what: str) -> None:
        self.events.append(Event(time_s, replica, what))

    # Failures

    def _lose(self, number: int, now_s: float) -> bool:
        """A replica fails, if it is on."""
        if self._since[number] is None:
            return False
        run = self._run
        replica = run.replicas[number]
        run.pools.remove(replica)
        self._down.add(number)
        self._say(now_s, number, "failed")
        lost = replica.fail(now_s)
        if replica.mate is not None:
            lost += replica.mate.fail(now_s)
        run.begin_again(lost, now_s)
        if number in self._leaving:
            self._switch_off(number, now_s)
        return True

    def _restore(self, number: int, now_s: float) -> None:
        self._down.discard(number)
        if self._since[number] is None:
            return
        self._say(now_s, number, "repaired")
        if number not in self._starting:
            self._run.pools.add(self._run.replicas[number])
            self._run.came_up(now_s)

    # Scaling

    def _scale(self, now_s: float) -> None:
        run, given = self._run, self._run.given
        assert given.scaling is not None
        for number in [n for n in self._leaving if run.replicas[n].load == 0]:
            self._switch_off(number, now_s)
        wanted = self._scaler.wanted(run.under_way, now_s)
        have = [n for n, since in enumerate(self._since) if since is not None and n not in self._leaving]
        if wanted > len(have):
            able = [n for n in range(given.replicas) if n not in have and n not in self._down]
            for number in sorted(able, key=lambda n: n not in self._leaving)[: wanted - len(have)]:
                self._start(number, now_s)
        for number in sorted(have, key=lambda n: (run.replicas[n].load, -n))[: max(len(have) - wanted, 0)]:
            self._leave(number, now_s)
        run.at(now_s + given.scaling.every_s, self._scale)

    def _start(self, number: int, now_s: float) -> None:
        run, given = self._run, self._run.given
        assert given.scaling is not None
        if number in self._leaving:  # it stays
            self._leaving.discard(number)
            run.pools.add(run.replicas[number])
            self._say(now_s, number, "up")
            return
        self._since[number] = now_s
        self._starting[number] = now_s
        self._say(now_s, number, "starts")
        run.at(now_s + given.scaling.start_s, lambda time: self._up(number, now_s, time))

    def _up(self, number: int, started_s: float, now_s: float) -> None:
        if self._starting.get(number) != started_s:  # it was called off
            return
        del self._starting[number]
        if number not in self._down:
            self._run.pools.add(self._run.replicas[number])
            self._say(now_s, number, "up")
            self._run.came_up(now_s)

    def _leave(self, number: int, now_s: float) -> None:
        self._starting.pop(number, None)
        self._run.pools.remove(self._run.replicas[number])
        self._leaving.add(number)
        self._say(now_s, number, "leaves")
        if self._run.replicas[number].load == 0:
            self._switch_off(number, now_s)

    def _switch_off(self, number: int, now_s: float) -> None:
        since = self._since[number]
        self._leaving.discard(number)
        if since is not None:
            self.on[number].append((since, now_s))
            self._since[number] = None
            self._say(now_s, number, "off")
            self._run.replicas[number].blocks.clear()

    # Power

    def _look(self, now_s: float) -> None:
        run, budget = self._run, self._run.given.budget
        assert budget is not None
        state = self._governor.look(self._watts(now_s, budget.every_s))
        if state != self._state:
            self._state = state
            run.at(now_s + budget.delay_s, lambda time: self._set_clocks(state, time))
        run.at(now_s + budget.every_s, self._look)

    def _watts(self, now_s: float, window_s: float) -> float:
        """Mean power of all devices in the last window; the action under way counts as far as it is done."""
        run = self._run
        tdp = float(run.given.machine.device.power.tdp or 0.0)
        watts = 0.0
        for number, replica in enumerate(run.replicas):
            done = actions(replica.log, self._marks[number])
            before, self._ahead[number] = self._ahead[number], self._under_way(replica, now_s)
            self._marks[number] = replica.log.mark
            part = (float(self._draws.worth_s(done).sum()) + self._ahead[number] - before) / window_s
            watts += self._idle + (tdp - self._idle) * min(max(part, 0.0), 1.0)
        return watts * run.given.devices_per_replica

    def _under_way(self, replica: Replica, now_s: float) -> float:
        """Seconds at full power that the action under way is worth up to now."""
        if replica.action is None:
            return 0.0
        log = Log()
        write(replica, log)
        worth = float(self._draws.worth_s(actions(log)).sum())
        return worth * (now_s - replica.start_s) / (replica.end_s - replica.start_s)

    def _set_clocks(self, state: int, now_s: float) -> None:
        run, budget = self._run, self._run.given.budget
        assert budget is not None
        low = len(run.replicas) if budget.low is None else budget.low
        for replica in run.replicas:
            levels = LOW_LEVELS if replica.name >= len(run.replicas) - low else HIGH_LEVELS
            if replica.level != levels[state]:
                replica.set_level(levels[state], now_s)
                self._say(now_s, replica.name, f"clock {(1.0, *budget.clocks)[levels[state]]:g}")
