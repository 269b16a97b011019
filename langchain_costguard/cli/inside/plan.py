"""What the processes of a run must know: the limits, the store they share, and where they tell what they did."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from langchain_costguard.metering.budgets.budget import Budget

FOLDER = "COSTGUARD_RUN"
"""The environment's variable that names a run's folder."""
BOOT = str(Path(__file__).with_name("boot"))
_WEEK = 7 * 86_400
_PATIENT = 10.0
"""Seconds a call waits for the run's own file: only processes of the run write there, and a slow disk is no refusal."""


class _OwnAccount(Budget):
    """The budget of one run alone: nobody asks for its account when the run is over."""

    def idle(self) -> int:
        return _WEEK


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a run.

    Attributes:
        folder: where its processes write, each to a file of its own.
        supervisor: the process id of the command itself.
        store: URL of the balances; empty for a file in ``folder``.
        budget: the name of its budget.
        own: whether nobody else spends from that.
        limits: caps by measure, money as text.
        tags: who is spending.
        quiet: nothing is shown while it runs.
        trial: settings of a trial of ``costguard doctor``, in the place of a budget.
        log: the spend log of the run's guard.
        telemetry: where its spans and metrics go: ``OTLP``, ``PROMETHEUS``.
    """

    folder: str
    supervisor: int
    store: str = ""
    budget: str = "run"
    own: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False
    trial: Mapping[str, Any] | None = None
    log: str = ""
    telemetry: Mapping[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Leave it in its folder."""
        Path(self.folder, "plan.json").write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def read(cls, folder: str) -> Plan:
        """The plan in a folder."""
        return cls(**json.loads(Path(folder, "plan.json").read_text("utf-8")))

    def environment(self) -> dict[str, str]:
        """Our own, and what brings the guard into every Python process that is started with it."""
        path = os.pathsep.join(filter(None, [BOOT, os.environ.get("PYTHONPATH")]))
        told = {f"COSTGUARD_{name}": where for name, where in self.telemetry.items()}
        # The run's guard keeps the log: one of the program's own would write each call once more.
        ours = {name: value for name, value in os.environ.items() if name != "COSTGUARD_LOG"}
        return {**ours, "PYTHONPATH": path, FOLDER: self.folder, **told}

    def made_budget(self) -> Budget | None:
        """One account for the whole run: no thread id or user that the program sets opens another."""
        if not self.limits:
            return None
        return (_OwnAccount if self.own else Budget)(per="all", name=self.budget, **self.limits)

    def made_store(self) -> Any:
        """The balances that all its processes share."""
        from langchain_costguard.metering.stores import SQLiteStore, open_store

        return open_store(self.store) if self.store else SQLiteStore(Path(self.folder, "run.db"), timeout=_PATIENT)
