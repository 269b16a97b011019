"""The page in Chromium, at three widths, light and dark: ``python tests/observe/browser.py``. Needs websockets."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).parents[2]))

from langchain_costguard import Spend
from langchain_costguard.events import Refused, Routed, ToolSettled
from langchain_costguard.observe.page.render import page
from tests.observe.test_spend_log import MONDAY, settled, write

WIDTHS = (375, 820, 1280)
LONG = "a name that is very much longer than any column of a page would like it to be " * 2


class Tab:
    """One tab of a browser, over its own protocol. https://chromedevtools.github.io/devtools-protocol/"""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.events: list[dict[str, Any]] = []

    def __call__(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv(timeout=30))
            if told.get("id") == number:
                return told.get("result")
            self.events.append(told)

    def value(self, expression: str) -> Any:
        return self("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


def example(folder: Path) -> Path:
    """A page of a fleet with everything on it, and with names that hurt."""
    place = str(folder / "spend.db")
    events: list[Any] = []
    for n in range(300):
        names = {"agent": f"agent {n % 11}", "feature": ["search", LONG, "<b>bold</b>"][n % 3], "user": f"u{n % 30}"}
        call = settled(MONDAY + n * 3_600, 1_000_000 * (n % 17), **names)
        balances = ((f"user.day|u{n % 30}|2025-12-01|usd", n * 1_000_000, 200_000_000),)
        events.append(replace(call, balances=balances))
        scope = call.scope._replace(trace=str(call.run_id))
        events.append(ToolSettled(call.at + 1, scope, call.run_id, LONG, 1_000_000, 0.2, False, call.run_id))
        if n % 9 == 0:
            events.append(Refused(call.at, scope, None, "model", "gpt-4o", "BudgetExceededError", "", budget=LONG))
            events.append(Routed(call.at, scope, "gpt-4o-mini", "short", 50_000_000))
    write(place, *events)
    (folder / "page.html").write_text(page(Spend(place), title="A fleet"), "utf-8")
    return folder / "page.html"


def complaints(tab: Tab, file: Path, width: int, scheme: str) -> list[str]:
    """What is wrong with the page at a width."""
    tab("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    tab("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab("Page.navigate", url=file.as_uri())
    for _ in range(100):
        if tab.value("document.readyState === 'complete' && document.querySelectorAll('canvas').length >= 3"):
            break
        time.sleep(0.1)
    found = []
    if (wide := tab.value("document.documentElement.scrollWidth")) > width:
        found.append(f"it is {wide} pixels wide")
    tall = "document.querySelector('#{} canvas')?.getBoundingClientRect().height > 100"
    charts = ("time", "refused", "tokens", "first")
    found += [f"there is no chart {name}" for name in charts if not tab.value(tall.format(name))]
    if tab.value("document.querySelectorAll('#traces > details').length") != 10:
        found.append("there are not ten traces")
    if tab.value("document.querySelector('#who b') !== null"):
        found.append("a name is HTML")
    back = tab.value("getComputedStyle(document.body).backgroundColor")
    if (scheme == "dark") != (sum(map(int, back[4:-1].split(", "))) < 384):
        found.append(f"its background is {back}")
    return found


def looked(tab: Tab, file: Path) -> bool:
    """Look at it at each width, in each scheme, and tell; whether all was right."""
    for domain in ("Page", "Runtime", "Network", "Log"):
        tab(f"{domain}.enable")
    wrong = 0
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            found = complaints(tab, file, width, scheme)
            print(f"{width} px, {scheme}: {'; '.join(found) or 'right'}", flush=True)
            wrong += len(found)
    asked = {e["params"]["request"]["url"] for e in tab.events if e.get("method") == "Network.requestWillBeSent"}
    errors = [e["params"] for e in tab.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    strangers = {url for url in asked if not url.startswith(("file:", "data:"))}
    print(f"requests to others: {strangers or 'none'}; errors: {errors or 'none'}", flush=True)
    return not (wrong or strangers or errors)


def main() -> int:
    """Look at it; 1 where something is wrong."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        file = example(folder)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        command = ["chromium", *options, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
            assert browser.stderr is not None
            port = next(line for line in browser.stderr if "DevTools listening" in line).split(":")[2].split("/")[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                url = next(t for t in json.load(answer) if t["type"] == "page")["webSocketDebuggerUrl"]
            try:
                with connect(url, max_size=None) as socket:
                    return int(not looked(Tab(socket), file))
            finally:
                browser.terminate()


if __name__ == "__main__":
    sys.exit(main())
