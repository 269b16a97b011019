"""What a cache of exact answers does, wherever it keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from langchain_costguard.caching.entry import Entry, Stock, Wanted
    from langchain_costguard.caching.rules import Rules


class CacheError(Exception):
    """The cache did not answer, or not in time. Steering goes on as if there were none, and says so once."""


class Answers(Protocol):
    """Answers by key (64 hex digits). ``now`` and ``until`` are epoch seconds. Any verb may raise ``CacheError``."""

    rules: Rules

    def get(self, key: str, *, now: float) -> Entry | None:
        """The answer, if there is one and it has not expired; the one asked for last is forgotten last."""

    def put(self, key: str, entry: Entry, *, now: float) -> None:
        """Remember an answer; an earlier one under this key is replaced."""

    def claim(self, key: str, holder: str, *, until: float, now: float) -> bool:
        """Take it upon oneself to get the answer, until then at the longest; false while another has."""

    def release(self, key: str, holder: str) -> None:
        """Let others have a try; does nothing where the claim is not (or no more) the holder's."""

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""
