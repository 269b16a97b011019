"""The table that says what each policy would have come to on recorded conversations, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from langchain_costguard.context.context import Context
from langchain_costguard.context.replay import Measure, Outcome, Policy, whole
from langchain_costguard.context.rivals import Ours, clearing, sharing, summarising, trimmed
from langchain_costguard.context.timing import Prices

SONNET = Prices(write=3_750_000, read=300_000, output=15_000_000)
"""Claude Sonnet 4.5's and 4.6's list price."""
DEARER = 1.01
"""A conversation counts as dearer from one percent on."""


class Row(NamedTuple):
    """What a policy came to. ``money`` and ``alone`` are shares of what no policy costs, less one.

    Attributes:
        name: The policy.
        calls: Replies replayed.
        money: With what would have been fetched again.
        alone: Without that.
        tokens: Of the prompts.
        breaks: Calls whose old part had changed, of all.
        dearer: Conversations that were more than a percent dearer, of all.
        ids, words: Recall of old identifiers and of rare plain words.
        without_task: Calls without the user's task.
        stated: What its own balance said was saved, of what was.
        usd: All it cost, in dollars.
        promised: What its compactions were expected to save, when they were made: to be held against what they did.
    """

    name: str
    calls: int
    money: float
    alone: float
    tokens: float
    breaks: float
    dearer: float
    ids: float
    words: float
    without_task: int
    stated: float | None = None
    usd: float = 0.0
    promised: float = 0.0


def compare(measure: Measure, prices: Prices, *, trigger: int) -> list[Row]:
    """The policies side by side; ``trigger`` is the length in tokens at which LangChain's set in."""
    size = measure.size
    base = measure.play(whole, prices)
    policies: dict[str, Policy] = {
        "none": whole,
        "trim_messages": trimmed(trigger, size),
        "ClearToolUsesEdit": clearing(trigger, size),
        "SummarizationMiddleware": summarising(trigger, size, prices),
        "30/25/45 at each call": sharing(trigger, size),
    }
    for cap in (1_500, 400):
        policies[f"Context(cap={cap}) alone"] = Ours(Context(cap=cap), size, prices, compact=False)
        policies[f"Context(cap={cap})"] = Ours(Context(cap=cap), size, prices)
    return [_row(name, policy, measure.play(policy, prices), base) for name, policy in policies.items()]


def _row(name: str, policy: Policy, found: Sequence[Outcome], base: Sequence[Outcome]) -> Row:
    before, alone = sum(each.usd for each in base), sum(each.usd for each in found)
    calls = max(1, sum(each.calls for each in found))
    dearer = sum(a.money > b.usd * DEARER for a, b in zip(found, base, strict=True))
    stated = policy.stated / (before - alone) if isinstance(policy, Ours) and before != alone else None
    return Row(
        name,
        calls,
        sum(each.money for each in found) / before - 1 if before else 0.0,
        alone / before - 1 if before else 0.0,
        sum(each.tokens for each in found) / max(1, sum(each.tokens for each in base)) - 1,
        sum(each.breaks for each in found) / calls,
        dearer / max(1, len(found)),
        _recall([each.ids for each in found]),
        _recall([each.words for each in found]),
        sum(each.without_task for each in found),
        stated,
        sum(each.money for each in found) / 1e12,
        sum(plan.saving for plan in policy.plans) / 1e9 if isinstance(policy, Ours) else 0.0,
    )


def promises(tables: Sequence[Sequence[Row]], cap: str) -> tuple[float, float]:
    """Dollars that the compactions of ``Context(cap=...)`` were expected to save, and that they did save, in all."""
    by_name = [{row.name: row for row in rows} for rows in tables]
    name = f"Context(cap={cap})"
    return (
        sum(rows[name].promised for rows in by_name),
        sum(rows[f"{name} alone"].usd - rows[name].usd for rows in by_name),
    )


def _recall(counts: Sequence[Sequence[int]]) -> float:
    used = sum(count for _, count in counts)
    return sum(there for there, _ in counts) / used if used else 1.0


HEADER = ("policy", "money", "(no re-fetch)", "tokens", "breaks", "dearer", "ids", "words", "no task", "stated")


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The rows as texts, in the order of ``HEADER``."""
    return [
        [
            row.name,
            f"{row.money:+.1%}",
            f"{row.alone:+.1%}",
            f"{row.tokens:+.0%}",
            f"1 in {1 / row.breaks:.0f}" if row.breaks else "none",
            f"{row.dearer:.0%}",
            f"{row.ids:.3f}",
            f"{row.words:.3f}",
            f"{row.without_task:,}",
            "-" if row.stated is None else f"{row.stated:.0%}",
        ]
        for row in rows
    ]


def table(rows: Sequence[Row]) -> str:
    """The table as text."""
    lines = [list(HEADER), *cells(rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if at == 0 else cell.rjust(w) for at, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def advice(rows: Sequence[Row]) -> str:
    """What to choose, and why, in a few sentences."""
    ours = [row for row in rows if row.name.startswith("Context(")]
    safe = [row for row in ours if row.dearer <= 0.1 and row.ids >= 0.95 and row.words >= 0.9]
    best = min(safe or ours, key=lambda row: row.money)
    if best.money > -0.02:
        return (
            "No policy is worth it: these conversations are short, and the best one would change their cost by "
            f"{best.money:+.1%}. Context(cap=1500) does no harm, for its cuts break no prompt cache."
        )
    others = [row for row in rows if not row.name.startswith("Context(") and row.name != "none"]
    rival = min([row for row in others if not row.without_task] or others, key=lambda row: row.money)
    why = (
        f"{best.name} would have changed their cost by {best.money:+.1%}, with re-fetches, and the tokens a call by "
        f"{best.tokens:+.0%}; of the identifiers that later replies used {best.ids:.1%} were still there, of the rare "
        f"words {best.words:.1%}. The best of the others that keep the task, {rival.name}, comes to "
        f"{rival.money:+.1%}"
    )
    often = "at nearly every call" if rival.breaks > 0.8 else f"in {rival.breaks:.0%} of all calls"
    broke = f": it changes the old part of the prompt {often}" if rival.breaks else ""
    return f"{why}{broke}."
