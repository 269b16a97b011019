"""What is said when a program has ended: the table, what was refused and why, and the report as JSON."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from langchain_costguard.cli.gauge import Gauge
from langchain_costguard.cli.program import Ending
from langchain_costguard.cli.words import count
from langchain_costguard.vocabulary.errors import CostGuardError
from langchain_costguard.vocabulary.money import show, usd

STOPPED = 75
"""Exit status when the guard stopped the program (``EX_TEMPFAIL``: nothing is wrong with the program)."""


def refusal_in(error: BaseException | None) -> CostGuardError | None:
    """The refusal that an error is, was caused by, or was raised while handling; groups are searched, too."""
    seen: set[int] = set()
    queue = [error]
    while queue:
        found = queue.pop(0)
        if found is None or id(found) in seen:
            continue
        if isinstance(found, CostGuardError):
            return found
        seen.add(id(found))
        queue += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            queue += found.exceptions
    return None


def reason_of(ending: Ending) -> str:
    """One word for how a program ended."""
    error = ending.error
    if error is None:
        return "finished"
    if isinstance(error, SystemExit):
        return "exited"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "refused" if refusal_in(error) is not None else "failed"


def table_of(gauge: Gauge) -> str:
    """Who spent what; empty where nothing was metered."""
    report = gauge.guard.report()
    return str(report.by("agent", "model", "step")) if report.rows else ""


def sentences(gauge: Gauge, ending: Ending) -> list[str]:
    """What became of the run, in a sentence or two."""
    total = gauge.guard.report().total
    spent = f"{show(total.spent)} for {count(total.calls, 'model call')} and {count(total.tool_calls, 'tool call')}"
    refusal = refusal_in(ending.error) if reason_of(ending) == "refused" else None
    if refusal is not None:
        said = [f"stopped by the guard after {spent}.", str(refusal)]
        others = total.refused - 1
        return said + ([f"{count(others, 'other call')} {_was(others)} refused before."] if others > 0 else [])
    if not (total.calls or total.tool_calls or total.refused or total.saved):
        return ["no call of LangChain was seen; what a program asks of a provider without LangChain is not metered."]
    word = {"finished": "finished", "exited": "ended", "interrupted": "was interrupted"}.get(
        reason_of(ending), "failed"
    )
    said = [f"the program {word}; it spent {spent}."]
    if total.refused and gauge.reasons:
        said.append(f"{count(total.refused, 'call')} {_was(total.refused)} refused. First: {gauge.reasons[0].message}")
    return said


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def check_writable(file: str) -> None:
    """Raise ValueError where ``file`` cannot be written."""
    path = Path(file)
    folder = path.parent
    if not folder.is_dir():
        raise ValueError(f"--json: there is no directory {str(folder)!r}")
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise ValueError(f"--json: {file!r} cannot be written")


def write_json(file: str, gauge: Gauge, ending: Ending, status: int, words: list[str]) -> None:
    """Write the report; money is text, so that no reader rounds it."""
    report = gauge.guard.report()
    refusal = refusal_in(ending.error) if reason_of(ending) == "refused" else None
    kinds = Counter((e.error, e.kind, e.name, e.scope.agent) for e in gauge.reasons)
    first = {(e.error, e.kind, e.name, e.scope.agent): e.message for e in reversed(gauge.reasons)}
    content = {
        "program": words,
        "exit": {"status": status, "reason": reason_of(ending), "message": str(refusal) if refusal else None},
        "limits": _limits(gauge),
        "total": {k: _plain(v) for k, v in report.by().to_dicts()[0].items()} if report.rows else {},
        "rows": [{k: _plain(v) for k, v in row.items()} for row in report.to_dicts()],
        "actions": [{k: _plain(v) for k, v in row.items()} for row in report.actions.to_dicts()],
        "refusals": [
            {"error": e, "kind": k, "name": n, "agent": a, "count": number, "first": first[e, k, n, a]}
            for (e, k, n, a), number in kinds.items()
        ],
    }
    Path(file).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _limits(gauge: Gauge) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for measure, balance in gauge.balances().items():
        figures = {"cap": balance.cap, "spent": balance.spent, "held": balance.held, "left": balance.left}
        if measure == "usd":
            limits[measure] = {name: str(usd(value)) for name, value in figures.items()}
        elif measure == "seconds":
            limits[measure] = {name: value / 1000 for name, value in figures.items()}
        else:
            limits[measure] = figures
    return limits


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else str(value)
