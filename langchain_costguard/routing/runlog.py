"""The project's own runs on record: which model answered which prompt, and whether that was good enough.

``costguard router train`` learns from the file: lines of one prompt are taken together, and what ``feedback`` says of
a reply counts for more than what was written with it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_costguard.observe.files import appended
from langchain_costguard.observe.forks import held_over_forks
from langchain_costguard.vocabulary.checks import filed


class RunLog:
    """``steer(guard, cascade=..., runs=RunLog("runs.jsonl"))``: each answered model call becomes a line of the file.

    A line is ``{"id", "prompt", "model", "good", "score", "cost"}``: the reply's id, the text of the user's last
    message, the model by the name it was given, whether the reply was good enough (null where nobody knows), the score
    by which a cascade or router went, and USD. A cascade knows what is good: what it trusted; what it asked another
    model about was not. A tier behind a good one is taken to be as good, and the last tier to be good at all: those
    lines have ``"assumed": true``. A call that was refused or failed has none.

    It holds what users wrote, so only the owner of the file may read it. Lines are appended whole, from any number of
    threads and processes; steering warns once where that fails, and goes on.

    Args:
        path: The file, made by the first line.

    Raises:
        ValueError: ``path`` is no path, or in no folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(filed("path", path))
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise ValueError(f"path: {str(path)!r} must be a file in a folder that exists")
        self._lock = held_over_forks(threading.Lock())

    def __repr__(self) -> str:
        return f"RunLog({str(self.path)!r})"

    def answered(
        self,
        prompt: str,
        model: str,
        *,
        id: str | None = None,
        good: bool | None = None,
        score: float | None = None,
        cost: int | None = None,
        assumed: bool = False,
    ) -> None:
        """Append a model's answer. Steering does it; call it yourself for answers that came from elsewhere.

        Args:
            prompt: What the user asked.
            model: The model's name.
            id: The reply's, by which feedback finds it; there may be none.
            good: Whether the answer was good enough; None: nobody knows yet.
            score: How sure somebody was of it, on their own scale.
            cost: What it took, in nano-USD; None: unknown.
            assumed: Whether ``good`` was concluded rather than checked.

        Raises:
            OSError: the file cannot be written.
        """
        line: dict[str, Any] = {"prompt": prompt, "model": model, "good": good, "score": score}
        line |= {} if id is None else {"id": id}
        line |= {} if cost is None else {"cost": cost / 1e9}
        self._append(line | ({"assumed": True} if assumed else {}))

    def feedback(self, reply: BaseMessage | str, good: bool = True) -> None:
        """Say whether a reply was good enough: of one reply, the last word counts.

        Args:
            reply: The reply (the last message of an agent's result), or its id.
            good: Whether it was.

        Raises:
            ValueError: ``reply`` has no id, or ``good`` is neither True nor False.
            OSError: the file cannot be written.
        """
        found = reply.id if isinstance(reply, BaseMessage) else reply
        if not isinstance(found, str) or not found:
            raise ValueError(f"reply: {reply!r} must be a reply with an id, or that id")
        if not isinstance(good, bool):
            raise ValueError(f"good: {good!r} must be True or False")
        self._append({"id": found, "good": good})

    def _append(self, line: Mapping[str, Any]) -> None:
        # "\ud800" and the like cannot be written as UTF-8; escaped, anything can.
        data = json.dumps(line).encode("ascii") + b"\n"
        with self._lock:
            appended(self.path, data)
