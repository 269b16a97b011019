"""Runs the trials of a program: each a process, with its children, that is ended when its time is over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path

from langchain_costguard.cli.doctor import addresses, records
from langchain_costguard.cli.doctor.records import Record
from langchain_costguard.cli.doctor.requests import Asked, Sent
from langchain_costguard.cli.doctor.trial import Settings
from langchain_costguard.cli.inside.plan import Plan
from langchain_costguard.cli.program import Program

_GRACE = 3.0
_EVERY = 0.05


@dataclass(slots=True)
class Outcome:
    """What became of one trial: its records, what it printed, whether it had to be ended, and what was sent to it."""

    records: list[Record] = field(default_factory=list)
    printed: str = ""
    late: bool = False
    sent: list[Sent] = field(default_factory=list)

    @property
    def ports(self) -> list[int]:
        """Where it listens."""
        return _ports(self.records)


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of one program."""

    program: Program
    seconds: float
    requests: Sequence[Asked]
    verbose: bool

    def run(self, stage: str) -> Outcome:
        """Run one."""
        with tempfile.TemporaryDirectory(prefix="costguard-doctor-", ignore_cleanup_errors=True) as folder:
            log, printed = Path(folder, "records"), Path(folder, "printed")
            log.touch()
            outcome = Outcome()
            with _provider(stage) as (port, faked), printed.open("wb") as output:
                settings = Settings(stage, own_folder(self.program), str(log), port)
                plan = Plan(folder, os.getpid(), quiet=True, trial=settings.plain())
                plan.write()
                child = subprocess.Popen(
                    self.program.command,
                    env={**plan.environment(), **addresses.keys(), **_UNTRACED, **faked},
                    stdin=subprocess.DEVNULL,
                    stdout=None if self.verbose else output,
                    stderr=None if self.verbose else output,
                    start_new_session=os.name == "posix",
                )
                try:
                    self._attend(child, log, outcome)
                finally:
                    _end(child)
            outcome.records = records.read(log)
            outcome.printed = printed.read_text("utf-8", "replace")
            return outcome

    def _attend(self, child: subprocess.Popen[bytes], log: Path, outcome: Outcome) -> None:
        """Wait for its end; a server is sent the requests, and has then done what it is for."""
        until = time.monotonic() + self.seconds
        while child.poll() is None:
            if time.monotonic() > until:
                outcome.late = True
                return
            if self.requests and (ports := _ports(records.read(log))):
                outcome.sent = [request.send(ports, until) for request in self.requests]
                return
            time.sleep(_EVERY)


_UNTRACED = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}


def _ports(found: Sequence[Record]) -> list[int]:
    return list(dict.fromkeys(record.facts["port"] for record in found if record.what == records.LISTEN))


@contextmanager
def _provider(stage: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The fake provider of a trial whose calls are answered, and the addresses that lead there."""
    if stage == "model":
        yield 0, {}
        return
    from langchain_costguard.cli.doctor.answers import provider_for

    with provider_for(stage) as provider:
        port = int(provider.anthropic_url.rpartition(":")[2])
        yield port, {**addresses.nowhere(os.environ), **addresses.fake(provider.url, provider.anthropic_url)}


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a trial, with whatever it started."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
    if hasattr(os, "killpg"):
        with suppress(OSError):  # it left nobody behind
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def own_folder(program: Program) -> str:
    """Where the user's code is, should that be among the libraries."""
    if not program.module:
        return os.path.dirname(os.path.realpath(program.target)) + os.sep
    spec = PathFinder.find_spec(program.target.partition(".")[0], [os.getcwd(), *sys.path])
    places = spec.submodule_search_locations if spec is not None else None
    return (next(iter(places)) + os.sep) if places else (spec.origin or "" if spec is not None else "")
