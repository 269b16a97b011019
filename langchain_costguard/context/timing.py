"""When it pays to compact: arithmetic on the prices of the model that will be called. Money is nano-USD."""

from __future__ import annotations

import math
from dataclasses import dataclass

MINIMUM_PROGRESS = 0.1
"""The share of the prompt that has to go for a compaction to be made at all: without it one follows another for ever.
https://github.com/OpenHands/software-agent-sdk (``minimum_progress``)"""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a token costs, in pico-USD: written to the provider's cache (where it has none, as input), read, output.

    ``warm`` is the chance that the prompt of the call before is still in the cache.
    """

    write: int
    read: int
    output: int = 0
    warm: float = 1.0

    @property
    def rewrite(self) -> float:
        """What a token costs more for being written again, where it would have been read."""
        return self.warm * max(0, self.write - self.read)


@dataclass(frozen=True, slots=True)
class Edit:
    """What a compaction would come to, in tokens.

    Attributes:
        before: Of the prompt as it is.
        after: Of the prompt as it would be.
        rewritten: Of what stays behind the first change, and so has to be written again.
        new: Of it, what was never sent before: the summary.
        summary: Nano-USD for making the summary.
        loss: Nano-USD for what will have to be fetched again.
    """

    before: int
    after: int
    rewritten: int
    new: int = 0
    summary: int = 0
    loss: int = 0

    @property
    def gone(self) -> int:
        """Tokens that go."""
        return self.before - self.after

    @property
    def progress(self) -> float:
        """The share that goes."""
        return self.gone / self.before if self.before else 0.0


def outlay(edit: Edit, prices: Prices) -> int:
    """What the edit costs at once, in nano-USD."""
    stays = max(0, edit.rewritten - edit.new)
    tokens = prices.rewrite * stays + prices.write * edit.new
    return math.ceil(tokens / 1_000) + edit.summary + edit.loss


def gain(edit: Edit, prices: Prices, calls: float) -> int:
    """What the edit saves over so many calls to come, less its outlay (nano-USD): below zero where it does not pay."""
    cold = (1 - prices.warm) * max(0, prices.write - prices.read)  # this call would have written all of it again
    return int(edit.gone * (prices.read * calls + cold) / 1_000) - outlay(edit, prices)


def break_even(edit: Edit, prices: Prices) -> float:
    """Calls after which the edit has paid for itself; infinite where nothing goes or nothing is paid for it."""
    each = edit.gone * prices.read / 1_000
    return max(0.0, outlay(edit, prices) / each) if each > 0 else math.inf


def lot(edit: Edit, prices: Prices, growth: float) -> float:
    """The number of calls between two compactions that costs least in all: n* = sqrt(2 S / (r g)).

    It is the economic lot size: an outlay S each time, and a cost of holding that rises by r * g a call. Greedy
    compaction, as soon as one edit pays, comes several times too often.
    """
    holding = prices.read * growth / 1_000
    return math.sqrt(2 * outlay(edit, prices) / holding) if holding > 0 else math.inf


def due(edit: Edit, prices: Prices, growth: float, calls: int) -> bool:
    """Whether to compact now, ``calls`` calls after the last compaction."""
    return edit.progress >= MINIMUM_PROGRESS and calls >= lot(edit, prices, growth)
