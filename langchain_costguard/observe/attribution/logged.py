"""The calls of a spend log, as attribution looks at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from langchain_costguard.observe.attribution.calls import Given, Handed, Paid
from langchain_costguard.observe.attribution.summed import standing_of
from langchain_costguard.observe.log.entry import COUNTS, KINDS, NAMES, Entry
from langchain_costguard.observe.witness import AccountLine, Source
from langchain_costguard.vocabulary.calendar import WINDOWS, window_at
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage

PER = 1_000
"""Tokens that a rate is of: cheap ones take less than a nano-dollar each."""


def row_of(call: Paid, source: Source | None) -> Mapping[str, Any]:
    """What a log's row keeps of what a call was given, and of its model's prices (nano-USD for a thousand tokens)."""
    given = call.given
    if given is None:
        return {}
    handed = [[one.source, one.tokens, [digest.hex()[:8] for digest in one.messages]] for one in given.handed]
    marks = int(given.retry) + 2 * int(given.loop)
    row: dict[str, Any] = {"given": [given.history, given.documents, given.again, marks, *handed]}
    if source is not None and (rates := _rates(call, source)):
        row["rates"] = rates
    return row


class Written(Protocol):
    """What is asked of a ``Spend``."""

    @property
    def end(self) -> float:
        """Until when rows are wanted (epoch seconds)."""

    def rows(self, *kinds: str) -> Sequence[Entry]:
        """Rows of these kinds, in time's order."""

    def standings(self) -> Sequence[Any]:
        """Accounts as calls left them: ``account``, ``spent``, ``cap``."""


class Logged:
    """What ``Spend.why`` and its like are made from. ``source`` is a guard's, where one asks; else prices are those
    that rows tell, and windows those that budgets are named by (``user.day``)."""

    def __init__(self, spend: Written, source: Source | None = None) -> None:
        self._spend, self._source = spend, source
        self._paid: list[Paid] | None = None
        self._rates: dict[str, list[int]] = {}

    def paid(self) -> Sequence[Paid]:
        """The calls and tool calls of the log, in time's order; they are read once."""
        if self._paid is None:
            self._paid = [self._call(entry) for entry in self._spend.rows("model", "tool")]
        return self._paid

    def price(self, model: ModelRef, usage: Usage, at: float) -> int | None:
        """As the guard prices; without one, by the rates that were written."""
        if self._source is not None:
            return self._source.price(model, usage, at)
        rates = self._rates.get(str(model))
        if rates is None:
            return None
        fresh = usage.input_tokens - usage.cache_read - usage.cache_write
        counts = (fresh, usage.output_tokens, usage.cache_read, usage.cache_write)
        return sum(count * rate for count, rate in zip(counts, rates, strict=True)) // PER

    def standing(self, now: float) -> tuple[Sequence[AccountLine], Mapping[str, float]]:
        """As the guard's store has it; without one, as calls left it."""
        if self._source is not None:
            return standing_of(self._source, now)
        found = [_line(standing.account, standing.spent, standing.cap) for standing in self._spend.standings()]
        ends = {line.budget: _end(line.budget, now) for line in found}
        return found, ends

    def now(self) -> float:
        """The end of what is asked for."""
        return self._spend.end

    def _call(self, entry: Entry) -> Paid:
        names = dict(zip(NAMES, entry.names, strict=True))
        counts = dict(zip(COUNTS, entry.counts, strict=True))
        parts = {name: names[name] for name in Scope._fields if name in names}
        scope = Scope(**{**parts, "trace": entry.trace})
        kind = KINDS[entry.kind]
        model = ModelRef(names["provider"], names["answered"] or names["model"])
        usage = Usage(
            counts["input"], counts["output"], cache_read=counts["cache_read"], cache_write=counts["cache_write"],
            reasoning=counts["reasoning"],
        )  # fmt: skip
        if rates := entry.extra.get("rates"):
            self._rates[str(model)] = rates
        name, seconds = names["name"] or model.name, entry.millis / 1000
        return Paid(entry.at, scope, kind, name, model, usage, counts["charge"], seconds, _given(entry.extra))


def _given(extra: Mapping[str, Any]) -> Given | None:
    told = extra.get("given")
    if not told:
        return None
    history, documents, again, marks, *handed = told
    found = tuple(Handed(source, tuple(map(bytes.fromhex, ids)), tokens) for source, tokens, ids in handed)
    return Given(history, documents, again, found, bool(marks & 1), bool(marks & 2))


def _rates(call: Paid, source: Source) -> list[int]:
    usages = [Usage(input_tokens=PER), Usage(output_tokens=PER)]
    usages += [Usage(input_tokens=PER, cache_read=PER), Usage(input_tokens=PER, cache_write=PER)]
    prices = [source.price(call.model, usage, call.at) for usage in usages]
    return [price for price in prices if price is not None] if None not in prices else []


def _line(account: str, spent: int, cap: int) -> AccountLine:
    return AccountLine(account.partition("|")[0], account, account.rpartition("|")[2], spent, 0, cap)


def _end(budget: str, now: float) -> float:
    window = budget.rpartition(".")[2]
    return window_at(window, "UTC", now)[1] if window in WINDOWS else float("inf")  # type: ignore[arg-type]
