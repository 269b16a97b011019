"""What a guard counts as calls settle: a report is made from it when somebody asks for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from langchain_costguard.observe.rows import Rows
from langchain_costguard.observe.times import Times
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.events.steered import Steered
    from langchain_costguard.observe.acts import Acts
    from langchain_costguard.observe.bars import Bar
    from langchain_costguard.observe.report import Report


class Tallies(Rows[Scope]):
    """What a guard counted: a row is the counts of a ``Tally`` in its order."""

    def __init__(self) -> None:
        super().__init__()
        self._marks: Rows[Scope] = Rows()
        self._times = Times()
        self.timed = self._times.note
        """Note how long a call took, and until its first token."""
        self._acts: Acts | None = None

    def act(self, event: Steered) -> None:
        """Count what steering did."""
        if self._acts is None:
            from langchain_costguard.observe.acts import Acts

            with self._lock:  # the first acts may come at once, on many threads
                self._acts = self._acts or Acts()
        self._acts.note(event)

    def unpriced(self, scope: Scope) -> None:
        """Count a call whose price nobody knows."""
        self._marks.count(scope, (1, 0, 0, 0))

    def failed(self, scope: Scope) -> None:
        """Count a call that ended in an error."""
        self._marks.count(scope, (0, 1, 0, 0))

    def billed(self, scope: Scope, priced: int) -> None:
        """Count a call charged at its provider's own bill; ours would be ``priced`` (nano-USD) above that."""
        self._marks.count(scope, (0, 0, 1, priced))

    def counted(self) -> bool:
        """Whether any call was."""
        return bool(self.items() or self._marks.items())

    def report(self, budgets: Callable[[], list[Bar]] = list) -> Report:
        """A copy of the rows as they stand; ``budgets`` says how the budgets stand, when somebody looks."""
        from langchain_costguard.observe.report import Report, Tally

        rows = [(scope, Tally(*counts)) for scope, counts in self.items()]
        marks = self._marks.items()
        if marks:
            found = dict(reversed(rows))
            for scope, (unpriced, failed, billed, priced) in marks:
                mark = Tally(unpriced=unpriced, failed=failed, billed=billed, priced=priced)
                if scope in found:
                    found[scope].add(mark)
                else:
                    rows.append((scope, mark))
        times = self._times.rows()
        if self._acts is None:
            return Report(rows, times=times, budgets=budgets)
        acts = self._acts
        return Report(
            rows, times=times, budgets=budgets, actions=acts.actions(), recalls=acts.recalls(), contexts=acts.contexts()
        )
