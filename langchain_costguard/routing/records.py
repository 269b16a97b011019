"""What routers learn from: prompts, and which models' answers were good enough; read from files of JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_costguard.vocabulary.checks import filed
from langchain_costguard.vocabulary.urls import reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of one prompt.

    Args:
        prompt: What the user asked.
        quality: How good each model's answer was, from 0 to 1, by feedback, a judge or a check; two models or more.
        cost: What each model's answer cost, in dollars, where that is known.
        tools: The tools offered with it, as schemas.

    Raises:
        ValueError: names the field and the value.
    """

    prompt: str
    quality: Mapping[str, float]
    cost: Mapping[str, float] = field(default_factory=dict)
    tools: Sequence[Any] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise ValueError(f"prompt: {self.prompt!r} must be a string")
        if not isinstance(self.quality, Mapping) or len(self.quality) < 2:
            raise ValueError(f"quality: {self.quality!r} must name two models or more")
        if not isinstance(self.cost, Mapping):
            raise ValueError(f"cost: {self.cost!r} must be an object of models")
        if not isinstance(self.tools, (list, tuple)):
            raise ValueError(f"tools: {self.tools!r} must be a list of schemas")
        for name, most in (("quality", 1.0), ("cost", math.inf)):
            for model, value in getattr(self, name).items():
                if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= most:
                    wanted = "a number from 0 to 1, or true or false" if name == "quality" else "dollars, 0 or more"
                    raise ValueError(f"{name}.{model}: {value!r} must be {wanted}")
        object.__setattr__(self, "quality", {model: float(value) for model, value in self.quality.items()})


@dataclass(frozen=True, slots=True)
class Reading:
    """The records of a file, and a sentence for each line that is none.

    ``unjudged`` are answers of which nobody said whether they were good: they are left out.
    """

    records: list[Record]
    skipped: list[str]
    unjudged: int = 0


def read(path: str | Path, *, strict: bool = False) -> Reading:
    """The records of a file of JSON lines, of any of three kinds. A bad line is skipped and told, and the rest kept.

    - ``{"prompt", "quality": {model: 0..1 or bool}, "cost"?, "tools"?}`` (or ``"models"``, for ``"quality"``).
    - ``{"prompt", "model", "good", "cost"?, "tools"?}`` for each answer. They are grouped by prompt; of a model that
      answered it more than once the mean counts.
    - The same as a ``RunLog`` writes them: with an ``"id"``, ``"good": null`` where nobody judged the answer, and
      ``"assumed": true`` where that was only concluded, which counts where nothing was checked. ``{"id", "good"}`` is
      what was heard of an answer later; the last one counts.

    Raises:
        ValueError: there is no such file; with ``strict``, the first bad line and its field.
    """
    try:
        lines = Path(filed("path", path)).read_text("utf-8-sig", errors="replace").split("\n")
    except OSError as error:
        raise ValueError(f"path: {str(path)!r}: {reason(error)}") from None
    file = _File()
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                file.take(number, _row(line))
            except (ValueError, RecursionError) as error:
                file.told.append((number, str(error)))
    file.join()
    skipped = [f"line {number}: {what}" for number, what in file.told]
    if strict and skipped:
        raise ValueError(f"{path}: {skipped[0]}")
    return Reading(file.records, skipped, file.unjudged)


class _File:
    """What the lines of a file have said so far."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.told: list[tuple[int, str]] = []
        self.unjudged = 0
        self._answers: list[tuple[int, dict[str, Any]]] = []
        self._heard: dict[str, tuple[int, Any]] = {}

    def take(self, number: int, row: dict[str, Any]) -> None:
        quality = "quality" if "quality" in row else "models"
        if quality in row:
            self.records.append(_record(row, quality))
        elif "id" in row and not row.keys() & {"prompt", "model"}:
            self._heard[_id(row)] = number, _judged(row)
        else:
            _check_answer(row)
            self._answers.append((number, row))

    def join(self) -> None:
        """Make records of the answers and what was heard of them."""
        known = {row["id"] for _, row in self._answers if "id" in row}
        self.told += [(n, f"id: no answer here is {i!r}") for i, (n, _) in self._heard.items() if i not in known]
        by_prompt: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for number, row in self._answers:
            if row.get("id") in self._heard:
                judged = {**row, "good": self._heard[row["id"]][1], "assumed": False}
            else:
                judged = row
            if judged["good"] is None:
                self.unjudged += 1
            else:
                by_prompt.setdefault(row["prompt"], []).append((number, judged))
        for rows in by_prompt.values():
            try:
                self.records.append(_grouped([row for _, row in rows]))
            except ValueError as error:
                self.told.append((rows[0][0], str(error)))


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"no JSON ({error})") from None
    if not isinstance(row, dict):
        raise ValueError(f"{line.strip()[:40]!r} must be an object")
    return row


def _record(row: Mapping[str, Any], quality: str) -> Record:
    return Record(
        prompt=row.get("prompt"),  # type: ignore[arg-type]
        quality=row[quality],
        cost={} if row.get("cost") is None else row["cost"],
        tools=row.get("tools") or (),
    )


def _id(row: Mapping[str, Any]) -> str:
    if not isinstance(row["id"], str) or not row["id"]:
        raise ValueError(f"id: {row['id']!r} must be a string, and not empty")
    return str(row["id"])


def _judged(row: Mapping[str, Any]) -> Any:
    if "good" not in row:
        raise ValueError("good: missing; what is heard of an answer has 'id' and 'good'")
    if row["good"] is not None:
        Record(prompt="", quality={"good": row["good"], "": 0})
    return row["good"]


def _check_answer(row: Mapping[str, Any]) -> None:
    for name in ("prompt", "model", "good"):
        if name not in row:
            raise ValueError(f"{name}: missing; a record has 'prompt' and 'quality', or 'prompt', 'model' and 'good'")
    for name in ("prompt", "model"):
        if not isinstance(row[name], str):
            raise ValueError(f"{name}: {row[name]!r} must be a string")
    if "id" in row:
        _id(row)
    good, cost = 0 if row["good"] is None else row["good"], row.get("cost")
    Record(prompt="", quality={row["model"]: good, "": 0}, cost={} if cost is None else {"cost": cost})


def _grouped(rows: Sequence[Mapping[str, Any]]) -> Record:
    """What is known of a prompt, by its answers."""
    checked = {row["model"] for row in rows if not row.get("assumed")}
    quality = _means([row for row in rows if not row.get("assumed") or row["model"] not in checked], "good")
    if len(quality) < 2:
        raise ValueError(f"good: this prompt has an answer of {', '.join(quality)} alone; two models are compared")
    tools = rows[0].get("tools") or ()
    return Record(prompt=rows[0]["prompt"], quality=quality, cost=_means(rows, "cost"), tools=tools)


def _means(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    by_model: dict[str, list[float]] = {}
    for row in rows:
        if row.get(name) is not None:
            by_model.setdefault(row["model"], []).append(float(row[name]))
    return {model: sum(values) / len(values) for model, values in by_model.items()}
