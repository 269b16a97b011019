"""What a guard's own counts tell where single calls are not kept: sums by who was spending, since it was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from langchain_costguard.observe.attribution.calls import Paid
from langchain_costguard.observe.report import Tally
from langchain_costguard.observe.witness import AccountLine, Source
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage

_PIECES = 12


class Summed:
    """Calls made of sums. Of their time it is known that they came since ``since``: a forecast's rate is that of the
    whole while."""

    def __init__(
        self, rows: Iterable[tuple[Sequence[str], Tally]], source: Source | None, since: float, now: float
    ) -> None:
        self._rows = [(Scope(*names), row) for names, row in rows]
        self._source, self._since, self._now = source, since, now

    def paid(self) -> Sequence[Paid]:
        """Each sum in equal pieces over the time."""
        found = [call for scope, row in self._rows if row.spent for call in self._pieces(scope, row)]
        return sorted(found, key=lambda call: call.at)

    def price(self, model: ModelRef, usage: Usage, at: float) -> int | None:
        """As the guard prices."""
        return self._source.price(model, usage, at) if self._source is not None else None

    def standing(self, now: float) -> tuple[Sequence[AccountLine], Mapping[str, float]]:
        """As the store has it."""
        return standing_of(self._source, now)

    def now(self) -> float:
        """When the report was made."""
        return self._now

    def _pieces(self, scope: Scope, row: Tally) -> Iterable[Paid]:
        kind, model = ("model", ModelRef("", scope.model)) if row.calls else ("tool", ModelRef("", ""))
        counts = (row.input_tokens, row.output_tokens, row.cache_read, row.cache_write, row.reasoning, row.spent)
        for n in range(_PIECES):
            parts = [count * (n + 1) // _PIECES - count * n // _PIECES for count in counts]
            usage = Usage(parts[0], parts[1], cache_read=parts[2], cache_write=parts[3], reasoning=parts[4])
            at = self._since + (self._now - self._since) * (n + 1) / _PIECES
            yield Paid(at, scope, kind, scope.model or "tools", model, usage, parts[5])


def standing_of(source: Source | None, now: float) -> tuple[Sequence[AccountLine], Mapping[str, float]]:
    """The accounts of a guard's store, and when the windows of its budgets end."""
    accounts = list(source.accounts()) if source is not None else []
    return accounts, {line.budget: source.until(line.budget, now) for line in accounts if source is not None}
