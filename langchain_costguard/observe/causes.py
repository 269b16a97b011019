"""Failures and refusals in a spend log, like with like: what happened, where, and the first thing to look at."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from langchain_costguard.observe.log.entry import COUNTS, KINDS, NAMES, Entry
from langchain_costguard.observe.spend import Spend

_CHARGE = COUNTS.index("charge")
_ASKED = ("refused", "voided", "model", "tool", "expired", "action")
_ACTIONS = {
    "LoopDetected": "an agent repeats itself",
    "CircuitOpened": "it failed again and again, and was left alone",
    "Rejected": "a person said no",
    "EndedEarly": "the run was ended with what there was",
}


class Cause(NamedTuple):
    """Like failures together; ``spent`` (nano-USD) is what they cost nevertheless."""

    what: str
    where: str
    why: str
    times: int
    spent: int


def causes(spend: Spend) -> list[Cause]:
    """What failed and was refused, by cause, the most frequent first."""
    times, spent = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for row in spend.rows(*_ASKED):
        key = _cause(row)
        if key is not None:
            times[key] += 1
            spent[key] += row.counts[_CHARGE]
    found = (Cause(*key, count, spent[key]) for key, count in times.items())
    return sorted(found, key=lambda cause: (-cause.times, cause[:3]))


def _cause(row: Entry) -> tuple[str, str, str] | None:
    names = dict(zip(NAMES, row.names, strict=True))
    kind, status = KINDS[row.kind], names["status"]
    where = names["agent"] or names["feature"] or names["step"] or "-"
    about = names["name"] or names["model"]
    if kind == "refused":
        budget = row.extra.get("budget")
        why = f"budget {budget} is spent" if budget else status
        return f"refused {about}".strip(), where, why
    if kind == "voided":
        return f"{about} failed", where, "the provider refused it unbilled"
    if kind == "expired":
        return f"{about} was never heard of again", where, "its process died, or it was cancelled"
    if kind == "action":
        return (f"{status} {about}".strip(), where, _ACTIONS[status]) if status in _ACTIONS else None
    if status in ("ok", ""):
        return None
    return f"{about} {status}", where, "the tool raised" if kind == "tool" else "it broke off after it had begun"
