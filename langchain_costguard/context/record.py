"""What is remembered of a thread's compactions, and the view of its messages that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from langchain_costguard.context.messages import SUMMARY, cleared, without_thinking

Keys = Callable[[BaseMessage], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A thread's edit: of its first messages some stay, and a summary stands for the others.

    One version always gives the same bytes for the same messages: only that keeps the provider's cache.

    Attributes:
        version: Counts compactions; 0 is none yet.
        keys: Of the messages the edit is about, in order. It holds only for a thread that begins with them.
        kept: Which of them stay, by position.
        summary: What stands for the others.
        at: The position before which it goes.
        role: In whose name.
        calls: The model's replies in the thread when it was made.
        tokens: Of the prompt after it.
        cap: Tokens that stay of a tool result.
        warned: The warnings that were given.
    """

    version: int = 0
    keys: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    summary: str = ""
    at: int = 0
    role: Literal["user", "system"] = "user"
    calls: int = 0
    tokens: int = 0
    cap: int = 0
    warned: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON has it, for a checkpoint."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in _NAMES}

    @classmethod
    def from_dict(cls, read: Mapping[str, Any]) -> Record:
        """The record of such a mapping.

        Raises:
            ValueError: it is none.
        """
        try:
            given = {name: read[name] for name in _NAMES if name in read}
            known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
            return cls(**known)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"no record of a context: {error}") from None


_NAMES = [field.name for field in fields(Record)]


def holds(record: Record, messages: Sequence[BaseMessage], key: Keys) -> bool:
    """Whether the thread begins with the messages that the record is about: after time travel it may not."""
    keys = record.keys
    return len(keys) <= len(messages) and all(
        key(message) == known or cleared(message) for message, known in zip(messages, keys, strict=False)
    )


def edited(record: Record, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages as the record has them."""
    if not record.version:
        return list(messages)
    view: list[BaseMessage] = []
    summary = summary_message(record)
    for position in record.kept:
        if summary is not None and position >= record.at:
            view.append(summary)
            summary = None
        view.append(without_thinking(messages[position]))
    if summary is not None:
        view.append(summary)
    view += messages[len(record.keys) :]
    return view


def summary_message(record: Record) -> BaseMessage | None:
    """The summary as a message: in a user's name where the model takes no system message in mid-conversation."""
    if not record.summary:
        return None
    marked: dict[str, Any] = {SUMMARY: "summary"}
    if record.role == "system":
        return SystemMessage(record.summary, additional_kwargs=marked, id=f"costguard-context-{record.version}")
    return HumanMessage(record.summary, additional_kwargs=marked, id=f"costguard-context-{record.version}")
