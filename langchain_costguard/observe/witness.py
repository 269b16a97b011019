"""What an observer is given beside events: the runs themselves as they begin and end, and a look at the accounts.

Events hold no text and know of no run that spends nothing. Who needs either (spans of agents, a log of prompts) is a
``Witness``; a guard passes itself in as a ``Source``. Nothing here is called for a guard without witnesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage


class Began(NamedTuple):
    """A run begins: ``kind`` is ``chain``, ``model`` or ``tool``; ``said`` is what it is given (messages, a prompt,
    a tool's arguments), ``params`` are the request's own."""

    kind: str
    run_id: UUID
    parent: UUID | None
    name: str
    said: Any
    params: Mapping[str, Any]
    metadata: Mapping[str, Any]


class AccountLine(NamedTuple):
    """One account of a store, in its own unit (nano-USD, milliseconds, or a count)."""

    budget: str
    account: str
    measure: str
    spent: int
    held: int
    cap: int


@runtime_checkable
class Witness(Protocol):
    """Sees runs. Called on the thread or event loop of the call; an error of its own is logged once."""

    def began(self, run: Began) -> None:
        """A run begins, before it is admitted or refused."""

    def whose(self, run_id: UUID, scope: Scope) -> None:
        """Who is spending in a model's run; before whoever comes after us is told that it begins."""

    def ended(self, run_id: UUID, outcome: Any, error: BaseException | None) -> None:
        """A run is over, and settled: with its reply or output, or with an error."""

    def beside(self, run_id: UUID, handlers: Sequence[Any]) -> None:
        """Who else is told of a model's run, where the frame of it is ours; before it is admitted."""

    def within(self, kind: str, run_id: UUID | None, name: str) -> AbstractContextManager[None]:
        """Around the body of a run whose frame is the guard's or steering's own."""


class Source(Protocol):
    """What a guard lets observers look at, and do in its store."""

    shared: bool
    """Whether other processes see the same store."""

    log: Any
    """The guard's spend log, where other processes write to it, too; else None."""

    def accounts(self) -> Iterable[AccountLine]:
        """Every account of the store; empty where it does not answer."""

    def price(self, model: ModelRef, usage: Usage, at: float) -> int | None:
        """What a usage costs (nano-USD) of a model at a time; None where nobody knows."""

    def until(self, budget: str, at: float) -> float:
        """When (epoch seconds) the window that ``at`` lies in ends, of the budget of this label; infinite without."""

    def once(self, key: str, at: float) -> bool:
        """Whether nobody has asked with this key before, in any process that shares the store, for 400 days."""

    def keep(self, name: str, text: str | None) -> None:
        """Keep a text in the store, or with None drop it; does nothing where the store does not answer."""

    def kept(self) -> Mapping[str, str]:
        """The texts that were kept, by whoever shares the store."""


@runtime_checkable
class Bound(Protocol):
    """A sink that wants to look at the guard whose events it receives."""

    def bind(self, source: Source) -> None:
        """Called once by each guard it becomes a sink of."""
