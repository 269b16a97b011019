"""The program's terminal: what it writes there, whether its line is finished, and whether it reads."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any


def on_one_terminal() -> bool:
    """Whether both of the program's streams are plainly a terminal: with one of them piped (``| tee``), nobody knows
    where the cursor is."""
    try:
        ours = sys.stdout.isatty() and sys.stderr.isatty()
        plain = all(isinstance(stream.buffer, io.BufferedWriter | io.FileIO) for stream in (sys.stdout, sys.stderr))
    except (AttributeError, ValueError):
        return False
    return ours and plain and os.environ.get("TERM", "dumb") != "dumb"


class Terminal:
    """Tells ``before`` whenever the program is about to write or to read there.

    ``sys.stdout`` and ``sys.stderr`` stay what they are: text over buffers over files. Only the files are ours, so what
    gets there by ``sys.stdout.buffer`` or a logging handler is noticed, too.
    """

    def __init__(self) -> None:
        self.before: Callable[[], None] = lambda: None
        self._reader: int | None = None
        self.at_line_start = True
        for name in ("stdout", "stderr"):
            watched = self._watched(getattr(sys, name))
            setattr(sys, name, watched)
            setattr(sys, f"__{name}__", watched)
        sys.addaudithook(self._audit)

    def quiet(self) -> bool:
        """Whether a line may be drawn: the program's own is finished, and nobody reads or has the screen."""
        return self.at_line_start and self._reader is None and _is_plain()

    def calls(self) -> None:
        """A model call begins: a thread that calls does not read (an interrupted ``input`` tells no end)."""
        if self._reader == threading.get_ident():
            self._reader = None

    def writes(self, data: Any) -> None:
        """The program is about to write this."""
        self.before()
        if data:
            self.at_line_start = bytes(data[-1:]) == b"\n"

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        # https://docs.python.org/3/library/functions.html#input: also what pdb and breakpoint() read with
        if event == "builtins.input":
            self._reader = threading.get_ident()
            self.before()
        elif event == "builtins.input/result":
            self._reader = None
            self.at_line_start = True

    def _watched(self, stream: Any) -> io.TextIOWrapper:
        stream.flush()
        file = _File(stream.fileno(), self)
        file.name = stream.name
        made = io.TextIOWrapper(
            file if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(file),  # as with python -u
            encoding=stream.encoding,
            errors=stream.errors,
            newline="\n",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        made.mode = "w"  # type: ignore[misc] # as the interpreter sets it on its own
        return made


class _File(io.FileIO):
    """A file descriptor of the program's, which tells before it is written to."""

    name: Any

    def __init__(self, number: int, terminal: Terminal) -> None:
        super().__init__(number, "w", closefd=False)
        self._terminal = terminal

    def write(self, data: Any, /) -> Any:
        self._terminal.writes(data)
        return super().write(data)


def _is_plain() -> bool:
    """Whether the terminal takes lines and echoes them: readline, IPython, getpass and full screens do not let it."""
    import termios

    try:
        flags = termios.tcgetattr(sys.__stdin__.fileno() if sys.__stdin__ is not None else 0)[3]
    except (termios.error, OSError, ValueError):
        return True  # no terminal to read from
    return bool(flags & termios.ICANON and flags & termios.ECHO)
