"""Reads a configuration file: everything in it is checked, and what is wrong is said with its file, line and value."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from langchain_costguard.metering.budgets.accounts import refuse_shared_accounts
from langchain_costguard.metering.budgets.budget import Budget
from langchain_costguard.metering.config.places import line_of
from langchain_costguard.metering.pricing.prices import Price


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file says, as a guard's arguments; ``{}`` and None are what it does not say."""

    path: str
    budgets: tuple[Budget, ...] = ()
    prices: Mapping[str, Price] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    tool_prices: Mapping[str, Any] = field(default_factory=dict)
    alerts: tuple[float, ...] | None = None
    store: str | None = None
    log: str | None = None
    switch: str | None = None
    warns: bool = False
    """Whether alerts are said in the program's log."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The other arguments that are given."""


def load(path: str | Path) -> Configuration:
    """What a file says.

    Raises:
        ValueError: names the file and, where there is one, the line, the field and the value.
    """
    name = os.fspath(path)
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"config: {name!r} cannot be read: {why}") from None
    return parse(text, name)


def parse(text: str, name: str) -> Configuration:
    """What the text of a file says; ``name`` is what to call it."""
    from pydantic import ValidationError

    from langchain_costguard.metering.config.model import File

    try:
        raw = tomllib.loads(text, parse_float=Decimal)  # a tenth is exactly a tenth
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}: {error}") from None
    try:
        file = File.model_validate(raw)
    except ValidationError as error:
        raise ValueError(_complaint(error, raw, text, name)) from None
    return _Reader(text, name).configuration(file)


class _Reader:
    """Makes a guard's arguments of a file's, and says of what cannot be where it stands."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name

    def configuration(self, file: Any) -> Configuration:
        options = {
            "unpriced": file.unpriced,
            "assume_output_tokens": file.assume_output_tokens,
            "on_store_failure": file.on_store_failure,
            "hold_seconds": None if file.hold_seconds is None else float(file.hold_seconds),
            "wait": None if file.wait is None else float(file.wait),
        }
        return Configuration(
            path=self._name,
            budgets=self._budgets(file),
            prices={model: self._made(Price, entry, ("prices", model)) for model, entry in file.prices.items()},
            aliases=dict(file.aliases),
            tool_prices=dict(file.tool_prices),
            alerts=None if file.alerts is None else tuple(map(float, file.alerts)),
            store=file.store,
            log=file.log,
            switch=file.switch,
            warns=file.preset == "development",
            options={option: value for option, value in options.items() if value is not None},
        )

    def _budgets(self, file: Any) -> tuple[Budget, ...]:
        preset = [] if file.preset is None else [getattr(Budget, file.preset)()]
        own = [self._made(Budget, entry, ("budgets", number)) for number, entry in enumerate(file.budgets)]
        for agent, entry in file.agents.items():
            own.append(self._made(Budget, entry, ("agents", agent), {"per": "agent", "only": {"agent": agent}}))
        try:
            refuse_shared_accounts(own)
        except ValueError as error:
            raise ValueError(f"{self._name}: budgets: {error}") from None
        return joined(preset, own)

    def _made(self, make: Any, entry: Any, path: Sequence[str | int], fixed: Mapping[str, Any] | None = None) -> Any:
        given = {name: _value(name, value) for name, value in entry if name in entry.model_fields_set}
        try:
            return make(**given, **(fixed or {}))
        except ValueError as error:
            field = str(error).partition(":")[0].removeprefix("Price.").partition(" ")[0]
            at = [*path, field] if field in given else path
            raise ValueError(f"{_where(self._name, self._text, at)}: {_dotted(at)}: {error}") from None


def joined(budgets: Sequence[Budget], more: Sequence[Budget]) -> tuple[Budget, ...]:
    """Budgets, and more of them: those of a label take the place of those that have it already."""
    labels = {budget.label for budget in more}
    return (*(budget for budget in budgets if budget.label not in labels), *more)


def _value(name: str, value: Any) -> Any:
    """A value as an argument is written: lists are tuples, and a share that is a number is a float."""
    if isinstance(value, list):
        return tuple(value)
    if name == "reserve" and isinstance(value, Decimal):
        return float(value)
    return value


def _complaint(error: Any, raw: Any, text: str, name: str) -> str:
    """The first thing that is wrong; of a field with several kinds, in the words of the kind that came nearest."""
    problems = error.errors(include_url=False)
    first = max(problems, key=lambda problem: (_depth(problem["loc"], raw), -problems.index(problem)))
    path = list(first["loc"])
    real, value = _real(path, raw)
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        what = f"there is no such field{_meant(real)}"
    elif first["type"] == "missing":
        return f"{_where(name, text, real)}: {_dotted(real)}: {path[-1]} is missing"
    more = len({tuple(_real(list(problem["loc"]), raw)[0]) for problem in problems}) - 1
    also = f" (and {more} more)" if more else ""
    return f"{_where(name, text, real)}: {_dotted(real)} = {_shown(value)}: {what}{also}"


def _depth(loc: Sequence[Any], raw: Any) -> int:
    return len(_real(list(loc), raw)[0])


def _real(loc: Sequence[Any], raw: Any) -> tuple[list[Any], Any]:
    """The part of pydantic's path that is in the file, and the value there: it also names the kinds it tried."""
    path: list[Any] = []
    value = raw
    for part in loc:
        if (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        ):
            value = value[part]
        else:
            break
        path.append(part)
    return path, value


def _meant(path: Sequence[Any]) -> str:
    from difflib import get_close_matches

    from langchain_costguard.metering.config import model

    kinds = {"budgets": model.BudgetEntry, "agents": model.AgentEntry, "prices": model.PriceEntry}
    kind: Any = kinds.get(path[0], model.File) if len(path) > 1 else model.File
    close = get_close_matches(str(path[-1]), list(kind.model_fields), n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(kind.model_fields)}"


def _where(name: str, text: str, path: Sequence[str | int]) -> str:
    line = line_of(text, path)
    return name if line is None else f"{name}, line {line}"


def _dotted(path: Sequence[str | int]) -> str:
    """``budgets[1].usd``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)
