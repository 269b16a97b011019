"""The parent of a program: it waits, passes signals on, and is there when the program is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

_PASSED_ON = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGBREAK")
_FROM_KEYS = ("SIGINT", "SIGQUIT", "SIGBREAK")


def supervise(command: Sequence[str], env: Mapping[str, str]) -> tuple[int, int]:
    """Run a command in the place of this process; returns its process id, and how it ended as ``Popen`` says it.

    It has our terminal and streams, and is in our process group: job control and Ctrl-C reach it as they reach us.
    """
    sys.stdout.flush()
    child = subprocess.Popen(command, env=env)
    with _passing(child):
        return child.pid, child.wait()


def status_of(code: int) -> int:
    """The exit status as a shell has it: of a signal, 128 and its number."""
    return code if code >= 0 else 128 - code


@contextmanager
def _passing(child: subprocess.Popen[Any]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        if signal.Signals(number).name in _FROM_KEYS and _at_keyboard():
            return  # the terminal has sent it to the program, too
        if child.poll() is None:
            child.send_signal(number)

    before: dict[int, Any] = {}
    for name in _PASSED_ON:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _at_keyboard() -> bool:
    """Whether we are in front of a terminal, whose keys signal every process of the group."""
    if os.name != "posix":
        return True
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
