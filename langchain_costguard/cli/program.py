"""Runs somebody's program inside this process the way ``python`` would: its ``__main__``, its argv, its traceback."""

from __future__ import annotations

import builtins
import importlib.util
import os
import runpy
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

_OURS = (str(Path(__file__)), str(Path(runpy.__file__)), str(Path(importlib.util.__file__)))


@dataclass(frozen=True, slots=True)
class Program:
    """A script (or directory, or zip file) or a module, and its arguments."""

    target: str
    args: tuple[str, ...]
    module: bool

    @property
    def words(self) -> list[str]:
        """As written on a command line after ``python``."""
        return [*(["-m"] if self.module else []), self.target, *self.args]

    def check(self) -> None:
        """Raise ValueError where there is no such program."""
        if self.module:
            top = self.target.partition(".")[0]
            if not top or importlib.machinery.PathFinder.find_spec(top, ["", *sys.path[1:]]) is None:
                raise ValueError(f"no module named {top!r}")
        elif not os.path.exists(self.target):
            raise ValueError(f"there is no script {self.target!r}")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended: its exit status, and what ended it where that was no return."""

    status: int
    error: BaseException | None = None

    def show(self) -> None:
        """Print what python would: the program's own traceback, or what it gave to ``sys.exit``."""
        error = self.error
        if isinstance(error, SystemExit):
            if error.code is not None and not isinstance(error.code, int):
                print(error.code, file=sys.stderr)
        elif error is not None:
            try:
                sys.excepthook(type(error), error, error.__traceback__)
            except Exception:
                sys.__excepthook__(type(error), error, error.__traceback__)


def play(program: Program) -> Ending:
    """Run the program to its end, its threads included; whatever it raises is in the answer.

    Raises:
        ValueError: there is no such module.
    """
    try:
        body = _module(program) if program.module else _script(program)
        body()
        _join()
    except BaseException as error:
        if isinstance(error, _NoModule):
            raise ValueError(str(error)) from None
        _join()
        return Ending(_status(error), error.with_traceback(_theirs(error.__traceback__)))
    return Ending(0)


class _NoModule(Exception):
    pass


def _status(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def _join() -> None:
    """Wait for the program's threads, as the interpreter does at its end: they spend, too."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _script(program: Program) -> Callable[[], None]:
    path = os.path.abspath(program.target)
    sys.argv = [program.target, *program.args]
    if not path.endswith(".py") and (os.path.isdir(path) or not _is_text(path)):
        _first_on_path(path)
        return lambda: _discard(runpy.run_path(path, run_name="__main__"))
    _first_on_path(os.path.dirname(os.path.realpath(path)))
    loader = SourceFileLoader("__main__", path)
    main = _main(__file__=path, __cached__=None, __loader__=loader, __package__=None, __spec__=None)
    return lambda: exec(loader.source_to_code(Path(path).read_bytes(), path), main.__dict__)


def _discard(result: object) -> None:
    """Make a procedure of a function."""


def _module(program: Program) -> Callable[[], None]:
    sys.argv = ["-m", *program.args]
    _first_on_path(os.getcwd())
    spec, code = _find(program.target)
    sys.argv[0] = spec.origin or program.target
    main = _main(
        __file__=spec.origin,
        __cached__=spec.cached,
        __loader__=spec.loader,
        __package__=spec.parent,
        __spec__=spec,
    )
    return lambda: exec(code, main.__dict__)


def _find(name: str) -> tuple[ModuleSpec, CodeType]:
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
            if spec is None:
                raise _NoModule(f"{name!r} is a package without a __main__ module, and cannot be run")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    code = getattr(spec.loader, "get_code", lambda name: None)(spec.name) if spec is not None else None
    if spec is None or code is None:
        raise _NoModule(f"no module named {name!r}")
    return spec, code


def _main(**attributes: object) -> ModuleType:
    """A fresh ``__main__``, left in place: threads, pickles and atexit functions look their names up in it."""
    main = ModuleType("__main__")
    main.__dict__.update(attributes, __builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    return main


def _first_on_path(entry: str) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _is_text(path: str) -> bool:
    with open(path, "rb") as file:
        return b"\0" not in file.read(1024)


def _theirs(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the program's first frame on."""
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name not in _OURS and not name.startswith(("<frozen importlib", "<frozen runpy")):
            break
        traceback = traceback.tb_next
    return traceback
