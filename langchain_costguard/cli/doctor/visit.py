"""The parent of the trials: starts them, reads what they told, and prints what it means."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

from langchain_costguard.cli.doctor import records
from langchain_costguard.cli.doctor.diagnosis import Diagnosis, diagnose
from langchain_costguard.cli.doctor.records import Record
from langchain_costguard.cli.live import speaks_unicode
from langchain_costguard.cli.program import Program

_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "MISTRAL_API_KEY", "GROQ_API_KEY", "COHERE_API_KEY")
_WORDS = {
    "model": "with no budget for model calls",
    "tool": "with no budget for tool calls; model calls are answered without a provider",
    "through": "with tools run for real; model calls are answered without a provider",
}
_TAIL = 15


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one trial: its records, what it printed, and whether it had to be ended."""

    records: list[Record]
    printed: str
    late: bool


def doctor(options: argparse.Namespace) -> int:
    """Examine a program; returns the exit status."""
    program: Program = options.program
    program.check()
    seconds = _seconds(options.seconds)
    stages = ["model", "tool", *(["through"] if options.tools else [])]
    print(f"costguard doctor: {' '.join(program.words)}\n")
    outcomes: list[Outcome] = []
    for number, stage in enumerate(stages, 1):
        print(f"trial {number} of {len(stages)}: {_WORDS[stage]}", flush=True)
        outcomes.append(_trial(program, stage, seconds, verbose=options.verbose))
        if stage == "model" and not _reached_a_model(outcomes[0]):
            break
    print()
    found = diagnose([record for outcome in outcomes for record in outcome.records])
    if not found.lines:
        return _no_trial(outcomes[0], seconds, verbose=options.verbose)
    _print(found)
    return 1 if found.bad else 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ValueError(f"--seconds: {text!r} must be a number of seconds above zero")
    return seconds


def _trial(program: Program, stage: str, seconds: float, *, verbose: bool) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="costguard-doctor-") as folder:
        log, printed = Path(folder, "records"), Path(folder, "printed")
        log.touch()
        settings = {
            "stage": stage,
            "target": program.target,
            "args": list(program.args),
            "module": program.module,
            "log": str(log),
        }
        command = [sys.executable, "-m", "langchain_costguard.cli.doctor.trial", json.dumps(settings)]
        with printed.open("wb") as output:
            child = subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=None if verbose else output,
                stderr=None if verbose else output,
                start_new_session=True,
            )
            late = _await(child, seconds)
        return Outcome(records.read(log), printed.read_text("utf-8", "replace"), late)


def _await(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a trial, and end it when its time is over, with whatever it started."""
    try:
        child.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _environment() -> dict[str, str]:
    """The user's own, but without tracing, and with a key where one is missing: nothing is sent anywhere."""
    env = dict(os.environ, LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false")
    for name in _KEYS:
        env.setdefault(name, "costguard-doctor")
    return env


def _reached_a_model(outcome: Outcome) -> bool:
    return any(record.what == records.CALL for record in outcome.records)


def _no_trial(outcome: Outcome, seconds: float, *, verbose: bool) -> int:
    end = next((record for record in outcome.records if record.what == records.END), None)
    if outcome.late:
        why = f"was still running after {seconds:g} s, and had not called a model; give it more with --seconds"
    else:
        why = f"ended before its first model call{f': {end.name}' if end is not None and end.name else ''}"
    print(f"Your program {why}.")
    lines = outcome.printed.rstrip().splitlines()[-_TAIL:]
    if lines and not verbose:
        print("The last it printed:\n" + "\n".join(f"  {line}" for line in lines))
    return 2


def _print(found: Diagnosis) -> None:
    unicode = speaks_unicode(sys.stdout)
    marks = {"ok": "✔", "no": "✘", "": "-"} if unicode else {"ok": "ok", "no": "NO", "": "--"}
    print(found.guard + "\n")
    widths = [max(map(len, column)) for column in zip(*((x.kind, x.site, x.what) for x in found.lines), strict=True)]
    for line in found.lines:
        cells = [f"{text:{width}}" for text, width in zip((line.kind, line.site, line.what), widths, strict=True)]
        print(f"  {marks[line.mark]:2} {'  '.join(cells)}  {line.verdict}")
    width = min(100, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 100
    for title, advice in (("What to do", found.cures), ("Worth knowing", found.notes)):
        if advice:
            print(f"\n{title}:")
            for text in advice:
                print(textwrap.fill(text, width, initial_indent="  * ", subsequent_indent="    "))
    print(f"\n{marks['no' if found.bad else 'ok']} {found.verdict}")
