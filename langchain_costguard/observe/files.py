"""Files that are written for people: whole or not at all, for their owner alone, and where they were asked for."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def written(path: str | os.PathLike[str], text: str) -> None:
    """Write a text, beside the place and then into it: whoever reads meanwhile sees the old file or the new one.

    A file that is there keeps its permissions; a new one is for its owner alone.

    Raises:
        ValueError: a link is in the place: what it points to is not ours to replace.
        OSError: it cannot be written.
    """
    place = Path(path)
    if place.is_symlink():
        raise ValueError(f"path: {str(path)!r} is a link to another file; name that file itself")
    mode = place.stat().st_mode & 0o777 if place.exists() else 0o600
    beside = place.with_name(f".{place.name}.{uuid4().hex[:8]}")
    descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        beside.chmod(mode)
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
