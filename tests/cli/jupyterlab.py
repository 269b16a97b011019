"""Magics and bars in a real JupyterLab, in Chromium, light and dark: ``python tests/cli/jupyterlab.py``.

Needs jupyterlab, playwright and Debian's chromium. Pictures go to the folder that COSTGUARD_PICTURES names.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Page, TimeoutError, sync_playwright

CELLS = [
    """%load_ext langchain_costguard
import time
from langchain_costguard import Budget, CostGuard
from langchain_costguard.testing import FakeProvider
provider = FakeProvider("hello there").start()
model = provider.openai(max_tokens=100)""",
    """%%costguard --usd 0.0020 --model-calls 12
for n in range(9):
    model.invoke("what did we decide in May?")
    time.sleep(0.4)""",
    """%%costguard --model-calls 2
for n in range(3):
    model.invoke("hi")""",
    """guard = %costguard attach --usd 0.002
for n in range(20):
    model.invoke("hi")""",
    "guard",
    'guard.report().by("model")',
]
APP = "window.jupyterapp"
BAR = "[role=progressbar]"
WATCH = f"""() => {{
  window.seen = new Set();
  new MutationObserver(() => {{
    const bar = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[1]?.querySelector('{BAR}');
    if (bar) window.seen.add(Number(bar.getAttribute('aria-valuenow')));
  }}).observe(document.body, {{subtree: true, childList: true, attributes: true}});
}}"""
"""Notes all that the bar of the second cell ever shows: who asks now and then, on a busy machine, misses some."""
NUMBER = re.compile(r"rgba?\((\d+), (\d+), (\d+)")


@contextmanager
def lab(folder: Path, theme: str) -> Iterator[str]:
    """The address of a notebook in a JupyterLab of this theme."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    goes_on = {"tags": ["raises-exception"]}
    cells = [nbformat.v4.new_code_cell(cell, metadata=goes_on) for cell in CELLS]
    book = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(book, folder / "cells.ipynb")
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    for name, said in (("themes", {"theme": f"JupyterLab {theme}"}), ("notification", {"fetchNews": "false"})):
        (settings / f"{name}.jupyterlab-settings").write_text(json.dumps(said), "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    env = {**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "HOME": str(folder)}
    options = {
        "ServerApp.port": port,
        "ServerApp.root_dir": folder,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "",
        "LabApp.expose_app_in_browser": True,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", *given]
    with (folder / "log").open("w") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as server:
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"{address}/api", timeout=2)
                    break
                except OSError:
                    time.sleep(0.2)
            yield f"{address}/lab/tree/cells.ipynb?reset"
        finally:
            server.terminate()


def outputs(page: Page, cell: int) -> Any:
    """What stands under a cell."""
    return page.locator(".jp-Notebook .jp-CodeCell").nth(cell).locator(".jp-OutputArea-output")


def light_of(page: Page, selector: str, what: str) -> float:
    """How bright a colour is, 0 to 255."""
    colour = page.locator(selector).first.evaluate(f"one => getComputedStyle(one)['{what}']")
    found = NUMBER.match(colour)
    assert found is not None, colour
    return sum(map(int, found.groups())) / 3


def complaints(page: Page, theme: str) -> Iterator[str]:
    """What is wrong with what a person sees."""
    spending = outputs(page, 1).locator(BAR)
    with suppress(TimeoutError):  # then what is missing is told below
        outputs(page, 5).locator("table").wait_for(timeout=120_000)
    seen = page.evaluate("[...window.seen]")
    if len(seen) < 4:
        yield f"the bar of a cell that spends was seen at {sorted(seen)} per cent alone"
    if spending.count() != 2 or "9 model calls" not in outputs(page, 1).first.inner_text():
        yield "a cell's cost and two bars are not under it"
    refused = "\n".join(outputs(page, 2).all_inner_texts())
    if "1 refused" not in refused or len(re.findall("refused a call to gpt-4o", refused)) != 1:
        yield f"a refusal is not told once: {refused}"
    if "Traceback" in refused:
        yield "a refusal is a traceback"
    if outputs(page, 3).locator(BAR).count() != 1 or outputs(page, 4).locator(BAR).count() != 1:
        yield "an attached guard has no bar under a cell, or as a value"
    width = outputs(page, 4).locator(f"{BAR} > div").first.bounding_box()
    if width is None or width["width"] < 10:
        yield "a bar that is partly full is empty"
    if page.locator("mjx-container").count():
        yield "money is set as a formula"
    if "line 3 of the cell" not in refused:
        yield f"a refusal names another line: {refused}"
    weight = outputs(page, 5).locator("tbody tr").last.locator("th").first
    if int(weight.evaluate("one => getComputedStyle(one).fontWeight")) < 600:
        yield "the sum is not bold"
    text, back = light_of(page, ".costguard span", "color"), light_of(page, ".jp-Notebook", "backgroundColor")
    if abs(text - back) < 100 or (theme == "Dark") != (back < 128):
        yield f"text of brightness {text:.0f} on {back:.0f} in {theme}"


def main() -> int:
    """Look at it; 1 where something is wrong."""
    wrong = 0
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        for theme in ("Light", "Dark"):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, lab(Path(folder), theme) as address:
                page = browser.new_page(viewport={"width": 1000, "height": 1400}, device_scale_factor=2)
                page.goto(address)
                page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
                page.wait_for_function(f"{APP}?.shell.currentWidget?.sessionContext?.session?.kernel", timeout=60_000)
                page.evaluate(WATCH)
                page.evaluate(f"() => {{ {APP}.commands.execute('notebook:run-all-cells') }}")
                found = list(complaints(page, theme))
                print(f"JupyterLab, {theme.lower()}: {'; '.join(found) or 'right'}")
                wrong += len(found)
                if pictures := os.environ.get("COSTGUARD_PICTURES"):
                    page.locator(".jp-Notebook").screenshot(path=str(Path(pictures) / f"jupyter-{theme.lower()}.png"))
                page.close()
        browser.close()
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
