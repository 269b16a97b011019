"""The linter beside a running program: it looks at each request as it is made, and tells of each finding once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from langchain_costguard.caching.prompt.linter import Linter
from langchain_costguard.caching.prompt.records import Part, Record, message_part, text_of, tool_part
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.vocabulary.money import show

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from langchain_costguard.caching.prompt.findings import Finding
    from langchain_costguard.caching.prompt.prompt import Prompt

_SURE = 3
"""Times that something has changed before it is told."""
_MOST = 50
"""Pairs of feature and model watched: of each, eight prompts are kept whole."""
_ROLES = {"human": "user", "ai": "assistant"}


class Watching:
    """Requests of this process, whatever thread they are made on. A look takes some milliseconds, and a tenth of a
    second or more where much has changed in a long prompt: too long for an event loop."""

    def __init__(self, book: PriceBook) -> None:
        self._linter = Linter(book, most=_MOST)
        self._told: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    def see(self, prompt: Prompt, *, model: str, feature: str, now: float) -> list[Finding]:
        """Look at a request; returns what was found that is new."""
        record = Record(
            at=now,
            feature=feature,
            model=model,
            tools=[tool_part(schema, number) for number, schema in enumerate(prompt.schemas, 1)],
            messages=[_part(message, number) for number, message in enumerate([*prompt.head, *prompt.rest], 1)],
        )
        with self._lock:
            self._linter.add(record)
            found = self._linter.found_in(feature, model, least=_SURE)
            new = [each for each in found if _key(each) not in self._told]
            self._told |= {_key(each) for each in new}
        return new


def sentence(finding: Finding) -> str:
    """A finding in one sentence, without a word of the prompt."""
    cost = "" if finding.per_day is None else f", which costs {show(finding.per_day)} a day"
    where = f"{finding.where}, characters {finding.start:,}-{finding.end:,}"
    return (
        f"{finding.kind} in {where}, changed in {finding.times:,} "
        f"of {finding.calls:,} calls and keeps {finding.tokens:,} tokens out of the provider's cache{cost}"
    )


def _key(finding: Finding) -> tuple[str, ...]:
    return finding.feature, finding.model, finding.where, finding.kind


def _part(message: BaseMessage, number: int) -> Part:
    role = _ROLES.get(message.type.lower().removesuffix("messagechunk"), message.type)
    calls: Any = getattr(message, "tool_calls", None)
    called = "".join(f"\n{call['name']}({text_of(call['args'])})" for call in calls) if calls else ""
    return message_part(role, text_of(message.content) + called, number)
