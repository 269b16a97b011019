"""A plugin of pytest: which lines of the package each test comes by, and how long it takes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

FOLDER = Path(os.environ["MUTANTS"])
_cover = Coverage(data_file=str(FOLDER / "coverage"), source=["langchain_costguard.metering"], config_file=False)
_cover.start()
_seconds: dict[str, float] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: Any) -> Iterator[None]:
    """Note one test."""
    _cover.switch_context(item.nodeid)
    began = time.perf_counter()
    result = yield
    _seconds[item.nodeid] = time.perf_counter() - began
    return result


def pytest_sessionfinish() -> None:
    """Write what was found."""
    _cover.stop()
    _cover.save()
    (FOLDER / "seconds.json").write_text(json.dumps(_seconds), "utf-8")
