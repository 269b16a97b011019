"""What leaves holds nothing that was said, no key and no address; names are only where they are asked for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from aiosmtpd.controller import Controller
from langchain.agents import create_agent
from langchain_core.tools import tool
from openai import AuthenticationError

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.cli import main
from langchain_costguard.events import Alert, CallFailed, CallSettled, Refused, ToolSettled
from langchain_costguard.observe.exports.braintrust import Braintrust
from langchain_costguard.observe.exports.openmeter import OpenMeter
from langchain_costguard.observe.notify import Alertmanager, Email, Notify, PagerDuty, Slack, Webhook
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.testing import FakeProvider, Recorder, Reply
from tests.conftest import PRICES
from tests.observe.test_metrics import free_port
from tests.observe.test_notify import SECRET, Receiver

WORD, KEY, ADDRESS = "pelican-in-the-prompt", "sk-canary-0123456789abcdef", "canary@example.com"
CARD = "4111 1111 1111 1111"
USER = "someone@example.org"
CANARIES = (WORD, KEY, ADDRESS, CARD, USER)
SAID = f"{WORD} {KEY} {ADDRESS} {CARD}"

WAYS: dict[str, tuple[str, set[str]]] = {
    "otlp": ("costguard.cost.nano_usd", set()),
    "otlp-content": ("gen_ai.input.messages", {WORD}),
    "prometheus": ("costguard_cost_usd", set()),
    "slack": ("user", set()),
    "webhook": ("user", set()),
    "alertmanager": ("user", set()),
    "pagerduty": ("user", set()),
    "email": ("user", set()),
    "openmeter": ("cost_nano_usd", {USER}),
    "openmeter-own": ("cost_nano_usd", set()),
    "braintrust": ("estimated_cost", set()),
    "spend log": ("gpt-4o", {USER}),
    "export": ("gpt-4o", {USER}),
    "focus": ("gpt-4o", {USER}),
    "invoice": ("gpt-4o", {USER}),
    "report": ("gpt-4o", {USER}),
}
"""By each way, a word that is in what it brings, and which of the canaries were asked for there."""


@tool
def look_up(query: str) -> str:
    """Look it up."""
    return SAID


@tool
def broken(query: str) -> str:
    """Break."""
    raise ValueError(SAID)


def spend(guard: CostGuard, seen: Recorder) -> None:
    """A call that fails, an agent that was told, asks a tool and answers, a tool that breaks, and a refusal."""
    config: Any = {"callbacks": [guard]}
    failure = Reply(status=401, error=f"Incorrect API key provided: {KEY}. {SAID}")
    asks = Reply(SAID, tool_calls=[("look_up", {"query": SAID})])
    with FakeProvider([failure, asks, SAID]) as provider, guard.scope(user=USER, feature="search", agent="helper"):
        model = provider.openai(api_key=KEY, max_retries=0)
        with pytest.raises(AuthenticationError):
            model.invoke(SAID, config)
        create_agent(model, [look_up], name="helper").invoke({"messages": [("user", SAID)]}, config)
        with pytest.raises(ValueError, match=WORD):
            broken.invoke({"query": SAID}, config)
        list(model.stream(SAID, config))
        with pytest.raises(BudgetExceededError):
            model.invoke(SAID, config)
    assert {CallFailed, CallSettled, ToolSettled, Refused, Alert} <= set(map(type, seen.events))


class Rows:
    """A logger as Braintrust's is, that is a span as well."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def start_span(self, **given: Any) -> Rows:
        """A row."""
        self.rows.append(given)
        return self

    log = end = start_span


class Box:
    """A mail server's."""

    def __init__(self) -> None:
        self.text = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep a mail."""
        for part in message_from_bytes(envelope.content, policy=policy.default).walk():
            self.text += f"{part.items()} {'' if part.is_multipart() else part.get_content()}"
        return "250 OK"


@contextmanager
def mails() -> Iterator[tuple[Box, str]]:
    """A box, and the server's address."""
    box, port = Box(), free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box, f"smtp://127.0.0.1:{port}"
    finally:
        controller.stop()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By each way, what it brought of the same calls."""
    found: dict[str, str] = {}
    receiver, folder = Receiver(), tmp_path_factory.mktemp("canaries")
    with mails() as (box, server):
        _sent(receiver.url, server, folder, found)
        found["email"] = box.text
    receiver.close()
    for posted in receiver.posted:
        way = posted.path.split("/")[1]
        found[way] = found.get(way, "") + f"{posted.path} {posted.headers} {posted.text}"
    return found


def _sent(url: str, server: str, folder: Path, found: dict[str, str]) -> None:
    """Spend, with every way open; what is no post is put into ``found``."""
    port, rows, seen = free_port(), Rows(), Recorder()
    targets = [
        Slack(f"{url}/slack"), Webhook(f"{url}/webhook", secret=SECRET), Alertmanager(f"{url}/alertmanager"),
        PagerDuty("routing", url=f"{url}/pagerduty"), Email("finance@example.net", server=server),
    ]  # fmt: skip
    notify = Notify({0.5: targets})
    told = [
        Telemetry(otlp=f"{url}/otlp", prometheus=f"127.0.0.1:{port}", annotate=False),
        Telemetry(otlp=f"{url}/otlp-content", content=True, annotate=False),
    ]
    own = OpenMeter(f"{url}/openmeter-own", subject=lambda scope: "customer 7")
    sinks = [OpenMeter(f"{url}/openmeter"), own]
    guard = CostGuard(
        Budget(per="user", model_calls=4), prices=PRICES, log=str(folder / "spend.db"), notify=notify,
        telemetry=told[0], sinks=[told[1], *sinks, Braintrust(rows), seen],
    )  # fmt: skip
    spend(guard, seen)
    told[0].flush()
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        found["prometheus"] = answer.read().decode()
    notify.close(10)
    ends: list[Any] = [*told, *sinks]
    for sink in ends:
        sink.close()
    guard.close()
    found["braintrust"] = repr(rows.rows)
    for way, words in (("export", ()), ("focus", ("--focus",)), ("invoice", ("--invoice",))):
        with redirect_stdout(io.StringIO()) as out:
            main(("export", str(folder / "spend.db"), *words))
        found[way] = out.getvalue()
    found["spend log"] = "".join(file.read_bytes().decode("latin-1") for file in folder.iterdir())
    found["report"] = str(guard.report().by("user", "model"))


@pytest.mark.parametrize("way", WAYS)
def test_what_leaves_holds_no_more_than_was_asked_for(way: str, told: dict[str, str]) -> None:
    word, asked = WAYS[way]
    assert word in told[way]
    assert {canary for canary in CANARIES if canary in told[way]} == asked


def test_each_way_is_tried(told: dict[str, str]) -> None:
    assert set(told) == set(WAYS)
