"""``costguard doctor``: proves, in trials of the user's own program, that the guard binds there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import rich_click as click
from rich.padding import Padding
from rich.text import Text

from langchain_costguard.cli import options
from langchain_costguard.cli.doctor import records
from langchain_costguard.cli.doctor.diagnosis import Diagnosis, diagnose
from langchain_costguard.cli.doctor.requests import Asked
from langchain_costguard.cli.doctor.trials import Outcome, Trials
from langchain_costguard.cli.program import ProgramCommand, program
from langchain_costguard.cli.screen import bare_table, console, show
from langchain_costguard.cli.stores import asking, shared

_WORDS = {
    "model": "with no budget for model calls",
    "text": "model calls are answered without a provider, so that the program goes on",
    "tool": "with no budget for tool calls; the answers ask for a tool",
    "tools": "with tools run for real, which the answers ask for",
}
_TAIL = 15


@click.command(cls=ProgramCommand, context_settings={"allow_interspersed_args": False})
@click.option("--seconds", metavar="S", default="60", show_default=True, help="give each trial up after this time")
@click.option(
    "--tools",
    is_flag=True,
    help="one more trial that runs the tools for real, with made-up arguments, to see the model calls inside them",
)
@click.option(
    "--request",
    "requests",
    metavar="REQUEST",
    multiple=True,
    help="""\
send this to a server when it listens: 'POST /ask {"question": "hi"}'; may be repeated""",
)
@options.store
@click.option("--verbose", is_flag=True, help="show what the program itself prints")
@click.argument("words", nargs=-1, metavar="PROGRAM [ARGS]...", type=click.UNPROCESSED)
def command(
    words: tuple[str, ...], seconds: str, tools: bool, requests: tuple[str, ...], store: str | None, verbose: bool
) -> int:
    """Prove that the guard binds in your program.

    Runs it in trials: first with no budget for model calls, then with answers that are made up, so that it goes on to
    all it calls. Says for each place in the program whether the guard refuses the call there, and what would slip past
    it. Nothing is sent to a model provider, by Python processes that the program starts neither; others have addresses
    that lead nowhere, and keys that nobody knows. A program without a guard of its own is judged as it would run under
    costguard run. All else the program does, it does.

    Without a PROGRAM, --store alone looks whether that store may forget what was spent.

    Exit status: 0 when every call is refused, 1 when something gets through or bypasses the guard, 2 when it was no
    trial.
    """
    if store and not words:
        return _look_at(store)
    what = program(words, "doctor")
    what.check()
    if what.notebook:
        raise ValueError(f"{what.target}: a notebook cannot be examined; save it as a script, and examine that")
    trials = Trials(what, _seconds(seconds), [Asked.parse(text) for text in requests], verbose)
    print(f"costguard doctor: {' '.join(what.words)}\n")
    outcomes: list[Outcome] = []
    for stage in _stages(outcomes, tools=tools):
        print(f"trial {len(outcomes) + 1}: {_WORDS[stage]}", flush=True)
        outcomes.append(trials.run(stage))
    print()
    found = diagnose([record for outcome in outcomes for record in outcome.records])
    if not found.lines:
        return _no_trial(outcomes[0], trials)
    found.notes += [f"{s.request.method} {s.request.path} was answered {s.answer}." for s in outcomes[-1].sent]
    _print(found)
    return 1 if found.bad else 0


def _look_at(url: str) -> int:
    """Say what may make a store forget; 1 where something may."""
    store: Any = shared(url, create=False)
    asking(store.flags)
    found: list[str] = asking(getattr(store, "risks", list))
    show(*(f"{store!r}: {risk}." for risk in found or ("it answers, and nothing is seen that would make it forget",)))
    return 1 if found else 0


def _stages(outcomes: list[Outcome], *, tools: bool) -> Iterator[str]:
    """The trials to run, by what the ones before have shown."""
    yield "model"
    if not _seen(outcomes[0]):
        return
    yield "text"
    if any(record.facts.get("tools") for outcome in outcomes for record in outcome.records):
        yield "tool"
        if tools:
            yield "tools"


def _seen(outcome: Outcome) -> bool:
    return any(record.what in (records.CALL, records.WIRE, records.CHILD) for record in outcome.records)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ValueError(f"--seconds: {text!r} must be a number of seconds above zero")
    return seconds


def _no_trial(outcome: Outcome, trials: Trials) -> int:
    end = next((record for record in outcome.records if record.what == records.END), None)
    if outcome.ports and not trials.requests:
        why = (
            f"listens on port {outcome.ports[0]}, and calls no model by itself: send it what it is for, with "
            """--request 'POST /ask {"question": "hi"}'"""
        )
    elif outcome.sent:
        why = "called no model for " + "; ".join(
            f"{s.request.method} {s.request.path}: {s.answer}" for s in outcome.sent
        )
    elif outcome.late:
        why = f"was still running after {trials.seconds:g} s, and had not called a model; give it more with --seconds"
    else:
        why = f"ended before its first model call{f': {end.name}' if end is not None and end.name else ''}"
    print(f"Your program {why}.")
    lines = outcome.printed.rstrip().splitlines()[-_TAIL:]
    if lines and not trials.verbose:
        print("The last it printed:\n" + "\n".join(f"  {line}" for line in lines))
    return 2


def _print(found: Diagnosis) -> None:
    unicode = "utf" in console().encoding
    marks = {"ok": "✔", "no": "✘", "": "-"} if unicode else {"ok": "ok", "no": "NO", "": "--"}
    styles = {"ok": "green", "no": "red", "": "dim"}
    print(found.guard + "\n")
    rows = [(Text(marks[x.mark], styles[x.mark]), x.kind, x.site, x.what, x.verdict) for x in found.lines]
    show(Padding(bare_table(rows), (0, 0, 0, 2), expand=False))
    for title, advice in (("What to do", found.cures), ("Worth knowing", found.notes)):
        if advice:
            print(f"\n{title}:")
            show(Padding(bare_table([("*", text) for text in advice]), (0, 0, 0, 2), expand=False))
    print(f"\n{marks['no' if found.bad else 'ok']} {found.verdict}")
