"""``costguard serve``: nothing is shown or done without the token, and what is done is in the log with who did it."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from langchain_costguard import AgentHaltedError, Budget, CostGuard, Spend, SQLiteStore
from langchain_costguard.cli import main
from langchain_costguard.observe.log.entry import NAMES
from langchain_costguard.testing import ScriptedChatModel
from tests.cli.conftest import Shell
from tests.conftest import PRICES


class Browser:
    """Keeps cookies, and follows redirects."""

    def __init__(self, url: str) -> None:
        self.url, _, self.token = url.partition("?token=")
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str = "", **headers: str) -> tuple[int, str]:
        return self._ask(urllib.request.Request(self.url + path, headers=headers))

    def post(self, path: str, given: Any, **headers: str) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self._ask(urllib.request.Request(self.url + path, json.dumps(given).encode(), headers))

    def _ask(self, request: urllib.request.Request) -> tuple[int, str]:
        try:
            with self._opener.open(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> CostGuard:
    folder = tmp_path_factory.mktemp("fleet")
    guard = CostGuard(
        Budget(per="agent", usd="0.50", name="each"),
        store=SQLiteStore(folder / "budgets.db"),
        log=folder / "spend.db",
        prices=PRICES,
    )
    ask(guard)
    return guard


def ask(guard: CostGuard) -> None:
    with guard.scope(agent="research"):
        ScriptedChatModel(usage=(1000, 500), max_tokens=500).invoke("hi", {"callbacks": [guard]})


@pytest.fixture(scope="module")
def browser(fleet: CostGuard, shared_shell: Shell) -> Iterator[Browser]:
    assert fleet.log is not None
    fleet.log.flush()
    folder = Path(fleet.log.place).parent
    store, log = f"sqlite:{folder / 'budgets.db'}", fleet.log.place
    child = shared_shell.costguard("serve", "--log", log, "--store", store, "--port", "0")
    assert child.stdout is not None
    yield Browser(child.stdout.readline().strip())
    child.terminate()


def test_where_nobody_can_listen_no_address_is_told(fleet: CostGuard, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleet.log is not None
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        number = str(taken.getsockname()[1])
        for words, said in (
            (["--port", number], f"--host 127.0.0.1, --port {number}: nobody can listen there: Address already in use"),
            (["--host", "h h"], "--host h h, --port 8042: nobody can listen there: .*; name another"),
            (["--port", "70000"], "Invalid value for '--port': 70000 is not in the range"),
        ):
            assert main(["serve", "--log", fleet.log.place, *words]) == 2
            printed = capsys.readouterr()
            assert printed.out == ""
            assert re.match(f"costguard: {said}", printed.err)


def test_nothing_is_shown_or_done_without_the_token(browser: Browser) -> None:
    stranger = Browser(f"{browser.url}?token=guessed")
    assert stranger.get("?token=guessed")[0] == 401
    for path in ("", "facts", "brake"):
        status, text = stranger.get(path)
        assert (status, "spent" in text) == (401, False), path
    assert stranger.post("act", {"action": "kill", "who": "x"})[0] == 401


def test_another_site_cannot_act_through_a_persons_browser(browser: Browser) -> None:
    assert browser.get(f"?token={browser.token}")[0] == 200
    for headers in ({}, {"X_Costguard": "guessed"}):
        status, text = browser.post("act", {"action": "kill", "agent": "research", "who": "x"}, **headers)
        assert (status, "load it again" in text) == (403, True)
    assert browser.get("facts", Host="rebound.example.com")[0] == 400


def test_a_person_sees_filters_kills_revives_and_grants_and_is_in_the_log(browser: Browser, fleet: CostGuard) -> None:
    status, text = browser.get(f"?token={browser.token}")
    assert status == 200
    assert browser.token not in text
    csrf = re.search(r'CSRF = "(\w+)"', text)[1]  # type: ignore[index]
    facts = json.loads(browser.get("facts?agent=research&since=1d")[1])
    assert (facts["total"]["calls"], facts["filters"]) == (1, {"agent": ["research"]})
    assert json.loads(browser.get("facts?agent=nobody")[1])["total"]["calls"] == 0
    assert browser.get("facts?since=soon") == (
        400, '{"error":"since: \'soon\' is no date such as 2026-11-01, nor a time ago such as 7d"}',
    )  # fmt: skip

    def act(**given: str) -> str:
        status, text = browser.post("act", {"who": "Jane", **given}, X_Costguard=csrf)
        answer: dict[str, str] = json.loads(text)
        assert status == (200 if "said" in answer else 400)
        return answer.get("said") or answer["error"]

    assert act(action="kill", agent="research", reason="too dear").startswith("research: halted")
    fresh = CostGuard(store=SQLiteStore(Path(str(fleet.log.place)).parent / "budgets.db"))  # type: ignore[union-attr]
    with pytest.raises(AgentHaltedError, match="too dear"):
        ask(fresh)
    state = json.loads(browser.get("brake")[1])
    assert (state["halts"], state["agents"]) == ([["research", "too dear"]], ["research"])
    assert act(action="revive", agent="research") == "research: not halted any more."
    assert act(action="grant", account="each|research|usd", amount="0.25") == "each: $0.2500 more."
    assert (
        act(action="grant", account="each|nobody|usd", amount="1") == "account: 'each|nobody|usd' is not in the store"
    )
    assert act(action="grant", account="each|research|usd", amount="much").startswith("usd: 'much' is no amount")
    assert act(action="kill", who=" ") == "who: say who you are; it is in the log"
    assert fleet.headroom(fleet.whose()._replace(agent="research")).rows[0].granted == 250_000_000
    rows = Spend(fleet.log).rows("action")  # type: ignore[arg-type]
    done = [(row.names[NAMES.index("status")], row.names[NAMES.index("name")], row.extra["by"]) for row in rows]
    assert done == [("Killed", "research", "Jane"), ("Revived", "research", "Jane"), ("Granted", "each", "Jane")]
