"""Files that are written for people: whole or not at all, for their owner alone, and never over somebody else's."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from langchain_costguard.vocabulary.checks import filed
from langchain_costguard.vocabulary.urls import reason

WITHIN = 4_096
"""Bytes at a file's beginning in which the mark of those that we wrote stands."""

_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def may_write(field: str, path: str | os.PathLike[str], mark: str, *, force: bool = False) -> None:
    """Look whether a file may be written in this place: before the work that it is the result of.

    Raises:
        ValueError: there is no such directory, or what stands in the place is a link, no file, or (unless ``force``)
            a file without the ``mark`` of those that we wrote.
    """
    place, shown = Path(filed(field, path)), repr(str(path))
    try:
        if not place.parent.is_dir():
            raise ValueError(f"{field}: there is no directory {str(place.parent)!r}")
        if place.is_symlink():
            raise ValueError(f"{field}: {shown} is a link to another file; name that file itself")
        if not os.access(place.parent, os.W_OK):
            raise ValueError(f"{field}: {shown} cannot be written")
        if not place.exists():
            return
        if not place.is_file() or not os.access(place, os.W_OK):
            raise ValueError(f"{field}: {shown} cannot be written")
        with place.open("rb") as file:
            start = file.read(WITHIN)
    except OSError as error:
        raise ValueError(f"{field}: {shown} cannot be written: {reason(error)}") from None
    if not force and start.strip() and mark.encode() not in start:
        raise ValueError(
            f"{field}: {shown} was not written by costguard, and would be lost; name another file, or give "
            f"{'--force' if field.startswith('-') else 'force=True'}"
        )


def written(
    path: str | os.PathLike[str], content: str | bytes, *, mark: str, field: str = "path", force: bool = False
) -> None:
    """Write a file, beside the place and then into it: whoever reads meanwhile sees the old file or the new one.

    A file that is there keeps its permissions; a new one is for its owner alone.

    Raises:
        ValueError: as ``may_write``.
        OSError: it cannot be written.
    """
    may_write(field, path, mark, force=force)
    place = Path(path)
    mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o600
    beside = place.with_name(f".{uuid4().hex}.costguard")
    descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _FLAGS, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
        beside.chmod(mode)
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def appended(path: str | os.PathLike[str], content: bytes) -> None:
    """Add to a file, in one write: with ``O_APPEND``, those of other processes go before or after it, never into it. A
    new file is for its owner alone.

    Raises:
        OSError: it cannot be written, or not whole.
    """
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        if os.write(file, content) < len(content):
            raise OSError(f"{path}: a line was cut short")
    finally:
        os.close(file)


def made(path: str | os.PathLike[str], mode: int = 0o600) -> None:
    """Make an empty file with these permissions, whatever the umask; one that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
