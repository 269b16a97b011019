"""A trial of a program, inside each of its Python processes: who calls what, and did a guard see it?"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from langchain_costguard.cli.doctor import addresses, records, sites
from langchain_costguard.cli.doctor.observer import Drill, Observer, drill_for, watching_last
from langchain_costguard.cli.doctor.records import Log
from langchain_costguard.cli.doctor.wires import Wires
from langchain_costguard.cli.inside.plan import Plan
from langchain_costguard.metering.seams.quiet import quiet_refusals

_open = ExitStack()
"""What is attached stays so to the end of the process."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the parent asks for.

    Attributes:
        stage: ``model`` (no budget for model calls), ``text`` (they are answered), ``tool`` (answers ask for tools,
            for which there is no budget) or ``tools`` (these are run).
        own: the folder of the user's code, should that be among the libraries.
        log: the file to write to.
        port: of the fake provider.
    """

    stage: str
    own: str
    log: str
    port: int

    def plain(self) -> Mapping[str, Any]:
        """For a plan."""
        return asdict(self)


def begin(plan: Plan) -> None:
    """Watch this process."""
    settings = Settings(**(plan.trial or {}))
    child = os.getppid() != plan.supervisor
    log = Log(settings.log, settings.stage, child=child)
    if settings.stage == "model":
        _lead_nowhere(child=child)
    quiet_refusals()
    Wires(log, settings.own, allowed=settings.port).install()
    if settings.stage != "model":
        from langchain_costguard.cli.doctor.answers import answer_from_cache

        answer_from_cache()
    from langchain_costguard.metering.drill import drill

    observer = Observer(log, settings.own)
    _open.enter_context(drill([_heard(settings.stage, log, settings.own)], [observer.sink]))
    _open.enter_context(watching_last(observer))
    if not child:
        atexit.register(_end, log, os.getpid())


def _lead_nowhere(*, child: bool) -> None:
    """Give children addresses that lead nowhere. The program itself keeps its own, by which clients choose what they
    do; its connections are stopped one by one."""
    found = addresses.nowhere(os.environ)
    if child:
        os.environ.update(found)
        return
    for name, value in found.items():
        os.putenv(name, value)  # for what this process starts: its own os.environ does not change


def _end(log: Log, pid: int) -> None:
    if os.getpid() == pid:
        error = getattr(sys, "last_value", None)
        words = f"{type(error).__name__}: {error}".strip().splitlines()[0] if error is not None else ""
        log.write(records.END, state="ended", name=words)


def _heard(stage: str, log: Log, own: str) -> Drill:
    """The trial's budget; a guard that takes it up reads its caps, and so tells where it is made."""

    class Heard(Drill):
        def caps(self) -> dict[str, int]:
            if any(frame.f_code.co_qualname == "CostGuard.__init__" for frame in sites.stack()):
                log.write(records.GUARD, site=sites.here(own))
            return super().caps()

    plain = drill_for(stage)
    return Heard(per=plain.per, name=plain.name, model_calls=1)
