"""What a compaction keeps: shares of the room for what is high, medium and low, and what is unused flows down.

These shares are the aim of a compaction, made now and then. To cut to them at each call would change the old part of
the prompt at each call, which the provider then reads as new.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_costguard.context.pieces import Piece, Rank

SHARES = ((Rank.HIGH, 0.30), (Rank.MEDIUM, 0.25), (Rank.LOW, 0.45))


def allocate(pieces: Sequence[Piece], tokens: Sequence[int], room: float) -> set[int]:
    """The pieces that stay, by position: what is protected, and of each rank the newest that its share has room for.

    A piece that its own share has no room for may have what the next ones leave. ``tokens`` are those of each piece.
    """
    kept = {at for at, piece in enumerate(pieces) if piece.rank is Rank.PROTECTED}
    left = 0.0
    for rank, share in SHARES:
        left += room * share
        for at in reversed(range(len(pieces))):
            if at not in kept and pieces[at].rank >= rank and tokens[at] <= left:
                kept.add(at)
                left -= tokens[at]
    return kept
