"""What people and programs pass by mistake: values of every kind, none of which may end in a stranger's error."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

SECRET = "hunter2"
"""The password in each odd URL: no error may show it."""


async def awaited(*args: Any, **kwargs: Any) -> float:
    return 1.0


def _endless() -> Any:
    yield 1


URLS = [
    f"redis://:{SECRET}@[",
    f"redis://u:{SECRET}@h:99999/0",
    f"redis://u:{SECRET}@h:port/0",
    f"redis://127.0.0.1:1/0?password={SECRET}&no_such=1",
    f"rediss:/u:{SECRET}@h",
    f"postgresql://u:{SECRET}@h:port/db",
    f"postgresql://u:{SECRET}@[::1/db",
    f"http://u:{SECRET}@h h/%zz",
    f"u:{SECRET}@host:6379",
    f"sqlite://u:{SECRET}@host",
]
TEXTS = ["", " ", "\0", "x", "0", "1e400", "-1", "nan", "1_000", "٣", "\ud800", "é" * 1_000, "a" * 100_000, "../x", "*"]
NUMBERS = [0, -1, 1, 2, 2**63, 10**400, -0.0, 0.5, 1e-320, 1e10, 1.7e308, float("inf"), float("-inf"), float("nan")]
DECIMALS = [Decimal(text) for text in ("0", "-1", "1e-30", "1e400", "1e999999", "NaN", "sNaN", "Infinity", "0.5")]
OTHERS: list[Any] = [
    None, True, False, ..., b"x", 1j, object, object(), len, awaited, lambda *args, **kwargs: None, Path("x"), Path(),
    [], [None], [[]], ["x"], ["x", 1], (), (1, 2), {}, {None: None}, {"x": None}, {"": ""}, {0.5: "x"}, {"x": {"x": 1}},
    set(), {1}, frozenset({"x"}), range(3), np.float64(0.5), np.int64(3), ValueError("x"),
]  # fmt: skip


def odd(chance: random.Random) -> Any:
    """One odd value; iterators are made anew, for they are used up."""
    endless: list[Any] = [_endless(), iter(())]
    pools: list[list[Any]] = [URLS, TEXTS, TEXTS, NUMBERS, NUMBERS, DECIMALS, OTHERS, OTHERS, endless]
    return chance.choice(pools[chance.randrange(9)])
