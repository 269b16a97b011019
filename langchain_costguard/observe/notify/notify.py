"""``Notify``: which fact is told to whom."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_costguard.events.metered import Alert, CallSettled, Event, StoreFailed, ToolSettled, Unpriced
from langchain_costguard.events.steered import CircuitClosed, CircuitOpened, Granted
from langchain_costguard.observe.background import EXIT_SECONDS, Writer
from langchain_costguard.observe.log.sink import SpendLog
from langchain_costguard.observe.notify.history import SPAN, history_of
from langchain_costguard.observe.notify.ladder import Ladder, check_targets, checked_ladder, targets_in
from langchain_costguard.observe.notify.notice import CRITICAL, ERROR, WARNING, Notice, notice
from langchain_costguard.observe.notify.post import Post
from langchain_costguard.observe.notify.priced import Priced
from langchain_costguard.observe.notify.rates import HOUR, Key, Rates, Spike
from langchain_costguard.observe.notify.targets import Target
from langchain_costguard.observe.telemetry.content import redacted
from langchain_costguard.observe.witness import Source
from langchain_costguard.vocabulary.checks import called, listed, mapped
from langchain_costguard.vocabulary.money import Money, nano, show
from langchain_costguard.vocabulary.scope import Scope

Targets = Target | Sequence[Target]
History = Callable[[float], Iterable[tuple[float, Scope, int]]]
"""What was spent since a time, in its order, by whoever shares the log: ``(at, scope, nano-USD)``."""
_HEARD = (Alert, CallSettled, ToolSettled, StoreFailed, CircuitOpened, CircuitClosed, Granted, Unpriced)
_ALL: Key = ("all", "")
_LOOK = 60.0
"""Seconds between two looks into a shared log."""


class Notify:
    """Tells people: ``CostGuard(notify=Notify({0.7: Slack(url), 1.0: [PagerDuty(key), Email(...)]}))``.

    Args:
        ladder: Shares of a cap, and who is told when a budget's total passes them: once, by the process whose charge
            did; and again when it is over, because the window turned or somebody granted more.
        budgets: Ladders of their own, by a budget's label.
        others: Who is told of everything else. Default: those of the ladder's highest rung.
        spike: How many times the average hour of the day before an hour's spending must be to be told, of all and of
            each of ``dimensions``; None for never.
        floor: USD that an hour must have cost to be told.
        warm_up: Seconds of history that an average needs, before the last hour.
        per_minute: USD in one minute that are told.
        unpriced: The share of an hour's calls, or of its dollars, whose price is not known that is told.
        dimensions: What a spike is looked for in, besides all together.
        history: A spend log whose spending is that of all processes: as of ``CostGuard(log=...)``, or a callable.
            Default: the guard's own log, and without one this process alone.
        redact: What is done to names. Default: keys, cards and e-mail addresses are taken out.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        ladder: Mapping[float, Targets],
        *,
        budgets: Mapping[str, Mapping[float, Targets]] | None = None,
        others: Targets | None = None,
        spike: float | None = 3.0,
        floor: Money = "1.00",
        warm_up: float = HOUR,
        per_minute: Money | None = None,
        unpriced: float | None = None,
        dimensions: Sequence[str] = ("agent", "feature", "user"),
        history: History | str | Path | SpendLog | None = None,
        redact: Callable[[str], str] = redacted,
    ) -> None:
        _check(spike=spike, unpriced=unpriced, dimensions=dimensions)
        rungs = checked_ladder("ladder", ladder)
        mapped("budgets", {} if budgets is None else budgets, '{"team": {0.7: Slack(url)}}')
        check_targets("others", () if others is None else others)
        called("redact", redact, "a function that takes and returns a text")
        own = {label: checked_ladder(f"budgets[{label!r}]", rung) for label, rung in (budgets or {}).items()}
        others = rungs[max(rungs)] if others is None and rungs else others
        everyone = targets_in([*rungs.values(), *(t for rung in own.values() for t in rung.values()), others or ()])
        self.posts = {id(target): Post(target, f"{n}-{target.name}") for n, target in enumerate(everyone)}
        self.shares = sorted({*rungs, *(share for rung in own.values() for share in rung)})
        self._others = targets_in([others or ()])
        self._ladder = Ladder(rungs, own, redact)
        self._redact = redact
        self._dimensions = tuple(dimensions)
        self._spike = spike
        self._rates = Rates(spike or 3.0, nano(floor, "floor", zero=True), warm_up)
        self._per_minute = None if per_minute is None else nano(per_minute, "per_minute")
        self._minute: tuple[int, int] = (0, 0)
        self._unpriced = unpriced
        self._priced = Priced()
        if isinstance(history, str | Path | SpendLog):  # a log can be called, too: it is a sink
            history = history_of(history, dimensions)
        self._history = history
        self._looked = 0.0
        self._down = False
        self._source: Source | None = None
        self._timer: threading.Timer | None = None
        self._heard: Writer[Event] = Writer(self._hear, name="alerts")
        atexit.register(self.close)

    # A sink

    def bind(self, source: Source) -> None:
        """Know the windows and the store of this guard."""
        self._source = source
        self._ladder.source = source
        if self._history is None and source.log is not None:
            self._history = history_of(source.log, self._dimensions)
        for post in self.posts.values():
            post.bind(source)

    def __call__(self, event: Event) -> None:
        """Note an event; what it means is thought about behind the call."""
        if isinstance(event, _HEARD):
            self._heard.put(event)

    def test(self) -> Notice:
        """Send a notice that is a test to every target."""
        found = notice("test", f"test {time.time()}", WARNING, "This is a test of costguard's alerts.", time.time())
        self._tell(found, [post.target for post in self.posts.values()])
        return found

    def close(self, timeout: float = EXIT_SECONDS) -> None:
        """Deliver what is left; what cannot be is kept in a shared store."""
        until = time.monotonic() + timeout
        if self._timer is not None:
            self._timer.cancel()
        self._heard.flush(timeout)
        for post in self.posts.values():
            post.writer.close(max(0.0, until - time.monotonic()))

    # Behind the calls

    def _hear(self, events: list[Event]) -> None:
        while events:
            event = events[0]
            self._think(event)
            del events[:1]

    def _think(self, event: Event) -> None:
        now = event.at
        for found, targets in self._ladder.over(now):
            self._tell(found, targets)
        if isinstance(event, Alert):
            for found, targets in self._ladder.alert(event):
                self._tell(found, targets)
            self._wait_for_the_window(now)
        elif isinstance(event, Granted):
            for found, targets in self._ladder.granted(event):
                self._tell(found, targets)
        elif isinstance(event, (CallSettled, ToolSettled)):
            self._spent(event)
        elif isinstance(event, Unpriced):
            self._priced.unknown(event.model)
        else:
            self._broke(event)

    def _broke(self, event: Event) -> None:
        if isinstance(event, StoreFailed):
            if not self._down:
                self._down = True
                title = f"The store of balances does not answer; calls are handled by policy {event.policy!r}."
                self._tell(notice("store", "store", CRITICAL, title, event.at, policy=event.policy), self._others)
        elif isinstance(event, (CircuitOpened, CircuitClosed)):
            name = self._redact(event.name)
            found = notice(
                "circuit", event.name, ERROR, f"The circuit of {name} is open: it fails.", event.at, name=name
            )
            closed = isinstance(event, CircuitClosed)
            self._tell(found.over(event.at, "it works again") if closed else found, self._others)

    def _spent(self, event: CallSettled | ToolSettled) -> None:
        now, charge = event.at, event.charge - (event.charged_before or 0)
        if self._down:
            self._down = False
            title = "The store of balances does not answer."
            self._tell(notice("store", "store", CRITICAL, title, now).over(now, "it answers again"), self._others)
        self._count_minute(now, charge, event.scope)
        self._count_unpriced(event, charge)
        if self._spike is None:
            return
        if self._history is None:
            spikes = self._rates.spend(self._keys(event.scope), charge, now)
        elif now - self._looked >= _LOOK:
            self._looked = now
            spikes = self._look(self._history, now)
        else:
            return
        for spike in spikes:
            self._tell_spike(spike, now)

    def _keys(self, scope: Scope) -> list[Key]:
        return [_ALL, *((name, value) for name in self._dimensions if (value := getattr(scope, name)))]

    def _look(self, history: History, now: float) -> list[Spike]:
        self._rates.clear()
        for at, scope, charge in history(now - SPAN):
            for key in self._keys(scope):
                self._rates.seed(key, charge, at)
        return self._rates.check(now)

    def _tell_spike(self, spike: Spike, now: float) -> None:
        name, value = spike.key
        about = f"{name}={value}" if value else "all"
        if self._history is not None and not self._first(f"spike/{about}/{int(now // HOUR)}", now):
            return
        who = f"{name} {self._redact(value)}" if value else "all together"
        title = f"In the last hour {who} spent {show(spike.spent)}; an average hour takes {show(spike.average)}."
        facts = {"name": who, "spent": spike.spent, "average": spike.average}
        self._tell(notice("spike", about, ERROR, title, now, **facts), self._others)

    def _count_minute(self, now: float, charge: int, scope: Scope) -> None:
        if self._per_minute is None:
            return
        minute, spent = int(now // 60), self._minute[1] if self._minute[0] == int(now // 60) else 0
        self._minute = minute, spent + charge
        if spent < self._per_minute <= spent + charge:
            title = (
                f"{show(spent + charge)} were spent within a minute; {show(self._per_minute)} is where that is told."
            )
            facts = {"spent": spent + charge, "line": self._per_minute, "agent": self._redact(scope.agent)}
            self._tell(notice("rate", "minute", ERROR, title, now, **facts), self._others)

    def _count_unpriced(self, event: CallSettled | ToolSettled, charge: int) -> None:
        """Told once an hour."""
        if self._unpriced is None or not isinstance(event, CallSettled):
            return
        told = self._priced.count(event, charge, self._unpriced)
        if told:
            priced = self._priced
            facts = {"calls": priced.calls, "unpriced": priced.without, "share": round(told, 3)}
            title = f"{priced.without} of {priced.calls} calls this hour, and {priced.dollars:.0%} of what they cost, "
            title += "are of models of unknown price."
            self._tell(notice("unpriced", "unpriced", WARNING, title, event.at, **facts), self._others)

    def _first(self, key: str, now: float) -> bool:
        return self._source is None or self._source.once(key, now)

    def _tell(self, found: Notice, targets: Iterable[Target]) -> None:
        for target in targets:
            self.posts[id(target)].put(found)

    def _wait_for_the_window(self, now: float) -> None:
        """Tell that an alert is over when its window ends, though nothing is spent any more."""
        ends = self._ladder.next_end()
        if self._timer is not None or ends is None:
            return
        # The guard's clock says how long; a day at the most, and then another look.
        self._timer = threading.Timer(min(max(0.0, ends - now) + 0.1, 86_400.0), self._turn, [ends])
        self._timer.daemon, self._timer.name = True, "costguard-alerts"
        try:
            self._timer.start()
        except RuntimeError:  # no thread to be had, or the interpreter is ending: the next event looks again
            self._timer = None

    def _turn(self, ends: float) -> None:
        self._timer = None
        for found, targets in self._ladder.over(ends + 0.1):
            self._tell(found, targets)
        self._wait_for_the_window(ends)


def _check(*, spike: Any, unpriced: Any, dimensions: Any) -> None:
    if spike is not None and (isinstance(spike, bool) or not isinstance(spike, (int, float)) or spike <= 1):
        raise ValueError(f"spike: {spike!r} must be a number above 1, or None")
    if unpriced is not None and (
        isinstance(unpriced, bool) or not isinstance(unpriced, float) or not 0 < unpriced <= 1
    ):
        raise ValueError(f"unpriced: {unpriced!r} must be a share such as 0.1, or None")
    listed("dimensions", dimensions, f"some of {', '.join(Scope._fields)}", lambda name: name in Scope._fields)
