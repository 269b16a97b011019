"""The program on a command line: what of the words is ours, and what is the program's own."""

from __future__ import annotations

import importlib.machinery
import os
import shutil
import sys
from dataclasses import dataclass

import rich_click as click


@dataclass(frozen=True, slots=True)
class Program:
    """A script (or directory, zip file, notebook), a module, or a command that is on the PATH, with its arguments."""

    target: str
    args: tuple[str, ...]
    module: bool = False

    @property
    def words(self) -> list[str]:
        """As written on our command line."""
        return [*(["-m"] if self.module else []), self.target, *self.args]

    @property
    def notebook(self) -> bool:
        """Whether it is a Jupyter notebook."""
        return not self.module and self.target.endswith(".ipynb")

    @property
    def command(self) -> list[str]:
        """What to start: python with it, or, where there is no such file, the command of that name."""
        if not self.module and not os.path.exists(self.target) and (found := shutil.which(self.target)):
            return [found, *self.args]
        return [sys.executable, *self.words]

    def check(self) -> None:
        """Raise ValueError where there is no such program."""
        if self.module:
            top = self.target.partition(".")[0]
            if not top or importlib.machinery.PathFinder.find_spec(top, ["", *sys.path[1:]]) is None:
                raise ValueError(f"no module named {top!r}")
        elif not os.path.exists(self.target) and not shutil.which(self.target):
            raise ValueError(f"there is no script {self.target!r}, and no command of that name")


class ProgramCommand(click.RichCommand):
    """A command whose options come before a program: everything from the program on is the program's own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Divide the words at ``-m``, which ends our options as a script's name does."""
        return super().parse_args(ctx, _divided(args, self._valued()))

    def _valued(self) -> set[str]:
        """Our options that take a value in the next word."""
        options = [param for param in self.params if isinstance(param, click.Option) and not param.is_flag]
        return {name for option in options for name in option.opts}


def _divided(args: list[str], valued: set[str]) -> list[str]:
    at = 0
    while at < len(args) and args[at].startswith("-") and args[at] != "--":
        if args[at].startswith("-m"):
            return [*args[:at], "--", *args[at:]]
        at += 2 if args[at] in valued else 1
    return args


def program(words: tuple[str, ...], command: str) -> Program:
    """The program of these words.

    Raises:
        ValueError: there is none.
    """
    if words and words[0].startswith("-m"):
        words = ("-m", *([words[0][2:]] if words[0] != "-m" else []), *words[1:])
        if len(words) > 1:
            return Program(words[1], words[2:], module=True)
        words = ()
    if not words:
        raise ValueError(f"{command}: which program? costguard {command} [options] script.py [args], or -m module")
    return Program(words[0], words[1:])
