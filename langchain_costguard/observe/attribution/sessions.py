"""What a call was given, told apart as it is made: what its session had said before, what other agents had, and what is
new. Of requests digests are kept, of the latest answers the text, to be found inside of other prompts: in memory alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from langchain_costguard.observe.attribution.calls import Given, Handed, Piece, pieces_of, reply_of, text_of
from langchain_costguard.vocabulary.scope import Scope

_MOST = 1_000
"""Sessions that are followed; beyond it those not heard of for longest are forgotten."""
_REPLIES = 16
"""Answers of a session that are looked for inside of what is sent next."""
_TEXT = 8_000
"""Characters that are kept of each."""
_TELLING = 12
"""Characters below which a text ("yes") is nobody's."""
_WORDS = 5
_SHARE = 0.6
"""A text holds an answer if it has this share of the answer's runs of five words: prompts shorten and mark up."""


class _Reply(NamedTuple):
    agent: str
    piece: Piece
    text: str


class _Session:
    def __init__(self) -> None:
        self.sent: set[bytes] = set()
        self.written: dict[bytes, str] = {}
        self.replies: deque[_Reply] = deque(maxlen=_REPLIES)
        self.holds: dict[bytes, tuple[_Reply, ...]] = {}
        self.requests: set[tuple[bytes, ...]] = set()
        self.steps: set[tuple[str, bytes]] = set()


class Look(NamedTuple):
    """A request as its session saw it. Sizes are in characters."""

    pieces: tuple[Piece, ...]
    kinds: dict[str, int]
    handed: dict[str, list[tuple[bytes, int]]]
    again: int
    retry: bool


class Sessions:
    """The sessions of this process, and what was said in each."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, scope: Scope, said: Any) -> Look:
        """Tell apart what a model is given."""
        pieces = pieces_of(said)
        kinds, again = {"history": 0, "documents": 0}, 0
        handed: dict[str, list[tuple[bytes, int]]] = {}
        with self._lock:
            session = self._session(scope.session)
            for piece, message in zip(pieces, [said] if isinstance(said, str) else said or (), strict=False):
                author = session.written.get(piece.digest)
                if author is not None and author != scope.agent:
                    handed.setdefault(author, []).append((piece.digest, piece.size))
                    again += piece.size
                    continue
                left = piece.size
                for reply in _held(session, piece, message, scope.agent):
                    size = min(left, reply.piece.size)
                    handed.setdefault(reply.agent, []).append((reply.piece.digest, size))
                    left -= size
                again += piece.size - left
                if piece.digest in session.sent or author is not None:
                    kinds["history"] += left
                    again += left
                elif piece.role in ("tool", "function"):
                    kinds["documents"] += left
            request = tuple(piece.digest for piece in pieces)
            retry = bool(pieces) and request in session.requests
            session.requests.add(request)
        return Look(pieces, kinds, handed, again, retry)

    def answered(self, scope: Scope, look: Look, outcome: Any, tokens: int) -> Given:
        """What the call was given, in its own ``tokens`` of input; what it answered is known from now on."""
        replies = reply_of(outcome)
        whole = sum(piece.size for piece in look.pieces)

        def of(size: int) -> int:
            return tokens * size // whole if whole else 0

        with self._lock:
            session = self._session(scope.session)
            steps = [(scope.agent, piece.asks) for piece, _ in replies if piece.asks]
            loop = bool(steps) and all(step in session.steps for step in steps)
            session.steps.update(steps)
            session.sent.update(piece.digest for piece in look.pieces if _tells(piece))
            for piece, text in replies:
                if _tells(piece) and piece.digest not in session.written:
                    session.written[piece.digest] = scope.agent
                    session.replies.append(_Reply(scope.agent, piece, text[:_TEXT]))
        handed = tuple(
            Handed(source, tuple(digest for digest, _ in found), of(sum(size for _, size in found)))
            for source, found in look.handed.items()
        )
        kinds = look.kinds
        return Given(of(kinds["history"]), of(kinds["documents"]), of(look.again), handed, look.retry, loop)

    def _session(self, name: str) -> _Session:
        session = self._known.setdefault(name, _Session())
        self._known.move_to_end(name)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return session


def _held(session: _Session, piece: Piece, message: Any, agent: str) -> Sequence[_Reply]:
    """The answers of other agents that a text holds among other things."""
    held = session.holds.get(piece.digest)
    if held is None:
        others = [reply for reply in session.replies if reply.agent != agent]
        if not others or not _tells(piece) or piece.digest in session.sent or piece.digest in session.written:
            return ()
        text = _runs(text_of(message))
        held = tuple(reply for reply in others if _is_in(_runs(reply.text), text))
        if held:
            session.holds[piece.digest] = held
    return [reply for reply in held if reply.agent != agent]


def _is_in(runs: frozenset[int], text: frozenset[int]) -> bool:
    return bool(runs) and len(runs & text) >= _SHARE * len(runs)


@lru_cache(256)
def _runs(text: str) -> frozenset[int]:
    words = text.split()
    return frozenset(hash(tuple(words[n : n + _WORDS])) for n in range(max(0, len(words) - _WORDS + 1)))


def _tells(piece: Piece) -> bool:
    return piece.size >= _TELLING
