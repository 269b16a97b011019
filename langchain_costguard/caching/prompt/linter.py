"""Finds what breaks the prefix that requests could share: each is laid beside the most similar one before it."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_costguard.caching.prompt.breaks import LEAST_BEHIND, Break, compare, flat
from langchain_costguard.caching.prompt.findings import Finding, Findings
from langchain_costguard.caching.prompt.gaps import HOUR
from langchain_costguard.caching.prompt.kinds import TEXT
from langchain_costguard.caching.prompt.records import Record, record_of
from langchain_costguard.metering.pricing.estimate import Estimator
from langchain_costguard.metering.pricing.minimums import least_tokens
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.vocabulary.usage import ModelRef

if TYPE_CHECKING:
    from langchain_costguard.metering.pricing.rates import Rates

_KEPT = 8
"""Requests of a feature and model that the next one is compared with: as many conversations may go on at once."""
_COUNTS = 500
"""Changes of a feature and model that are counted; of more, those seen least often are forgotten."""
_OFTEN = 0.02
"""The share of calls from which on a change is no new version of the prompt, but a habit."""
_DAY = 86_400.0


class _Seen(NamedTuple):
    record: Record
    text: str
    lines: frozenset[str]


@dataclass(slots=True)
class _Count:
    times: int = 0
    behind: int = 0
    since: float | None = None
    last: Break | None = None


@dataclass(slots=True)
class _Group:
    """The requests of one feature and model."""

    calls: int = 0
    compared: int = 0
    short: int = 0
    lost: int = 0
    first: float | None = None
    latest: float | None = None
    recent: deque[_Seen] = field(default_factory=lambda: deque(maxlen=_KEPT))
    counts: dict[tuple[str, ...], _Count] = field(default_factory=dict)
    chars_per_token: float = 0.0


class Linter:
    """Looks at requests in the order they were made.

    Args:
        book: What tokens cost.
        most: Pairs of feature and model remembered; those not seen for longest are forgotten. None: all.
    """

    def __init__(self, book: PriceBook | None = None, *, most: int | None = None) -> None:
        self._book = book or PriceBook()
        self._most = most
        self._estimator = Estimator()
        self._groups: OrderedDict[tuple[str, str], _Group] = OrderedDict()

    def add(self, record: Record) -> None:
        """Look at one more request."""
        key = record.feature, record.model
        group = self._groups.setdefault(key, _Group())
        self._groups.move_to_end(key)
        if self._most is not None and len(self._groups) > self._most:
            self._groups.popitem(last=False)
        text, _ = flat(record.tools, record.messages)
        seen = _Seen(record, text, frozenset(text.splitlines()))
        if not group.chars_per_token:
            group.chars_per_token = len(text) / max(1, self._estimator.estimate_text(_ref(record.model), text).tokens)
        group.calls += 1
        if record.at is not None:
            group.first = record.at if group.first is None else min(group.first, record.at)
            group.latest = record.at if group.latest is None else max(group.latest, record.at)
        if len(text) < least_tokens(record.model) * group.chars_per_token:
            group.short += 1
        else:
            self._compare(group, seen)
        group.recent.append(seen)

    def _compare(self, group: _Group, seen: _Seen) -> None:
        others = [other for other in group.recent if _in_time(other.record, seen.record)]
        if not others:
            return
        group.compared += 1
        prefixes = {id(other): _shared(other.text, seen.text) for other in others}
        nearest = max(others, key=lambda other: (_alike(other, seen), prefixes[id(other)]))
        found = compare(nearest.record, seen.record)
        if found.shared < least_tokens(seen.record.model) * group.chars_per_token:
            return
        reached = max(prefixes.values())
        breaks = [each for each in found.breaks if each.at + (each.end - each.start) >= reached]
        group.lost += breaks[0].behind if breaks else 0
        for each in {_key(each): each for each in reversed(breaks)}.values():
            count = group.counts.setdefault(_key(each), _Count(since=seen.record.at))
            count.times += 1
            count.behind += each.behind
            count.last = each
        while len(group.counts) > _COUNTS:
            del group.counts[min(group.counts, key=lambda key: group.counts[key].times)]

    def found_in(self, feature: str, model: str, *, least: int = 1) -> list[Finding]:
        """What was found in a feature's prompts to a model: changes that are a habit, seen ``least`` times or more."""
        group = self._groups.get((feature, model), _Group())
        often = max(least, min(2, group.compared), _OFTEN * group.compared)
        return [self._finding(feature, model, group, count) for count in group.counts.values() if count.times >= often]

    def findings(self, skipped: Iterable[str] = ()) -> Findings:
        """What was found in all of them."""
        found: list[Finding] = []
        total: int | None = 0
        for (feature, model), group in self._groups.items():
            mine = self.found_in(feature, model)
            found += mine
            cost = self._per_day(group, model, group.lost) if mine else 0
            total = None if total is None or cost is None else total + cost
        groups = self._groups.values()
        calls, short = sum(group.calls for group in groups), sum(group.short for group in groups)
        return Findings(found, calls=calls, short=short, skipped=list(skipped), per_day=total)

    def _finding(self, feature: str, model: str, group: _Group, count: _Count) -> Finding:
        last = count.last
        assert last is not None
        return Finding(
            feature=feature,
            model=model,
            where=last.where,
            start=last.start,
            end=last.end,
            kind=last.kind,
            excerpt=last.excerpt,
            times=count.times,
            calls=group.compared,
            since=count.since,
            tokens=round(count.behind / count.times / group.chars_per_token),
            per_day=self._per_day(group, model, count.behind),
        )

    def _per_day(self, group: _Group, model: str, chars: int) -> int | None:
        """Nano-USD that so many characters cost more at the plain price than read from the cache, a day."""
        rates = self._rates(model, group.latest)
        if rates is None or group.first is None or group.latest is None or group.latest <= group.first:
            return None
        days = (group.latest - group.first) * group.calls / (group.calls - 1) / _DAY
        pico = chars / group.chars_per_token * max(0, rates.input - rates.cache_read)
        return round(pico / 1_000 / days)

    def _rates(self, model: str, at: float | None) -> Rates | None:
        return None if at is None else self._book.rates(_ref(model), at)


def lint_prompts(records: Iterable[Any], *, prices: PriceBook | None = None) -> Findings:
    """Find what keeps the prompts of these requests from being read from the provider's cache.

    A record is a mapping as in the file of ``costguard lint-prompts``: ``{"at", "feature", "model", "messages",
    "tools"}``. One that cannot be read is told in ``Findings.skipped``.
    """
    if isinstance(records, (str, bytes, Mapping)) or not isinstance(records, Iterable):
        raise ValueError(f"records: {records!r} must be mappings, one after the other")
    read: list[Record] = []
    skipped: list[str] = []
    for number, row in enumerate(records, 1):
        try:
            read.append(record_of(row))
        except ValueError as error:
            skipped.append(f"record {number}: {error}")
    return lint(read, skipped, prices=prices)


def lint(records: Iterable[Record], skipped: Iterable[str] = (), *, prices: PriceBook | None = None) -> Findings:
    """Find what breaks the prefix of these requests, in the order of their times."""
    linter = Linter(prices)
    for record in sorted(records, key=lambda record: record.at or 0.0):
        linter.add(record)
    return linter.findings(skipped)


def _ref(model: str) -> ModelRef:
    provider, _, name = model.rpartition(":")
    return ModelRef(provider, name)


def _in_time(before: Record, now: Record) -> bool:
    """Whether a provider may still have kept the former prompt."""
    return before.at is None or now.at is None or now.at - before.at <= HOUR


_DIGITS = re.compile(r"\d+")


def _alike(a: _Seen, b: _Seen) -> int:
    """How much of two prompts is in the same lines, roughly: the user's question makes none more alike."""
    return sum(map(len, a.lines & b.lines)) // LEAST_BEHIND


def _key(each: Break) -> tuple[str, ...]:
    """What makes two breaks the same: place, kind and the words in front, whatever numbers are in them."""
    return each.where, each.kind, "" if each.kind == TEXT else _DIGITS.sub("#", each.before)


def _shared(a: str, b: str) -> int:
    """Characters that two texts begin with alike."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low
