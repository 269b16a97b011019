"""What is said while a program runs: alerts, and the first refusals, a line each on stderr."""

from __future__ import annotations

import sys
from contextlib import suppress

from langchain_costguard.cli.words import amount
from langchain_costguard.events.metered import Alert, Event, Refused

_REFUSALS_SHOWN = 3


class Voice:
    """A sink that says what a person wants to know at once."""

    def __init__(self) -> None:
        self._said = 0

    def __call__(self, event: Event) -> None:
        """Say it, where it is something to say."""
        if isinstance(event, Alert):
            if event.threshold >= 1 or event.spent < event.cap:  # else there comes one that says more
                self._say(alert(event))
        elif isinstance(event, Refused) and self._said < _REFUSALS_SHOWN:
            self._said += 1
            more = " (Further refusals are counted at the end.)" if self._said == _REFUSALS_SHOWN else ""
            self._say(f"{event.message}{more}")

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the program closed stderr
            print(f"costguard: {text}", file=sys.stderr, flush=True)


def alert(event: Alert) -> str:
    """``76 % of usd is used, past 70 %: $0.38 of $0.50``."""
    spent, cap = amount(event.measure, event.spent), amount(event.measure, event.cap)
    share, past = event.spent * 100 // event.cap if event.cap else 100, event.threshold * 100
    what = "reached" if share == round(past) else f"used, past {past:.0f} %"
    return f"{share} % of {event.measure} {what}: {spent} of {cap}"
