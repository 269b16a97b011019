"""Caps from what was really spent: by agent and by feature, what a session took, and whom a cap would have stopped.

A budget must have room for the most that the next call can cost, which is held before it is made. So a session
*needed*, at some moment, what it had spent and what was held on top: caps are made from that, and judged by it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from langchain_costguard.observe.spend import Spend
from langchain_costguard.vocabulary.money import NANO, show_all, usd

MARGIN = 0.25
"""What is added to the 99th percentile."""
ENOUGH = 20
"""Sessions from which on a 99th percentile says more than the worst one."""
_BY = ("agent", "feature")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A cap per session on one agent or feature; money is nano-USD.

    Attributes:
        dimension, name: what it caps.
        sessions: how many spent something there.
        p50, p95, p99, worst: what they spent.
        needed: what all but one in a hundred needed at the most (of few sessions: all), holds included.
        cap: that and the margin, rounded up to two digits.
        stopped: how many of the sessions it would have stopped.
    """

    dimension: str
    name: str
    sessions: int
    p50: int
    p95: int
    p99: int
    worst: int
    needed: int
    cap: int
    stopped: int


def suggest(spend: Spend, *, margin: float = MARGIN) -> list[Suggestion]:
    """A cap for each agent and each feature that has a name, the dearest first.

    Raises:
        ValueError: the margin is no share.
        LogError: the log does not answer.
    """
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0 <= margin <= 100:
        raise ValueError(f"margin: {margin!r} must be a share such as 0.25")
    found = []
    for dimension in _BY:
        sessions: dict[tuple[str, str], tuple[int, int]] = {}
        for name, session, held, charge in spend.course(dimension):
            if name and session:
                spent, needed = sessions.get((name, session), (0, 0))
                sessions[name, session] = spent + charge, max(needed, spent + max(held, charge))
        by_name: dict[str, list[tuple[int, int]]] = {}
        for (name, _), took in sessions.items():
            if took[0] > 0:
                by_name.setdefault(name, []).append(took)
        made = [_suggestion(dimension, name, took, margin) for name, took in by_name.items()]
        found += sorted(made, key=lambda each: (-each.cap, each.name))
    return found


def to_toml(suggestions: Sequence[Suggestion], *, margin: float = MARGIN, of: str = "") -> str:
    """A file of budgets, ready to use; what each cap is from stands above it."""
    lines = [
        f"# Budgets from what was spent{of}: what all but one session in a hundred needed, and {margin:.0%} more",
        f"# (of fewer than {ENOUGH} sessions: what all of them needed). Needed is what was spent and, on top, held.",
        "# Check it with: costguard config check FILE; use it with CostGuard.from_file(FILE) or COSTGUARD_CONFIG=FILE.",
    ]
    for each in suggestions:
        half, most, nearly, worst, needed = show_all([each.p50, each.p95, each.p99, each.worst, each.needed])
        sessions = f"{each.sessions:,} session{'' if each.sessions == 1 else 's'}"
        name = json.dumps(each.name, ensure_ascii=False)
        label = json.dumps(f"{each.dimension} {each.name}", ensure_ascii=False)
        lines += [
            "",
            f"# {sessions} spent: p50 {half}, p95 {most}, p99 {nearly}, the worst {worst}; needed {needed}.",
            f"# This cap would have stopped {each.stopped:,} of them.",
            "[[budgets]]",
            f"name = {label}",
            f'per = ["session", "{each.dimension}"]',
            f"only = {{ {each.dimension} = {name} }}",
            f'usd = "{usd(each.cap).normalize():f}"',
        ]
    return "\n".join(lines) + "\n"


def _suggestion(dimension: str, name: str, took: Sequence[tuple[int, int]], margin: float) -> Suggestion:
    """Of what each session spent, and needed."""
    amounts, needs = sorted(spent for spent, _ in took), sorted(needed for _, needed in took)
    needed = _at(needs, 0.99) if len(needs) >= ENOUGH else needs[-1]
    cap = _rounded_up(int(needed * (1 + Decimal(str(margin)))))
    stopped = sum(need > cap for need in needs)
    p99, worst = _at(amounts, 0.99), amounts[-1]
    return Suggestion(
        dimension, name, len(amounts), _at(amounts, 0.5), _at(amounts, 0.95), p99, worst, needed, cap, stopped
    )  # fmt: skip


def _at(ordered: Sequence[int], share: float) -> int:
    """The smallest value that so large a share of them does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _rounded_up(amount: int) -> int:
    """Two digits that count, in whole micro-USD at the least."""
    step: int = max(10 ** (len(str(amount)) - 2), NANO // 1_000_000)
    return -(-amount // step) * step
