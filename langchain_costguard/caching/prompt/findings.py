"""What the linter found: what changes in which prompt, how often, and what that costs a day."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from langchain_costguard.observe.tables import block, html_table, table
from langchain_costguard.vocabulary.money import show_all, usd

_HEADER = ("feature", "model", "where", "characters", "what", "excerpt", "calls", "since", "tokens", "a day")
_LEFT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that changes from call to call, and keeps what is behind it out of the provider's cache.

    Attributes:
        feature, model: Whose prompt.
        where: The tool or message it is in.
        start, end: Its characters there, in the last call.
        kind: What it is: ``timestamp``, ``UUID``, ``id``, ``name``, ``tool order``, ``key order``, ...
        excerpt: A few characters of it.
        times, calls: In how many of the feature's calls, of how many that had one to be compared with.
        since: Epoch seconds of the first; None where the records have no times.
        tokens: Tokens behind it, lost each time (their mean).
        per_day: Nano-USD that they cost a day more than if they were read from the cache; None where nobody knows the
            price or the times. What is behind two findings is in both: the sum is in ``Findings.per_day``.
    """

    feature: str
    model: str
    where: str
    start: int
    end: int
    kind: str
    excerpt: str
    times: int
    calls: int
    since: float | None
    tokens: int
    per_day: int | None


class Findings(Sequence[Finding]):
    """What was found, the dearest first. ``str()`` is a table; Jupyter shows it as one.

    Attributes:
        calls: Requests looked at.
        short: Those of them that are too short to be kept by their model's provider.
        skipped: A sentence for each record that could not be read.
        per_day: Nano-USD a day for all together, nothing counted twice; None where that is not known.
    """

    def __init__(
        self, found: Sequence[Finding], *, calls: int, short: int, skipped: Sequence[str], per_day: int | None
    ) -> None:
        self._found = sorted(found, key=lambda each: (-(each.per_day or 0), -each.tokens * each.times, each.start))
        self.calls = calls
        self.short = short
        self.skipped = list(skipped)
        self.per_day = per_day

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> Any:
        return self._found[index]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a finding, its cost as ``usd_per_day`` (a Decimal or None)."""
        rows = [asdict(each) for each in self._found]
        return [row | {"usd_per_day": None if (cost := row.pop("per_day")) is None else usd(cost)} for row in rows]

    def __str__(self) -> str:
        return "\n\n".join([*([table(_HEADER, self._cells(), left=_LEFT)] if self._found else []), self._said()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        found = html_table(_HEADER, self._cells(), left=_LEFT) if self._found else ""
        return block(f"{found}<p>{html.escape(self._said())}</p>")

    def _cells(self) -> list[list[str]]:
        costs = iter(show_all([each.per_day for each in self._found if each.per_day is not None]))
        return [
            [
                each.feature or "-",
                each.model,
                each.where,
                f"{each.start:,}-{each.end:,}",
                each.kind,
                each.excerpt,
                f"{each.times:,} of {each.calls:,}",
                "-" if each.since is None else datetime.fromtimestamp(each.since, UTC).strftime("%Y-%m-%d %H:%M"),
                f"{each.tokens:,}",
                "-" if each.per_day is None else next(costs),
            ]
            for each in self._found
        ]

    def _said(self) -> str:
        asked = f"{self.calls:,} requests" if self.calls != 1 else "1 request"
        if not self._found:
            text = f"Nothing breaks the prefix of {asked}."
        elif self.per_day is None:
            text = f"{asked}; what this costs a day is not known: that takes the records' times and the model's price."
        else:
            text = f"{asked}; all of this together costs {show_all([self.per_day])[0]} a day."
        return text + (f" {self.short:,} are too short to be kept by the provider." if self.short else "")
