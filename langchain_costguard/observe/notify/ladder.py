"""Which share of which budget is told to whom, and when that is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_costguard.events.metered import Alert
from langchain_costguard.events.steered import Granted
from langchain_costguard.observe.notify.notice import Notice, amount, notice, severity_of
from langchain_costguard.observe.notify.targets import Target
from langchain_costguard.observe.witness import Source
from langchain_costguard.vocabulary.checks import mapped

Rungs = Mapping[float, Sequence[Target]]
Told = tuple[Notice, Sequence[Target]]
_MOST = 10_000


class _Open(NamedTuple):
    notice: Notice
    targets: Sequence[Target]
    ends: float
    spent: int
    cap: int
    share: float


class Ladder:
    """The rungs, and the alerts that are not over."""

    def __init__(self, rungs: Rungs, own: Mapping[str, Rungs], redact: Callable[[str], str]) -> None:
        self._rungs, self._own, self._redact = rungs, own, redact
        self._open: dict[tuple[str, float], _Open] = {}
        self._given: dict[str, int] = {}
        self._lock = threading.Lock()
        self.source: Source | None = None

    def alert(self, event: Alert) -> list[Told]:
        """A total passed a threshold: who of the ladder is told."""
        targets = self._own.get(event.budget, self._rungs).get(event.threshold, ())
        if not targets:
            return []
        share, budget = event.threshold, self._redact(event.budget)
        who = ", ".join(self._redact(value) for value in _who(event))
        title = (
            f"Budget {budget}{f' of {who}' if who else ''} is at {event.spent / event.cap:.0%}: "
            f"{amount(event.measure, event.spent)} of {amount(event.measure, event.cap)}."
        )
        facts = {
            "budget": budget, "measure": event.measure, "threshold": share, "spent": event.spent, "cap": event.cap,
        }  # fmt: skip
        found = notice("budget", f"{event.account}|{share}", severity_of(share), title, event.at, **facts)
        ends = self.source.until(event.budget, event.at) if self.source is not None else float("inf")
        with self._lock:
            self._open[event.account, share] = _Open(found, targets, ends, event.spent, event.cap, share)
            if len(self._open) > _MOST:
                self._open.pop(next(iter(self._open)))
        return [(found, targets)]

    def granted(self, event: Granted) -> list[Told]:
        """Somebody gave a budget more: what is below its share again is over."""
        with self._lock:
            given = self._given[event.account] = self._given.get(event.account, 0) + event.amount
            over = [
                key
                for key, open in self._open.items()
                if key[0] == event.account and open.spent < open.share * (open.cap + given)
            ]
            return [self._end(key, event.at, "more was granted") for key in over]

    def over(self, now: float) -> list[Told]:
        """The alerts whose window has ended."""
        if not self._open:
            return []
        with self._lock:
            ended = [key for key, open in self._open.items() if open.ends <= now]
            return [self._end(key, now, "its window is over") for key in ended]

    def next_end(self) -> float | None:
        """When the first of them ends; None where none does by itself."""
        with self._lock:
            return min((open.ends for open in self._open.values() if open.ends != float("inf")), default=None)

    def _end(self, key: tuple[str, float], now: float, why: str) -> Told:
        open = self._open.pop(key)
        return open.notice.over(now, why), open.targets


def _who(event: Alert) -> list[str]:
    """Whose account it is: the parts of the scope that its name holds."""
    return [value for value in (event.scope.user, event.scope.session, event.scope.agent, event.scope.feature)
            if value and f"|{value}" in event.account]  # fmt: skip


def checked_ladder(field: str, ladder: Any) -> dict[float, list[Target]]:
    """The rungs, each with a list of targets.

    Raises:
        ValueError: names the field and the value.
    """
    mapped(field, ladder, "{0.7: Slack(url)}")
    for share, targets in ladder.items():
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 100:
            raise ValueError(f"{field}: {share!r} must be a share of the cap above zero, such as 0.7")
        check_targets(f"{field}[{share!r}]", targets)
    return {float(share): targets_in([targets]) for share, targets in ladder.items()}


def check_targets(field: str, targets: Any) -> None:
    """Raise where one, or one of several, is no target."""
    for target in targets_in([targets]):
        if not callable(getattr(target, "deliver", None)) or isinstance(target, type):
            raise ValueError(f"{field}: {target!r} is no target such as Slack(url)")


def targets_in(groups: Iterable[Any]) -> list[Target]:
    """All the targets, each once."""
    found: dict[int, Target] = {}
    for group in groups:
        for target in group if isinstance(group, (list, tuple)) else [group]:
            found[id(target)] = target
    return list(found.values())
