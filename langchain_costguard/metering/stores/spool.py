"""Settlements kept on disk for the next process, where this one could not deliver them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from langchain_costguard.metering.stores.base import Claim

log = logging.getLogger("langchain_costguard")


class Entry(NamedTuple):
    """A settlement; its accounts do not repeat."""

    claims: Sequence[Claim]
    held: Sequence[int]
    actual: Sequence[int]
    until: int


class Spool:
    """A folder with a file for each process that has something to deliver: ``Spool("folder", of="the store")``.

    A file is locked by its process while that lives, and belongs to one store: others are left alone. It is written
    as soon as a settlement fails, for a process may be ended without a word.

    Raises:
        ValueError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], *, of: str) -> None:
        self._mark = hashlib.sha256(of.encode()).hexdigest()[:12]
        try:
            self.folder = Path(folder).absolute()
            self.folder.mkdir(mode=0o700, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError("it cannot be written to")
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"spool: {folder!r} is no folder that can be used: {error}") from error
        self._told: set[Path] = set()
        self._file = -1
        self._begin()

    def _begin(self) -> None:
        self._path = self.folder
        self._lines: list[bytes] = []
        self._on_disk = 0

    def leave_parent(self) -> None:
        """In a forked child: a file of its own. The parent's lock ends with the parent."""
        self._close()
        self._begin()

    @property
    def behind(self) -> int:
        """Settlements that could not be written: the disk is full, or the folder is gone. They are tried again with
        the next one."""
        return len(self._lines) - self._on_disk

    def write(self, settlement: Entry, receipt: str, count: int) -> None:
        """Keep a settlement: the system has it when this returns, or is ``behind``."""
        self._lines.append(json.dumps([receipt, count, *settlement]).encode("ascii") + b"\n")
        self.catch_up()

    def catch_up(self) -> None:
        """Write what is not on the disk."""
        before = self.behind
        try:
            if self._file >= 0 and not os.fstat(self._file).st_nlink:  # somebody has cleared up
                self._close()
            if self._file < 0:
                self._open()
            _append(self._file, b"".join(self._lines[self._on_disk :]))
        except OSError as error:
            if before == 1:
                log.error("spool: %s cannot be written, and its settlements wait in memory: %s", self.folder, error)
        else:
            self._on_disk = len(self._lines)

    def clear(self) -> None:
        """All that this process kept is delivered."""
        if self._file >= 0:
            with suppress(OSError):
                self._path.unlink()
            self._close()
        self._lines.clear()

    def left_behind(self) -> Iterator[tuple[Entry, str, int]]:
        """What processes that are gone have left for this store; a file goes when whoever iterates asks for what comes
        after it. What cannot be read is said, and left for a person."""
        for path in sorted(self.folder.glob(f"{self._mark}-*.jsonl")):
            try:
                with path.open("rb") as file:
                    _lock(file.fileno())
                    if not os.fstat(file.fileno()).st_nlink:  # somebody else was faster
                        continue
                    bad = 0
                    for line in file:
                        found = _parsed(line)
                        bad += found is None and bool(line.strip())
                        if found is not None:
                            yield found
                    if bad:
                        aside = path.replace(path.with_suffix(".unreadable"))
                        log.error(
                            "spool: %s of %s cannot be read, and may be settlements that are lost", _lines(bad), aside
                        )
                    else:
                        path.unlink()
            except (FileNotFoundError, BlockingIOError):
                continue
            except OSError as error:
                if path not in self._told:
                    self._told.add(path)
                    log.error("spool: %s is not delivered: %s", path, error)

    def _open(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._path, self._on_disk = self.folder / f"{self._mark}-{uuid4().hex}.jsonl", 0
        self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        _lock(self._file)

    def _close(self) -> None:
        if self._file >= 0:
            file, self._file, self._on_disk = self._file, -1, 0
            os.close(file)


def _append(file: int, data: bytes) -> None:
    """All of it, or nothing.

    Raises:
        OSError: nothing.
    """
    size = os.fstat(file).st_size
    try:
        while data:
            data = data[os.write(file, data) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


def _parsed(line: bytes) -> tuple[Entry, str, int] | None:
    try:
        receipt, count, claims, held, actual, until = json.loads(line)
        entry = Entry([Claim(*claim) for claim in claims], held, actual, until)
        whole = [count, until, *held, *actual, *(figure for claim in entry.claims for figure in claim[1:])]
        if not isinstance(receipt, str) or not all(isinstance(claim.account, str) for claim in entry.claims):
            return None
        if not all(isinstance(figure, int) for figure in whole) or not len(claims) == len(held) == len(actual):
            return None
    except (ValueError, TypeError, RecursionError):
        return None
    return entry, receipt, count


def _lines(number: int) -> str:
    return "1 line" if number == 1 else f"{number:,} lines"


def _lock(file: int) -> None:
    """While a process lives, its file is its own.

    Raises:
        BlockingIOError: the process lives.
    """
    with suppress(ImportError):  # on Windows a file that is open cannot be removed
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
