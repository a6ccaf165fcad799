"""Data sets that training rows name instead of sizes: examples of an epoch, and how long sequences are.

- CIFAR-100, ImageNet-1k: their training sets. SQuAD 1.1: windows of 384 tokens with a stride of 128.
- Sentiment140 (Go et al. 2009): 1.6 million tweets.
- LibriSpeech (Panayotov et al. 2015): all 960 hours, 281,241 utterances.
- MovieLens 1M as neural collaborative filtering trains on it (He et al. 2017): all ratings but each of 6,040 users' last,
  and four negatives drawn for each.
- Alpaca (Taori et al. 2023) with its prompt around every instruction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.cost.order_statistics import expected_maximum
from ridgepoint.evidence.rows import Rows
from ridgepoint.numeric import Num

EXAMPLES = {
    "cifar100": 50_000.0,
    "imagenet": 1_281_167.0,
    "squad": 88_524.0,
    "sentiment140": 1_600_000.0,
    "librispeech": 281_241.0,
    "movielens-1m": 5.0 * (1_000_209.0 - 6_040.0),
}
"""Examples of an epoch."""


ASSUMED = {"librispeech": 3.0, "movielens-1m": 3.0}
"""How much wider the interval is where a data set's rows do not say which network of its kind, or how it was fed, it was."""


SIZES: dict[str, dict[str, Num]] = {"librispeech": {"frames": 960.0 * 3600.0 * 100.0 / EXAMPLES["librispeech"]}}
"""Sizes of a network's input: hundredths of a second of a mean utterance (recipes batch utterances of like length)."""
ITERATION_S = 2.0e-3
"""Host time of an iteration beside the network: the next batch from the loader's processes, its copies to the device, the loss
read back. Fitted to the source's smallest network (``movielens-1m`` up to 1,024 examples)."""
LOADER_S = {"movielens-1m": 1.5e-6}
"""Seconds in which a loader written in Python hands over an example, whatever the device; fitted to the same network's rows of
4,096 examples and more."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of an example: their mean and standard deviation; batches are padded to their longest."""

    mean: float
    deviation: float = 0.0

    def padded(self, batch: Num) -> Num:
        """Expected longest of ``batch`` examples, in whole tokens.

        >>> Lengths(384.0).padded(8.0), round(float(Lengths(20.0, 9.0).padded(256.0)))
        (384.0, 45)
        """
        if not self.deviation:
            return self.mean
        return np.rint(self.mean + self.deviation * expected_maximum(batch))


LENGTHS = {
    # Padded to the longest window.
    "squad": Lengths(384.0),
    # 74 characters with a deviation of 36 at four a token, and two marks; at most 140 characters.
    "sentiment140": Lengths(20.0, 9.0),
    # Assumed from the source's histogram, which says that few are beyond 256.
    "alpaca": Lengths(120.0, 60.0),
}


def sequence_length(rows: Rows) -> Num:
    """Tokens of a sequence: as stated, else those that the rows' data set is padded to."""
    known = LENGTHS.get(rows.tag("dataset"))
    if known is None:
        return rows.number("prompt")
    return known.padded(rows.number("global_batch")) * np.ones(len(rows))
