"""The notebooks run, and what they show in the repository is what they print."""

from __future__ import annotations

import asyncio
import base64
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
MACHINE = re.compile(r"/home/|/root/|Traceback|\b0x[0-9a-f]{6,}|127\.0\.0\.1:\d")


@pytest.fixture(scope="module")
def kernel() -> Iterator[AsyncKernelManager]:
    """One for all, which then imports LangChain once; that each runs from nothing, too, is shown by ``.ci/run``."""
    manager = AsyncKernelManager()
    yield manager
    asyncio.run(manager.shutdown_kernel(now=True))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_is_stored_which_names_no_machine(path: Path, kernel: AsyncKernelManager) -> None:
    stored = nbformat.read(path, as_version=4)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in code)
    shown = "".join(str(cell.outputs) for cell in code)
    assert not MACHINE.search(shown)
    assert str(path.parent.parent) not in shown
    fresh = nbformat.read(path, as_version=4)
    fresh.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))  # nothing of the one before
    NotebookClient(fresh, km=kernel, timeout=120).execute()
    for old, new in zip(stored.cells, fresh.cells[1:], strict=True):
        if old.cell_type == "code" and "MISSING" not in old.source:  # a package that may be there or not
            assert told(new) == told(old), old.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_its_result_drawn_at_twice_the_pixels_and_in_a_sentence(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    first = next(cell for cell in cells if cell.cell_type == "code" and cell.outputs)
    assert pictures(first)
    assert any(output.output_type == "stream" and re.search(r"\d %|\d%", output.text) for output in first.outputs)
    drawn = [cell for cell in cells if cell.cell_type == "code" and pictures(cell)]
    assert all(width > 1_000 for cell in drawn for width in pictures(cell))
    code = "".join(cell.source for cell in cells if cell.cell_type == "code")
    labels = re.findall(r"[xy]label=\"([^\"]+)\"", code)
    assert all(re.search(r"\((USD|tokens|share.*|seconds|calls)\)|task|day|call|agent|part", label) for label in labels)


def told(cell: Any) -> tuple[str, list[list[str]]]:
    """What a cell prints, and of what kinds the rest is that it shows; no figures, nor how wide they make a column."""
    printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    shown = [output.data for output in cell.outputs if output.output_type != "stream"]
    words = " ".join([printed, *(data["text/plain"] for data in shown if "image/png" not in data)])
    return re.sub(r"[\s\d.,:%$+-]+", " ", words), [sorted(data) for data in shown]


def pictures(cell: Any) -> list[int]:
    """The widths of the PNGs that a cell shows: https://www.w3.org/TR/png/#11IHDR."""
    shown = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    return [struct.unpack(">I", base64.b64decode(data)[16:20])[0] for data in shown]
