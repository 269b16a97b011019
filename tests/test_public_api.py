"""The public names: those that are documented, each importable, and nothing else at the front."""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import langchain_costguard
import langchain_costguard.metering.stores
import langchain_costguard.testing

FRONT = [
    "AgentHaltedError",
    "Budget",
    "BudgetExceededError",
    "CostGuard",
    "CostGuardError",
    "KillSwitch",
    "MemoryStore",
    "ModelRef",
    "Price",
    "RedisStore",
    "Report",
    "SQLiteStore",
    "Scope",
    "Spend",
    "StoreUnavailableError",
    "UnpricedModelError",
    "Usage",
]

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(ROOT / "notebooks" / "guide").glob("*.md")]


def test_the_front_has_these_names() -> None:
    assert sorted(langchain_costguard.__all__) == FRONT


@pytest.mark.parametrize("name", FRONT)
def test_a_name_is_there_documented_and_found_by_dir(name: str) -> None:
    thing = getattr(langchain_costguard, name)
    assert thing.__name__ == name
    assert inspect.getdoc(thing)
    assert name in dir(langchain_costguard)


def test_a_name_is_told_to_type_checkers_as_it_is_told_to_python() -> None:
    text = Path(langchain_costguard.__file__).read_text("utf-8")
    told = re.findall(r"from (?:langchain_costguard)?\.([\w.]+) import \w+ as (\w+)", text)
    homes = {name: home for home, name in told}
    assert homes == langchain_costguard._HOMES


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = langchain_costguard.no_such_name
    with pytest.raises(ImportError):
        from langchain_costguard import no_such_name  # noqa: F401


def test_a_star_import_brings_exactly_them() -> None:
    script = "from langchain_costguard import *\nprint(*sorted(name for name in dir() if name[0] != '_'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == FRONT


@pytest.mark.parametrize("module", ["stores", "pricing", "testing", "routing", "caching", "steering"])
def test_the_rooms_users_import_from_keep_their_word(module: str) -> None:
    room = importlib.import_module(f"langchain_costguard.{module}")
    for name in room.__all__:
        assert getattr(room, name) is not None


OLD_PATHS = {
    "errors": ["BudgetExceededError", "CostGuardError", "CircuitOpenError", "_rebuild"],
    "usage": ["ModelRef", "Usage"],
    "stores": ["MemoryStore", "RedisStore", "SQLiteStore", "Store", "StoreError", "open_store"],
    "pricing": ["Estimator", "Price", "PriceBook"],
    "pricing.prices": ["Price", "PriceBook"],
    "events": ["Alert", "CallSettled", "Event", "Recalled", "Routed", "Sink", "Steered"],
}
"""Paths by which users of version 0.1 import, and what their checkpoints have pickled."""


@pytest.mark.parametrize("path", OLD_PATHS)
def test_paths_of_earlier_versions_lead_to_the_same_things(path: str) -> None:
    module = importlib.import_module(f"langchain_costguard.{path}")
    for name in OLD_PATHS[path]:
        thing = getattr(module, name)
        home = importlib.import_module(getattr(thing, "__module__", module.__name__))
        assert getattr(home, name, thing) is thing
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_a_refusal_that_an_earlier_version_pickled_is_loaded() -> None:
    refusal = langchain_costguard.BudgetExceededError(
        "over", budget="session", measure="usd", scope="all", needed=1, left=0, by_holds=False, reserve=False
    )
    text = pickle.dumps(refusal, protocol=0).replace(
        b"langchain_costguard.vocabulary.errors", b"langchain_costguard.errors"
    )
    assert b"vocabulary" not in text
    loaded = pickle.loads(text)
    assert type(loaded) is langchain_costguard.BudgetExceededError
    assert (str(loaded), loaded.facts) == (str(refusal), refusal.facts)


def test_what_the_readme_and_the_guide_import_is_there() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    found = re.findall(r"^\s*from (langchain_costguard[\w.]*) import ([\w, ]+)", "\n".join(blocks), re.M)
    assert found
    for module, names in found:
        for name in names.replace(" ", "").split(","):
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_the_package_is_typed() -> None:
    assert (Path(langchain_costguard.__file__).parent / "py.typed").exists()
