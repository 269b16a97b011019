"""A plugin of pytest: tests are collected once, and run in forks of the process that did, each with a mutant in it."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.mutants_swap import functions, swap

LOADING = "(the module could not be put in)"


class Forks:
    """Runs ``job`` in place of the tests, with all of them at hand."""

    def __init__(self, job: Callable[[Forks], None], folder: Path) -> None:
        self._job, self._folder = job, folder
        self.items: dict[str, Any] = {}
        self.takes: dict[str, float] = {}
        self._sound: set[str] = set()
        """The tests that have passed in a fork without a mutant."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run none of them here: what a test leaves behind would be in every fork."""
        self.items = {item.nodeid: item for item in session.items}
        gc.unfreeze()
        functions()
        gc.collect()
        gc.freeze()  # else a collection in a fork touches, and so copies, half a gigabyte
        self._job(self)
        return True

    def noticed_by(self, module: str, source: str, text: str, tests: Sequence[str]) -> str | None:
        """The test that fails with the module's ``source`` each time, and not with its own ``text``."""
        while tests:
            found = self._first_failure(module, source, tests)
            if found in (None, LOADING):
                return found
            if self._first_failure(module, source, [found]):
                if found not in self._sound and not self._first_failure(module, text, [found]):
                    self._sound.add(found)
                if found in self._sound:
                    return found
            tests = tests[tests.index(found) + 1 :]  # the load's doing, or the fork's
        return None

    def _first_failure(self, module: str, source: str, tests: Sequence[str]) -> str | None:
        """The first that fails, or that takes far longer than it should."""
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            status = 99
            with contextlib.suppress(BaseException):
                status = self._run(module, source, tests, writes)
            os._exit(status)
        os.close(writes)
        begun, ended, status, until = 0, 0, 0, time.monotonic() + 60
        while not ended and time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if select.select([reads], [], [], 0 if ended else 0.02)[0] and (new := os.read(reads, 4096)):
                begun += len(new)
                until = time.monotonic() + 10 + 10 * self.takes.get(tests[begun - 1], 1.0)
        os.close(reads)
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)  # with the servers it started
        if not ended:
            os.waitpid(child, 0)
        if ended and status == 0:
            return None
        return tests[begun - 1] if begun else LOADING

    def _run(self, module: str, source: str, tests: Sequence[str], writes: int) -> int:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        folder = self._folder / f"tmp{os.getppid()}"
        folder.mkdir(exist_ok=True)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
        swap(module, source)
        items = [self.items[test] for test in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            os.write(writes, b".")
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if item.session.testsfailed:
                return 1
        return 0
