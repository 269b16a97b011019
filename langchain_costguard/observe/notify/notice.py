"""One thing that somebody has to know, in words and in figures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from langchain_costguard.vocabulary.money import show

WARNING, ERROR, CRITICAL = "warning", "error", "critical"


@dataclass(frozen=True, slots=True)
class Notice:
    """What is delivered.

    Attributes:
        id: The same at every try: receivers drop what they have seen.
        kind: ``budget``, ``spike``, ``rate``, ``unpriced``, ``circuit``, ``store`` or ``test``.
        key: What it is about; a notice that is ``resolved`` has the key of the one it ends.
        severity: ``warning``, ``error`` or ``critical``.
        title: One sentence.
        facts: Figures: money in nano-USD, shares as numbers.
        at: Epoch seconds.
        resolved: It is over.
    """

    id: str
    kind: str
    key: str
    severity: str
    title: str
    facts: dict[str, Any]
    at: float
    resolved: bool = False

    @property
    def type(self) -> str:
        """The event's name: ``costguard.alert.budget``, with ``.resolved`` where it is over."""
        return f"costguard.alert.{self.kind}{'.resolved' if self.resolved else ''}"

    @property
    def time(self) -> str:
        """When, as ISO 8601 writes it."""
        return datetime.fromtimestamp(self.at, UTC).isoformat()

    def over(self, at: float, why: str) -> Notice:
        """The notice that this one is over."""
        title = f"Resolved ({why}): {self.title}"
        return replace(self, id=_id(self.key, at, "resolved"), title=title, at=at, resolved=True)

    def to_text(self) -> str:
        """For a store, where it waits to be delivered."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Notice:
        """What ``to_text`` wrote."""
        return cls(**json.loads(text))


def notice(kind: str, about: str, severity: str, title: str, at: float, **facts: Any) -> Notice:
    """A notice of something now; ``about`` names the account or the scope, and leaves this process as a hash only."""
    digest = hashlib.blake2b(about.encode(), digest_size=8).hexdigest()
    key = f"costguard:{kind}:{digest}"
    return Notice(_id(key, at, kind), kind, key, severity, title, facts, at)


def severity_of(share: float) -> str:
    """Of a rung of the ladder: below the cap a warning, at it an error, above it critical."""
    return WARNING if share < 1 else ERROR if share <= 1 else CRITICAL


def amount(measure: str, value: int) -> str:
    """An account's amount in words."""
    if measure == "usd":
        return show(value)
    return f"{value / 1000:,.1f} s" if measure == "seconds" else f"{value:,} {measure.replace('_', ' ')}"


def _id(key: str, at: float, what: str) -> str:
    return f"msg_{hashlib.blake2b(f'{key}|{at!r}|{what}'.encode(), digest_size=12).hexdigest()}"
