"""Python processes that a program starts in a way that leaves the guard behind."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_costguard.cli.inside.plan import BOOT, FOLDER


def unguarded(event: str, args: tuple[Any, ...]) -> Iterator[str]:
    """The command line of a Python process that starts without its guard, where an audit event tells of one.

    https://docs.python.org/3/library/audit_events.html
    """
    if event == "subprocess.Popen":
        executable, words, _, env = args
    elif event in ("os.exec", "os.posix_spawn"):
        executable, words, env = args
    elif event == "os.spawn":
        _, executable, words, env = args
    else:
        return
    line = _words(words, executable)
    if line and _is_python(line[0]) and (_isolated(line[1:]) or not _brings_guard(env)):
        yield shlex.join(line[:6])


def _words(words: Any, executable: Any) -> list[str]:
    try:
        if isinstance(words, (str, bytes)):
            return shlex.split(os.fsdecode(words))
        return [os.fsdecode(word) for word in words] or [os.fsdecode(executable)]
    except (TypeError, ValueError):
        return []


def _is_python(name: str) -> bool:
    return os.path.basename(name).lower().startswith(("python", "pypy"))


def _isolated(words: Sequence[str]) -> bool:
    """Whether an option of the interpreter keeps it from the environment (``-I``, ``-E``) or from ``site`` (``-S``)."""
    for word in words:
        if not word.startswith("-") or word.startswith(("-c", "-m", "--")):
            return False
        if set(word[1:]) & set("IES") and word[1:2] not in ("X", "W"):
            return True
    return False


def _brings_guard(env: Any) -> bool:
    if env is None:
        env = os.environ
    if isinstance(env, Mapping):
        known = {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()}
    else:  # os.exec and os.posix_spawn may be given pairs
        return True
    return FOLDER in known and BOOT in known.get("PYTHONPATH", "").split(os.pathsep)
