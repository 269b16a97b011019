"""One compaction: which messages stay, and the summary that stands for the others. Pure, and the same each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from langchain_costguard.context.pieces import Piece, Rank, Rule, pieces_of
from langchain_costguard.context.record import Keys, Record
from langchain_costguard.context.shares import allocate

Size = Callable[[BaseMessage], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a compaction is to leave: the newest messages, what is protected, and ``room`` tokens of the rest."""

    keep: int = 4
    room: int = 2_000
    protect: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Cut:
    """A compaction before it has its summary: the thread's first ``covered`` messages, and which of them stay."""

    covered: int
    kept: tuple[int, ...]
    at: int

    @property
    def dropped(self) -> list[int]:
        """Those that a summary stands for, by position."""
        stays = set(self.kept)
        return [position for position in range(self.covered) if position not in stays]


def choose(messages: Sequence[BaseMessage], sizes: Sequence[int], aim: Aim) -> Cut | None:
    """What goes; None where there is nothing that may."""
    pieces = pieces_of(messages, aim.protect)
    newest = _newest(pieces, len(messages), aim.keep)
    tokens = [sum(sizes[piece.first : piece.end]) for piece in pieces]
    fixed = [piece._replace(rank=Rank.PROTECTED) if at >= newest else piece for at, piece in enumerate(pieces)]
    stay = _mended(messages, pieces, fixed, allocate(fixed, tokens, aim.room))
    last = max((at for at in range(newest) if at not in stay), default=-1)
    if last < 0:
        return None
    covered = pieces[last].end
    kept = [m for at in sorted(stay) if at < last for m in range(pieces[at].first, pieces[at].end)]
    head = [m for at in sorted(stay) if at < last and pieces[at].head for m in range(pieces[at].first, pieces[at].end)]
    return Cut(covered, tuple(kept), head[-1] + 1 if head else 0)


def _mended(
    messages: Sequence[BaseMessage], pieces: Sequence[Piece], fixed: Sequence[Piece], stay: set[int]
) -> set[int]:
    """The same, without a tool's result that a user answers in the model's place: Mistral refuses that."""
    stay = set(stay)
    for at in range(len(pieces) - 1, -1, -1):
        after = next((later for later in range(at + 1, len(pieces)) if later in stay), None)
        if at not in stay or after is None or after == at + 1:
            continue
        if isinstance(messages[pieces[at].end - 1], ToolMessage) and isinstance(
            messages[pieces[after].first], HumanMessage
        ):
            if fixed[at].rank is Rank.PROTECTED:
                stay.add(at + 1)
            else:
                stay.discard(at)
    return stay


def _newest(pieces: Sequence[Piece], messages: int, keep: int) -> int:
    """The piece from which on all stay: the last ``keep`` messages are in there, and calls that are pending."""
    for at, piece in enumerate(pieces):
        if piece.end > messages - max(1, keep):
            return at
    return len(pieces)


def record_of(
    cut: Cut, summary: str, messages: Sequence[BaseMessage], key: Keys, before: Record, *, calls: int, tokens: int
) -> Record:
    """The record of a compaction."""
    return Record(
        version=before.version + 1,
        keys=tuple(key(message) for message in messages[: cut.covered]),
        kept=cut.kept,
        summary=summary,
        at=cut.at,
        role=before.role,
        calls=calls,
        tokens=tokens,
        cap=before.cap,
        warned=before.warned,
    )
