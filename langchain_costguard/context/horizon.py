"""How many calls a thread has still to come: learned from those in which a compaction was due before."""

from __future__ import annotations


class Horizon:
    """What followed when a compaction was due: the mean of it, the call it was due at among them.

    Until anything is known, a thread is expected to go on as long again as it has: so it is with whatever lasts the
    longer the longer it has lasted (Lindy's law). That counts as one case among those that were seen.
    """

    def __init__(self) -> None:
        self._dues = 0
        self._calls = 0

    def expected(self, calls: int) -> float:
        """Calls to come in a thread that has had so many."""
        return (self._calls + calls) / (self._dues + 1)

    def due(self) -> None:
        """A compaction is due in a thread."""
        self._dues += 1

    def called(self, dues: int) -> None:
        """A thread in which so many were due has had a call."""
        self._calls += dues
