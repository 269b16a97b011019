"""The words of the command line: which commands there are, and what each takes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from langchain_costguard.cli.program import Program

Command = Callable[[argparse.Namespace], int]

_FLAGS = {"-h", "--help", "--quiet", "--verbose", "--tools"}
"""Options of ``run`` and ``doctor`` that take no value: what is left of a command line begins after the values."""
_RUN_HELP = """\
Runs a script or module exactly as python would, with every LangChain and LangGraph call in it metered, and refused
when it does not fit the limits. The limits are for this run as a whole. With --store, runs that give the same --scope
share one account: together they stay within the limits; without --scope a run has an account of its own.

Put the options before the program; everything after it is the program's own. Child processes are not guarded.

exit status: 75 when the guard stopped the program, 2 when costguard was called wrongly, else the program's own
"""
_DOCTOR_HELP = """\
Runs a program in trial, twice: once with no budget for model calls, once with none for tool calls. Nothing is sent to
a model provider. Says for each place in the program whether the guard refused the call, and what would slip past it.
A program without a guard of its own is judged as it would run under `costguard run`. All else the program does, it
does: it runs for real, up to the point where its calls are refused.

exit status: 0 when everything was refused, 1 when something got through or bypasses the guard, 2 when it was no trial
"""
_ROUTER_HELP = """\
Learns from your own records when the weak model will do, and writes a file for ClassifierRouter.load, or where the
records have more than two models, for ChoiceRouter.load. A record is a line of JSON, {"prompt": ..., "quality":
{"model": 0..1 or true, "other": ...}, "cost": {"model": dollars, ...}}, the cost optional; or a line for each answer,
{"prompt": ..., "model": ..., "good": ...}, as a RunLog writes them. Bad lines are told and skipped.
"""
_LINT_HELP = """\
Finds what keeps prompts from being read from the provider's cache: timestamps, ids, names and unstable orders in front
of text that many requests share. A record is a line of JSON, {"at": ..., "feature": ..., "model": ..., "messages":
[...], "tools": [...]}, in the shapes of OpenAI, Anthropic or LangChain. Bad lines are told and skipped.

exit status: 0 when nothing was found, 1 when something was, 2 when it could not be looked at
"""
_GRANT_HELP = """\
Gives a budget more, for one user, session or whoever its account is of; every process on the store has it at its next
call. Of a budget by the day (or hour, week, month) it is today's account. With nothing but a store, lists what was
granted.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as a ValueError: one line, not a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def parse(argv: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """The command asked for, and its options.

    Raises:
        ValueError: says what is wrong with the command line.
    """
    ours, program = list(argv), None
    if ours[:1] in (["run"], ["doctor"]):
        ours, rest = _split(ours)
        program = _program(ours[0], rest) if rest or not {"-h", "--help"} & set(ours) else None
    options = _parser().parse_args(ours)
    options.program = program
    home, name = options.command
    return getattr(import_module(f"langchain_costguard.cli.{home}"), name), options


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our words, and the program with its own."""
    at = 1
    while at < len(argv) and (word := argv[at]).startswith("-") and not word.startswith("-m"):
        if word == "--":
            return argv[:at], argv[at + 1 :]
        at += 1 if word in _FLAGS or "=" in word else 2
    return argv[:at], argv[at:]


def _program(command: str, words: list[str]) -> Program:
    if words and words[0].startswith("-m"):
        words = ["-m", *([words[0][2:]] if words[0] != "-m" else []), *words[1:]]
        if len(words) > 1:
            return Program(words[1], tuple(words[2:]), module=True)
        words = []
    if not words:
        raise ValueError(f"{command}: which program? costguard {command} [options] script.py [args], or -m module")
    return Program(words[0], tuple(words[1:]), module=False)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="costguard", description="Budgets that hold for LangChain and LangGraph agents.")
    commands = parser.add_subparsers(metavar="command", required=True, title="commands", parser_class=_Parser)
    _run(_add(commands, "run", "run:run", "run a program under a budget", _RUN_HELP))
    _add(commands, "demo", "demo:demo", "watch a stuck agent being stopped: no key, no network")
    _doctor(_add(commands, "doctor", "doctor.visit:doctor", "prove that the guard binds in your program", _DOCTOR_HELP))
    _switch(_add(commands, "kill", "switch:kill", "stop agents in every process that shares a store, within 5 s"))
    _switch(_add(commands, "revive", "switch:revive", "take a kill back"))
    _store(_add(commands, "status", "switch:status", "show what is halted, and what every account has left"))
    _grant(_add(commands, "grant", "grant:grant", "give a budget more, or list what was granted", _GRANT_HELP))
    prices = _add(commands, "prices", "prices:prices", "show what a model would be charged at, and where that is from")
    prices.add_argument("models", nargs="+", metavar="MODEL", help="gpt-4o, anthropic:claude-sonnet-4-5, ...")
    prices.add_argument("--at", metavar="YYYY-MM-DD", help="the day to price for (default: today)")
    _router(_add(commands, "router", "router:train", "learn from records when a cheaper model will do"))
    lint = _add(commands, "lint-prompts", "lint:lint_prompts", "find what keeps prompts out of the cache", _LINT_HELP)
    lint.add_argument("records", metavar="RECORDS", help="a file of JSON lines, a request each")
    _cache(_add(commands, "cache", "cache:stats", "show what caches remember, or make them forget it"))
    return parser


def _add(commands: argparse._SubParsersAction[_Parser], name: str, home: str, text: str, more: str = "") -> _Parser:
    parser = commands.add_parser(
        name,
        help=text,
        description=more or f"{text[0].upper()}{text[1:]}.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=tuple(home.split(":")))
    return parser


def _run(parser: _Parser) -> None:
    parser.usage = "costguard run [options] script.py [args]\n       costguard run [options] -m module [args]"
    _limits(parser, "limits (none: meter only)")
    parser.add_argument(
        "--scope", metavar="NAME=VALUE", action="append", default=[],
        help="who is spending: user, session, agent, feature or task; may be repeated",
    )  # fmt: skip
    _store(parser)
    parser.add_argument("--json", metavar="FILE", help="write the report to this file")
    parser.add_argument("--quiet", action="store_true", help="no live status and no table; say only what was refused")


def _limits(parser: _Parser, title: str) -> argparse._ArgumentGroup:
    limits = parser.add_argument_group(title)
    limits.add_argument("--usd", metavar="USD", help="money, such as 0.50")
    limits.add_argument("--tokens", metavar="N", help="input and output tokens together")
    limits.add_argument("--model-calls", metavar="N", help="calls to any model")
    limits.add_argument("--tool-calls", metavar="N", help="calls to any tool")
    limits.add_argument("--steps", metavar="N", help="executions of a graph's nodes")
    limits.add_argument("--seconds", metavar="S", help="time from the first call")
    return limits


def _grant(parser: _Parser) -> None:
    parser.usage = (
        "costguard grant [--store URL]\n"
        "       costguard grant [--store URL] --budget NAME [--scope NAME=VALUE ...] --usd USD ..."
    )
    parser.add_argument("--budget", metavar="NAME", help="the budget, by the name that refusals and status give it")
    parser.add_argument(
        "--scope", metavar="NAME=VALUE", action="append", default=[],
        help="whose account: user, session, agent, feature or task; may be repeated",
    )  # fmt: skip
    amounts = _limits(parser, "amounts (one or more, of what the budget caps)")
    amounts.add_argument("--input-tokens", metavar="N", help="input tokens alone")
    amounts.add_argument("--output-tokens", metavar="N", help="output tokens alone")
    parser.add_argument("--key", metavar="TEXT", help="names this grant: given again, it is not applied again")
    _store(parser)


def _doctor(parser: _Parser) -> None:
    parser.usage = "costguard doctor [options] script.py [args]\n       costguard doctor [options] -m module [args]"
    parser.add_argument("--seconds", metavar="S", default="60", help="give each trial up after this time (default: 60)")
    parser.add_argument(
        "--tools",
        action="store_true",
        help="a third trial that runs the tools for real, with made-up arguments, to see the model calls inside them",
    )
    parser.add_argument("--verbose", action="store_true", help="show what the program itself prints")


def _router(parser: _Parser) -> None:
    commands = parser.add_subparsers(metavar="command", required=True, title="commands", parser_class=_Parser)
    train = _add(commands, "train", "router:train", "learn from records when a cheaper model will do", _ROUTER_HELP)
    train.add_argument("records", metavar="RECORDS", help="a file of JSON lines")
    train.add_argument("-o", "--output", metavar="FILE", default="router.json", help="default: router.json")
    train.add_argument("--weak", metavar="MODEL", help="the model to save with (default: the cheaper of two)")
    train.add_argument("--strong", metavar="MODEL", help="the model to measure against (default: the other)")
    target = train.add_mutually_exclusive_group()
    target.add_argument(
        "--target-quality",
        metavar="SHARE",
        help="of the strong or best model's quality (default: 0.95; 0.98 for more than two models)",
    )
    target.add_argument("--target-spend", metavar="SHARE", help="of the strong or best model's cost")
    train.add_argument("--strict", action="store_true", help="refuse a file with a bad line")
    explain = _add(commands, "explain", "router:explain", "show where a prompt goes, and why")
    explain.add_argument("router", metavar="FILE", help="as written by costguard router train")
    explain.add_argument("prompt", metavar="PROMPT")


def _cache(parser: _Parser) -> None:
    commands = parser.add_subparsers(metavar="command", required=True, title="commands", parser_class=_Parser)
    shown = _add(commands, "stats", "cache:stats", "show how many answers are remembered, of which features and models")
    clear = _add(commands, "clear", "cache:clear", "forget answers: those of which everything given is true")
    clear.add_argument("--tag", metavar="TAG", help="of calls with this tag")
    clear.add_argument("--feature", metavar="NAME", help="of this feature")
    clear.add_argument("--model", metavar="MODEL", help="of this model")
    clear.add_argument(
        "--tenant", metavar="user=NAME", help="of this user (or feature=NAME), with whom they are shared"
    )
    clear.add_argument("--older-than", metavar="TIME", help="made before then: 30m, 12h, 7d")
    clear.add_argument("--yes", action="store_true", help="do not ask")
    for command in (shown, clear):
        command.add_argument(
            "--store", metavar="URL", default=os.environ.get("COSTGUARD_CACHE"),
            help="where answers are kept: sqlite:PATH or redis://HOST:PORT/DB (default: $COSTGUARD_CACHE)",
        )  # fmt: skip


def _switch(parser: _Parser) -> None:
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--agent", metavar="NAME", help="this agent")
    who.add_argument("--all", action="store_true", help="every agent")
    if parser.prog.endswith("kill"):
        parser.add_argument("--reason", default="", help="told to whoever is stopped")
    _store(parser)


def _store(parser: _Parser) -> None:
    parser.add_argument(
        "--store",
        metavar="URL",
        default=os.environ.get("COSTGUARD_STORE"),
        help="balances shared with other processes: sqlite:PATH or redis://HOST:PORT/DB (default: $COSTGUARD_STORE)",
    )
