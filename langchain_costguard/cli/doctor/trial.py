"""One trial of a program, in a process of its own: ``python -m langchain_costguard.cli.doctor.trial SETTINGS``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder

from langchain_costguard.cli.doctor import records, sites
from langchain_costguard.cli.doctor.observer import Drill, Observer, drill_for, watching_last
from langchain_costguard.cli.doctor.records import Log
from langchain_costguard.cli.doctor.wires import Wires
from langchain_costguard.cli.program import Ending, Program, play
from langchain_costguard.metering.seams.quiet import quiet_refusals


@dataclass(frozen=True, slots=True)
class Settings:
    """What the parent asks for: the ``stage``, the program, and where to write."""

    stage: str
    target: str
    args: list[str]
    module: bool
    log: str


def main(text: str) -> int:
    """Run the trial; returns the program's own exit status."""
    settings = Settings(**json.loads(text))
    program = Program(settings.target, tuple(settings.args), settings.module)
    own = _folder(program)
    log = Log(settings.log, settings.stage)
    quiet_refusals()
    observer = Observer(log, own)
    if settings.stage == "model":
        Wires(log, own).install()
    else:
        from langchain_costguard.cli.doctor.answers import answering

        Wires(log, own, allowed=answering()).install()
    ending = _play(program, observer, _heard(settings.stage, log, own))
    error = ending.error
    words = f"{type(error).__name__}: {error}".strip().splitlines()[0] if error is not None else ""
    log.write(records.END, state="ended", name=words, facts={"status": ending.status})
    ending.show()
    return ending.status


def _play(program: Program, observer: Observer, drill_budget: Drill) -> Ending:
    from langchain_costguard.metering.drills import drill

    with drill([drill_budget], [observer.sink]), watching_last(observer):
        return play(program)


def _heard(stage: str, log: Log, own: str) -> Drill:
    """The trial's budget; a guard that takes it up reads its caps, and so tells where it is made."""

    class Heard(Drill):
        def caps(self) -> dict[str, int]:
            if any(frame.f_code.co_qualname == "CostGuard.__init__" for frame in sites.stack()):
                log.write(records.GUARD, site=sites.here(own))
            return super().caps()

    plain = drill_for(stage)
    return Heard(per=plain.per, name=plain.name, model_calls=1)


def _folder(program: Program) -> str:
    """Where the user's code is, should that be among the libraries."""
    if not program.module:
        return os.path.dirname(os.path.realpath(program.target)) + os.sep
    spec = PathFinder.find_spec(program.target.partition(".")[0], [os.getcwd(), *sys.path])
    places = spec.submodule_search_locations if spec is not None else None
    return (next(iter(places)) + os.sep) if places else (spec.origin or "" if spec is not None else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
