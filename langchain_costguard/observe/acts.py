"""What steering did, counted as it happens: made into ``Actions`` and ``Recalls`` when a report is asked for."""

from __future__ import annotations

from langchain_costguard.events.steered import Recalled, Steered, WouldRecall
from langchain_costguard.observe.actions import Action, Actions
from langchain_costguard.observe.contexts import ContextRows, Contexts
from langchain_costguard.observe.recalls import Recalls, RecentRecalls
from langchain_costguard.observe.rows import Rows


class Acts:
    """What the steering of one guard did."""

    def __init__(self) -> None:
        self._rows: Rows[Action] = Rows()
        self._recalls = RecentRecalls()
        self._contexts = ContextRows()

    def note(self, event: Steered) -> None:
        """Count one act."""
        self._rows.count(Action(*event.scope, type(event).__name__, event.name), (1, event.saved))
        if isinstance(event, (Recalled, WouldRecall)):
            self._recalls.note(event)
        else:
            self._contexts.note(event)

    def actions(self) -> Actions:
        """A copy of the counts as they stand."""
        return Actions((key, times, saved) for key, (times, saved) in self._rows.items())

    def recalls(self) -> Recalls:
        """A copy of the latest answers from caches."""
        return self._recalls.recalls()

    def contexts(self) -> Contexts:
        """A copy of what was done to prompts, as it stands."""
        return self._contexts.contexts()
