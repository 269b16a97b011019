"""What is said when a program has ended: the table, what was refused and why, and the report as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from langchain_costguard.cli.inside.plan import Plan
from langchain_costguard.cli.inside.spool import rows_of, told
from langchain_costguard.cli.screen import show, tabular
from langchain_costguard.cli.supervising import status_of
from langchain_costguard.cli.words import count
from langchain_costguard.metering.budgets.headroom import Room
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.observe.files import written
from langchain_costguard.observe.report import Report, Tally
from langchain_costguard.vocabulary.money import show as money
from langchain_costguard.vocabulary.money import usd

STOPPED = 75
"""Exit status when the guard stopped the program (``EX_TEMPFAIL``: nothing is wrong with the program)."""
MARK = '"costguard run"'
"""By which the file of ``--json`` is known."""
_ENDING = 0.5
_VERBS = {"finished": "finished", "exited": "ended", "interrupted": "was interrupted", "failed": "failed"}


class Closing:
    """The end of a run: made from what its processes told, and from the balances."""

    def __init__(self, plan: Plan, words: Sequence[str], pid: int, code: int) -> None:
        self._plan = plan
        self._words = list(words)
        self._facts = dict(told(plan.folder))
        self._end = next((f for f in reversed(self._facts.get(pid, [])) if f["kind"] == "end"), None)
        self._code = code
        self.report = Report(
            [(scope, Tally(*counts)) for facts in self._facts.values() for scope, counts in rows_of(facts)]
        ).by(*Report(()).dimensions)
        self.refused = [fact for facts in self._facts.values() for fact in facts if fact["kind"] == "refused"]
        self.reason = self._reason()
        self.refusal = self._end["refusal"] if self._end and self.reason == "refused" else None
        self.warnings = self._warnings()
        self.status = STOPPED if self.reason == "refused" else status_of(code)

    def close(self, file: str | None, *, force: bool = False) -> int:
        """Say it all, write the file where one is wanted; returns the exit status."""
        if not self._plan.quiet and self.report.rows:
            show("", tabular(self.report), "", stderr=True)
        if not self._plan.quiet or self.refused:
            said = " ".join([*self._sentences(), *self.warnings])
            print("costguard:", said, file=sys.stderr)
        if file:
            self._write(file, force=force)
        return self.status

    def _write(self, file: str, *, force: bool) -> None:
        """The program may have put something in the place meanwhile: that it stays is said, and the status stands."""
        try:
            written(file, json.dumps(self._content(), indent=2) + "\n", mark=MARK, field="--json", force=force)
        except (OSError, ValueError) as error:
            print(f"costguard: the report was not written: {error}", file=sys.stderr)

    def _reason(self) -> str:
        """One word for how the program ended."""
        if self._end is None:
            return "killed" if self._code < 0 else "exited" if self._code else "finished"
        if self._end["error"] == "KeyboardInterrupt":
            return "interrupted"
        if self._end["refusal"] and self._code:
            return "refused"
        if self._code < 0:
            return "killed"
        return "failed" if self._end["error"] and self._code else "exited" if self._code else "finished"

    def _sentences(self) -> list[str]:
        """What became of the run, in a sentence or two."""
        total = self.report.total
        calls = f"{count(total.calls, 'model call')} and {count(total.tool_calls, 'tool call')}"
        spent = f"{money(total.spent)} for {calls}"
        if self.refusal is not None:
            others = total.refused - 1
            more = [f"{count(others, 'other call')} {_was(others)} refused before."] if others > 0 else []
            return [f"stopped by the guard after {spent}.", self.refusal, *more]
        if not (total.calls or total.tool_calls or total.refused or total.saved):
            return [
                "no call of LangChain was seen; what a program asks of a provider without LangChain is not metered."
            ]
        said = [f"the program {self._verb()}; it spent {spent}."]
        if self.refused:
            first = self.refused[0]["message"]
            said.append(f"{count(total.refused, 'call')} {_was(total.refused)} refused. First: {first}")
        return said

    def _verb(self) -> str:
        if self.reason == "killed":
            return f"was ended by {_signal(-self._code)}"
        return _VERBS.get(self.reason, "failed")

    def _warnings(self) -> list[str]:
        """What could not be guarded, and what still runs."""
        lines = {fact["words"] for facts in self._facts.values() for fact in facts if fact["kind"] == "unguarded"}
        notes = {path.read_text("utf-8") for path in Path(self._plan.folder).glob("unguarded-*")}
        said = [f"Not guarded: {'; '.join(sorted(lines | notes))}."] if lines or notes else []
        if alive := _alive(self._facts):
            one = "1 process that it started still runs"
            said.append(
                f"{one if alive == 1 else f'{alive} processes that it started still run'}, under the same limits."
            )
        return said

    def _content(self) -> dict[str, Any]:
        """The report for programs; money is text, so that no reader rounds it."""
        kinds = Counter((f["error"], f["of"], f["name"], f["agent"]) for f in self.refused)
        first = {(f["error"], f["of"], f["name"], f["agent"]): f["message"] for f in reversed(self.refused)}
        report = self.report
        return {
            "costguard run": 1,
            "program": self._words,
            "exit": {"status": self.status, "reason": self.reason, "message": self.refusal},
            "limits": _limits(_balances(self._plan)),
            "total": {k: _plain(v) for k, v in report.by().to_dicts()[0].items()} if report.rows else {},
            "rows": [{k: _plain(v) for k, v in row.items()} for row in report.to_dicts()],
            "actions": [{k: _plain(v) for k, v in row.items()} for row in report.actions.to_dicts()],
            "refusals": [
                {"error": e, "kind": k, "name": n, "agent": a, "count": number, "first": first[e, k, n, a]}
                for (e, k, n, a), number in kinds.items()
            ],
            "warnings": self.warnings,
        }


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _alive(pids: Iterable[int]) -> int:
    """How many of these processes run on, and are not merely about to end."""
    if os.name != "posix":
        return 0
    until = time.monotonic() + _ENDING
    left = [pid for pid in pids if _is_there(pid)]
    while left and time.monotonic() < until:
        time.sleep(0.02)
        left = [pid for pid in left if _is_there(pid)]
    return len(left)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _balances(plan: Plan) -> Sequence[Room]:
    """The accounts of the run's budget; nothing where there is none, or no answer."""
    from langchain_costguard.metering.budgets.ledger import Ledger
    from langchain_costguard.vocabulary.scope import Scope

    budget, now = plan.made_budget(), time.time()
    if budget is None:
        return ()
    store = plan.made_store()
    watch = Ledger([budget], store, hold_seconds=600).watch(Scope(), now)
    try:
        return watch.headroom(store.read(watch.names, now=now), now).rows
    except StoreError:
        return ()


def _limits(rows: Sequence[Room]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for row in rows:
        cap, spent = row.ceiling + row.granted, max(0, row.spent)
        figures = {"cap": cap, "spent": spent, "held": row.held, "left": cap - spent - row.held}
        if row.measure == "usd":
            limits[row.measure] = {name: str(usd(value)) for name, value in figures.items()}
        elif row.measure == "seconds":
            limits[row.measure] = {name: value / 1000 for name, value in figures.items()}
        else:
            limits[row.measure] = figures
    return limits


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else str(value)
