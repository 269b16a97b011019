"""What a semantic cache would have answered, recorded for a person to label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from langchain_costguard.caching.base import CacheError
from langchain_costguard.observe.files import appended
from langchain_costguard.vocabulary.checks import filed
from langchain_costguard.vocabulary.urls import reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """An answer that would have been given, or nearly.

    Attributes:
        prompt, stored: The prompt, and the remembered one that it was like.
        served: Whether the answer would have been given.
        score, similarity, reasons: As in the ``Verdict``.
        remembered, reply: The answer remembered, and the model's own, as JSON.
        same: The label: whether the remembered answer does for the prompt; None until a person has said.
    """

    id: str
    prompt: str
    stored: str
    served: bool
    score: float
    similarity: float
    reasons: tuple[str, ...] = ()
    remembered: str = ""
    reply: str = ""
    same: bool | None = None


_NAMES = frozenset(field.name for field in fields(Shadow))


class ShadowLog:
    """What a cache in shadow would have answered: in memory, or in a file of JSON lines that is read at the start.

    Holds the texts of prompts and replies: whoever asks for it wants to read them. A file is only ever added to; a
    later line of the same ``id`` says more of an earlier one.

    Args:
        path: The file; in memory alone without it.
        least: The score from which on a near miss is recorded, too: it is these that tell a fit how low it may go.
        most: Records kept in memory; the oldest go first.

    Raises:
        ValueError: names the field and the value; or the file holds something else.
    """

    def __init__(self, path: str | Path | None = None, *, least: float = 0.7, most: int = 10_000) -> None:
        if isinstance(least, bool) or not isinstance(least, (int, float)) or not 0 <= least <= 1:
            raise ValueError(f"least: {least!r} must be a score from 0 to 1")
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"most: {most!r} must be a whole number above 0")
        self.path = Path(filed("path", path)) if path is not None else None
        self.least = float(least)
        self.most = most
        self._lock = Lock()
        self._rows: dict[str, Shadow] = {}
        if self.path is not None and self.path.exists():
            try:
                self._read(self.path)
            except OSError as error:
                raise ValueError(f"path: {str(self.path)!r} cannot be read: {reason(error)}") from None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Shadow:
        return self.rows[index]

    @property
    def rows(self) -> Sequence[Shadow]:
        """All records, the oldest first."""
        with self._lock:
            return tuple(self._rows.values())

    def add(self, **seen: Any) -> None:
        """Record what would have been answered: the fields of a ``Shadow`` but for its id.

        Raises:
            CacheError: the file could not be written.
        """
        row = Shadow(id=uuid4().hex, **seen)
        with self._lock:
            self._put(row)
            self._write(asdict(row))

    def label(self, i: int, same: bool) -> None:
        """Say whether the remembered answer of record ``i`` does for the prompt.

        Raises:
            IndexError: there is no such record.
            ValueError: ``same`` is not True or False.
            CacheError: the file could not be written.
        """
        if not isinstance(same, bool):
            raise ValueError(f"same: {same!r} must be True or False")
        with self._lock:
            row = list(self._rows.values())[i]
            self._write({"id": row.id, "same": same})
            self._rows[row.id] = replace(row, same=same)

    def pairs(self) -> list[tuple[str, str, bool]]:
        """What has been labelled, as ``SemanticCache.fit`` takes it."""
        return [(row.prompt, row.stored, row.same) for row in self.rows if row.same is not None]

    def _put(self, row: Shadow) -> None:
        self._rows[row.id] = row
        while len(self._rows) > self.most:
            del self._rows[next(iter(self._rows))]

    def _write(self, row: dict[str, Any]) -> None:
        if self.path is None:
            return
        try:
            appended(self.path, json.dumps(row).encode("ascii") + b"\n")
        except OSError as error:
            raise CacheError(f"the shadow log could not be written: {error}") from error

    def _read(self, path: Path) -> None:
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = {name: value for name, value in json.loads(line).items() if name in _NAMES}
                if "reasons" in row:
                    row["reasons"] = tuple(row["reasons"])
                known = self._rows.get(row["id"])
                self._put(replace(known, **row) if known else Shadow(**row))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                # The last line of a writer that was killed is cut short: what is whole stays.
                if number == 1:
                    raise ValueError(f"path: {str(path)!r} is no shadow log: {error}") from None
