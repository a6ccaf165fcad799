"""How long the steps of one replica take: its tables, for the whole replica instead of a lane."""

from __future__ import annotations

from ridgepoint.serving.adapters import AdapterTable
from ridgepoint.serving.tables import StepTables


class Clock:
    """Seconds of steps from tables of lanes. ``draft`` holds the tables of the model that proposes ``drafted`` tokens,
    ``adapters`` those of low-rank adapters beside the products; ``frequency`` is the device's clock over its usual one, at
    which the tables were made, ``part`` the part of its multiprocessors, and ``memory`` that
    of the main memory's bandwidth.
    """

    __slots__ = (
        "_drafted", "_launch", "_mixed", "_width", "adapters", "draft", "frequency", "lanes", "memory", "part", "tables",
    )  # fmt: skip

    def __init__(
        self,
        tables: StepTables,
        draft: StepTables | None = None,
        adapters: AdapterTable | None = None,
        frequency: float = 1.0,
        part: float = 1.0,
        memory: float = 1.0,
    ) -> None:
        self.tables = tables
        self.lanes = int(tables.passes.lanes)
        self._drafted = tables.drafted
        self._width = 1 + tables.drafted
        self.draft, self.adapters, self.frequency = draft, adapters, frequency
        self.part, self.memory = part, memory
        self._launch, self._mixed = tables.launches_s

    def chosen(self, sequences: int, finishing: int) -> int:
        """Positions of the fullest lane that get logits."""
        return -(-sequences // self.lanes) * self._width + -(-finishing // self.lanes)

    def decode(
        self, sequences: int, context: float, adapted: float = 0.0, adapters: int = 0
    ) -> tuple[float, float, float, float]:
        """(device seconds, host seconds that nothing hides, slope of the first per token of context, end of the slope) of
        a step in which only ``sequences`` decode at a mean ``context``; the part ``adapted`` of them has one of
        ``adapters`` adapters.
        """
        lane = -(-sequences // self.lanes)
        width = lane * self._width
        tables = self.tables
        own, slope, end = tables.decode_line(lane, context)
        device = tables.shared_s[width] + tables.choosing_s[width] + own
        if self.draft is not None:
            draft, steps = self.draft, self._drafted
            more, rise, _ = draft.decode_line(lane, context)
            device += steps * (draft.shared_s[lane] + draft.choosing_s[lane] + more)
            slope += steps * rise
        if adapters and self.adapters is not None:
            device += self.adapters.seconds(width * adapted, adapters)
        engine = tables.engine
        host = engine.step_s + engine.sequence_s * sequences
        if device < self._launch:
            host += self._launch - device
        return device, host, slope, end

    def mixed(
        self,
        sequences: int,
        context: float,
        pieces: list[tuple[int, int]],
        finishing: int,
        adapted: float = 0.0,
        adapters: int = 0,
    ) -> tuple[float, float, int, float]:
        """(device seconds, host seconds, tokens of the fullest lane, part of the pieces' own seconds that counts) of a
        step that reads ``pieces`` (tokens, past) beside ``sequences`` that decode; ``finishing`` prompts get a token.
        """
        tables = self.tables
        lanes = self.lanes
        total = longest = 0
        read = most = 0.0
        for tokens, past in pieces:
            seconds = tables.read_s(tokens, past)
            total += tokens
            read += seconds
            longest = tokens if tokens > longest else longest
            most = seconds if seconds > most else most
        alone = read
        if len(pieces) > 1:
            read -= sum(tables.saved_s(tokens, past) for tokens, past in pieces[1:])
        read = max(read / lanes, most)
        lane = -(-sequences // lanes)
        width = lane * self._width + max(-(-total // lanes), longest)
        device = tables.shared_s[width] + read
        device += tables.choosing_s[self.chosen(sequences, finishing)]
        if sequences:
            device += tables.decode_line(lane, context)[0]
            if self.draft is not None:
                device += self._drafting(lane, context)
        if adapters and self.adapters is not None:
            device += self.adapters.seconds(width * adapted, adapters)
        engine = tables.engine
        host = engine.step_s + engine.sequence_s * (sequences + finishing) + engine.token_s * total
        if device < self._mixed:
            host += self._mixed - device
        return device, host, width, read / alone if alone > 0.0 else 1.0

    def _drafting(self, lane: int, context: float) -> float:
        draft = self.draft
        if draft is None:
            return 0.0
        own = draft.decode_line(lane, context)[0]
        return self._drafted * (draft.shared_s[lane] + draft.choosing_s[lane] + own)
