"""Settlements kept on disk for the next process, where this one could not deliver them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4


class Spool:
    """A folder with a file for each process that has something to deliver: ``Spool("folder", of="the store")``.

    A file is locked by its process while that lives, and belongs to one store: others are left alone. It is written
    as soon as a settlement fails, for a process may be ended without a word.

    Raises:
        ValueError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], *, of: str) -> None:
        self._of = of
        self._mark = hashlib.sha256(of.encode()).hexdigest()[:12]
        try:
            self.folder = Path(folder).absolute()
            self.folder.mkdir(mode=0o700, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError("it cannot be written to")
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"spool: {folder!r} is no folder that can be used: {error}") from error
        self._file: IO[str] | None = None
        self._path = self.folder

    def of_child(self) -> Spool:
        """The same for a forked child: a file of its own."""
        return Spool(self.folder, of=self._of)

    def write(self, settlement: Sequence[Any], receipt: str, count: int) -> None:
        """Keep a settlement: the system has it when this returns."""
        if self._file is None:
            self._path = self.folder / f"{self._mark}-{uuid4().hex}.jsonl"
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            self._file = os.fdopen(descriptor, "w", encoding="ascii")
            _lock(self._file)
        self._file.write(json.dumps([receipt, count, *settlement]) + "\n")
        self._file.flush()

    def clear(self) -> None:
        """All that this process kept is delivered."""
        if self._file is not None:
            file, self._file = self._file, None
            self._path.unlink(missing_ok=True)
            file.close()

    def left_behind(self) -> Iterator[tuple[list[Any], str, int]]:
        """What processes that are gone have left for this store, as it was written; a file goes when whoever iterates
        asks for what comes after it."""
        for path in sorted(self.folder.glob(f"{self._mark}-*.jsonl")):
            with suppress(FileNotFoundError, BlockingIOError), path.open(encoding="ascii") as file:
                _lock(file)
                if not os.fstat(file.fileno()).st_nlink:  # somebody else was faster
                    continue
                for line in file:
                    with suppress(ValueError):  # a process that was ended in the middle of a line
                        receipt, count, *settlement = json.loads(line)
                        yield settlement, receipt, count
                path.unlink()


def _lock(file: IO[str]) -> None:
    """While a process lives, its file is its own.

    Raises:
        BlockingIOError: the process lives.
    """
    with suppress(ImportError):  # on Windows a file that is open cannot be removed
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
