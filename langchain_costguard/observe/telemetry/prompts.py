"""The prompt log: system message, history, tools and reply of each call, a line of JSON each, in a private file."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Collection
from typing import Any
from uuid import UUID

from langchain_costguard.observe.files import appended
from langchain_costguard.observe.telemetry.content import Redact, clean, messages_of, redacted, replies_of
from langchain_costguard.vocabulary.checks import filed
from langchain_costguard.vocabulary.scope import Scope


class PromptLog:
    """Writes the calls it is given to a file that only its owner may read.

    Args:
        path: The file. When it is full it becomes ``path.1``, the one before ``path.2``, and so on.
        features: Only calls of these features. None takes all.
        share: The share of runs that is logged, 0 to 1, chosen by run id: the same in every process.
        megabytes: How large the file may become.
        keep: How many full files are kept.
        redact: What is done to every text. Default: keys, cards and e-mails are taken out.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        features: Collection[str] | None = None,
        share: float = 1.0,
        megabytes: float = 100.0,
        keep: int = 5,
        redact: Redact = redacted,
    ) -> None:
        if isinstance(features, str):
            raise ValueError(f"features: {features!r} must be a list of names such as [{features!r}]")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ValueError(f"share: {share!r} must be above 0 and at most 1")
        if isinstance(megabytes, bool) or not isinstance(megabytes, (int, float)) or not megabytes > 0:
            raise ValueError(f"megabytes: {megabytes!r} must be above zero")
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValueError(f"keep: {keep!r} must be a whole number above zero")
        self.path = filed("prompts", path)
        self._features = None if features is None else frozenset(features)
        self._below = int(share * 2**32)
        self._most = int(megabytes * 1e6)
        self._keep = keep
        self._redact = redact
        self._lock = threading.Lock()

    def takes(self, scope: Scope, run_id: UUID) -> bool:
        """Whether a call is logged."""
        if self._features is not None and scope.feature not in self._features:
            return False
        return run_id.int % 2**32 < self._below

    def write(self, facts: dict[str, Any], said: Any, params: Any, outcome: Any) -> None:
        """Add a call: ``facts`` as they are, and what was said, redacted."""
        redact = self._redact
        row = {
            **facts,
            "messages": messages_of(said, redact),
            "tools": clean(params.get("tools") or params.get("functions") or [], redact),
            "reply": replies_of(outcome, redact),
        }
        line = (json.dumps(row, default=str, ensure_ascii=False) + "\n").encode()
        with self._lock:
            self._turn(len(line))
            appended(self.path, line)

    def _turn(self, more: int) -> None:
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            return
        if not size or size + more <= self._most:
            return
        for n in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}.{n}", f"{self.path}.{n + 1}")
        with contextlib.suppress(FileNotFoundError):  # another process was first
            os.replace(self.path, f"{self.path}.1")
