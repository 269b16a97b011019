"""What a guard counts as calls settle: a report is made from it when somebody asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_costguard.observe.rows import Rows
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.events.steered import Steered
    from langchain_costguard.observe.acts import Acts
    from langchain_costguard.observe.report import Report


class Tallies(Rows[Scope]):
    """What a guard counted: a row is the counts of a ``Tally`` in its order."""

    def __init__(self) -> None:
        super().__init__()
        self._acts: Acts | None = None

    def act(self, event: Steered) -> None:
        """Count what steering did."""
        if self._acts is None:
            from langchain_costguard.observe.acts import Acts

            self._acts = Acts()
        self._acts.note(event)

    def report(self) -> Report:
        """A copy of the rows as they stand."""
        from langchain_costguard.observe.report import Report, Tally

        rows = ((scope, Tally(*counts)) for scope, counts in self.items())
        if self._acts is None:
            return Report(rows)
        acts = self._acts
        return Report(rows, actions=acts.actions(), recalls=acts.recalls(), contexts=acts.contexts())
