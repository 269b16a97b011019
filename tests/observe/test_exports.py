"""What leaves for other platforms: in their shapes, each charge once, and without what was said."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.cli import main
from langchain_costguard.events import CallSettled
from langchain_costguard.observe.exports.braintrust import Braintrust
from langchain_costguard.observe.exports.headers import (
    answered_by_cache,
    galileo_otlp,
    helicone_headers,
    litellm_body,
    portkey_headers,
    requests_made,
)
from langchain_costguard.observe.exports.openmeter import METERS, OpenMeter
from langchain_costguard.observe.telemetry import Telemetry
from langchain_costguard.testing import FakeProvider
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage
from tests.conftest import PRICES
from tests.observe.test_notify import Receiver

WHO = Scope(user="u1", session="s1", agent="research", step="model", feature="search", task="t", trace="r1")


class Done(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


Shell = Callable[..., Done]


@pytest.fixture
def costguard(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The command, in this process."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: str) -> Done:
        status = main(words)
        told = capsys.readouterr()
        return Done(status or 0, told.out, told.err)

    return run


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that says yes."""
    running = Receiver()
    yield running
    running.close()


def test_openmeter_gets_each_charge_once_and_corrections_as_differences(
    receiver: Receiver, provider: FakeProvider
) -> None:
    receiver.answers = [(503, {}), (200, {})]
    meter = OpenMeter(receiver.url, token="secret-token")
    guard = CostGuard(prices=PRICES, sinks=[meter])
    with guard.scope(user="u1", feature="search"):
        for _ in range(3):
            provider.openai().invoke("pelican sk-canary-0123456789", {"callbacks": [guard]})
    late = CallSettled(
        1e9, WHO, uuid4(), ModelRef("openai", "gpt-4o"), Usage(10, 5), 700, 900, 0, False, 1.0, None,
        charged_before=1_000, usage_before=Usage(10, 9),
    )  # fmt: skip
    meter(late)
    meter.close()
    events = [event for posted in receiver.posted for event in posted.body]
    assert receiver.posted[0].path == "/api/v1/events"
    assert receiver.posted[0].headers["content-type"] == "application/cloudevents-batch+json"
    assert receiver.posted[0].headers["authorization"] == "Bearer secret-token"
    once = {event["id"]: event for event in events}
    *settled, corrected = once.values()
    assert len(settled) == 3
    assert {event["subject"] for event in settled} == {"u1"}
    assert sum(event["data"]["cost_nano_usd"] for event in settled) == guard.report().total.spent
    assert (corrected["data"]["cost_nano_usd"], corrected["data"]["output_tokens"]) == (-300, -4)
    assert all({"specversion", "id", "source", "type", "subject", "time", "data"} <= set(event) for event in events)
    assert "pelican" not in json.dumps(events)
    assert "canary" not in json.dumps(events)
    values = {meter["valueProperty"].removeprefix("$.") for meter in METERS}
    assert values <= set(corrected["data"])


def test_braintrust_gets_a_row_a_call_through_its_own_sdk(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Span:
        def __init__(self, row: dict[str, Any]) -> None:
            self.row = row

        def log(self, **more: Any) -> None:
            self.row.update(more)

        def end(self, **more: Any) -> None:
            self.row.update(more)

    class Logger:
        def __init__(self) -> None:
            self.rows: list[dict[str, Any]] = []

        def start_span(self, **given: Any) -> Span:
            self.rows.append(given)
            return Span(given)

    logger = Logger()
    guard = CostGuard(Budget(per="all", model_calls=1), prices=PRICES, sinks=[Braintrust(logger)])
    with guard.scope(user="u1", feature="search"):
        list(provider.openai().stream("pelican", {"callbacks": [guard]}))
        with pytest.raises(BudgetExceededError):
            provider.openai().invoke("pelican", {"callbacks": [guard]})
    row, refused = logger.rows
    assert row["type"] == "llm"
    assert row["metrics"]["estimated_cost"] * 1e9 == pytest.approx(guard.report().total.spent)
    assert row["metrics"]["completion_tokens"] == provider.usage().output_tokens
    assert row["metrics"]["time_to_first_token"] >= 0
    assert (row["metadata"]["user"], row["tags"]) == ("u1", ["feature:search"])
    assert (refused["error"], refused["metadata"]["budget"]) == ("BudgetExceededError", "all")
    assert "pelican" not in str(logger.rows)


def test_gateways_are_told_who_spends() -> None:
    helicone = helicone_headers(WHO, key="k")
    assert helicone["Helicone-User-Id"] == "u1"
    assert helicone["Helicone-Session-Path"] == "/search/research/model"
    assert helicone["Helicone-Property-Feature"] == "search"
    portkey = portkey_headers(WHO, key="k", provider="openai")
    told = {"_user": "u1", "session": "s1", "agent": "research", "feature": "search", "task": "t"}
    assert json.loads(portkey["x-portkey-metadata"]) == told
    assert portkey["x-portkey-trace-id"] == "r1"
    assert litellm_body(WHO)["metadata"]["tags"] == ["agent:research", "feature:search", "task:t"]
    assert (litellm_body(WHO)["user"], litellm_body(Scope())) == ("u1", {})
    assert "\n" not in str(helicone_headers(WHO._replace(user="a\nx-evil: 1")).values())


def test_what_gateways_say_is_read() -> None:
    counted = [({"X-Portkey-Retry-Attempt-Count": "1"}, 2), ({"x-portkey-retry-attempt-count": "-1"}, 1), ({}, 1)]
    assert [requests_made(headers) for headers, _ in counted] == [count for _, count in counted]
    hits = [{"Helicone-Cache": "HIT"}, {"x-portkey-cache-status": "HIT"}, {"x-litellm-cache-hit": "True"}]
    assert all(map(answered_by_cache, hits))
    assert not any(map(answered_by_cache, [{"helicone-cache": "MISS"}, {"x-portkey-cache-status": "DISABLED"}, {}]))


def test_an_answer_of_a_proxys_cache_costs_nothing() -> None:
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    from langchain_costguard.testing import ScriptedChatModel

    class Proxied(ScriptedChatModel):
        cached: bool = False

        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            headers = {"helicone-cache": "HIT" if self.cached else "MISS"}
            usage: Any = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
            message = AIMessage("hi", usage_metadata=usage, response_metadata={"headers": headers})
            return ChatResult(generations=[ChatGeneration(message=message)])

    guard = CostGuard(prices={"gpt-4o": PRICES["gpt-4o"]})
    Proxied(cached=True).invoke("hello", {"callbacks": [guard]})
    assert guard.report().total.spent == 0
    Proxied().invoke("hello", {"callbacks": [guard]})
    assert guard.report().total.spent > 0


def test_galileo_is_sent_spans_alone_where_it_takes_them() -> None:
    options = galileo_otlp("https://api.galileo.example", key="k", project="p", log_stream="main")
    assert options["otlp"] == "https://api.galileo.example/otel/traces"
    assert options["headers"] == {"Galileo-API-Key": "k", "project": "p", "logstream": "main"}
    telemetry = Telemetry(**options, annotate=False)
    telemetry.close()


@pytest.fixture
def log(tmp_path: Path) -> str:
    """A log of two customers' calls, a refusal and a failing tool."""
    from langchain_core.tools import tool

    @tool
    def broken() -> str:
        """Break."""
        raise OSError("no disk")

    path = str(tmp_path / "spend.db")
    guard = CostGuard(Budget(per="user", model_calls=2), prices=PRICES, log=path)
    with FakeProvider("four little words here") as provider:
        for user, feature in (("u1", "search"), ("u2", "=cmd()")):
            with guard.scope(user=user, feature=feature, agent="research"):
                for _ in range(2):
                    provider.openai().invoke("hello", {"callbacks": [guard]})
                for _ in range(3):
                    with pytest.raises(BudgetExceededError):
                        provider.openai().invoke("hello", {"callbacks": [guard]})
                with pytest.raises(OSError, match="no disk"):
                    broken.invoke({}, {"callbacks": [guard]})
    guard.log.close()
    return path


@pytest.mark.parametrize(("form", "column"), [("--focus", "BilledCost"), ("--invoice", "amount_decimal")])
def test_finance_gets_rows_that_add_up_and_run_nothing(form: str, column: str, log: str, costguard: Shell) -> None:
    done = costguard("export", log, form)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    unit = 100 if form == "--invoice" else 1
    told = json.loads("[" + ",".join(costguard("export", log).stdout.splitlines()) + "]")
    spent = sum(row["spent"] for row in told)
    assert sum(Decimal(row[column]) for row in rows) == Decimal(spent) * unit / 10**9 > 0
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_openmeters_configuration_is_printed(costguard: Shell) -> None:
    told = json.loads(costguard("export", "--meters").stdout)
    assert "llm_cost_nano_usd" in {meter["slug"] for meter in told["meters"]}


def test_failures_are_put_together_by_cause(log: str, costguard: Shell) -> None:
    text = costguard("failures", log).stdout
    lines = [line.split() for line in text.splitlines()]
    refused = next(line for line in lines if line[:1] == ["refused"])
    assert "6" in refused
    assert any("broken" in line and "2" in line for line in lines)


def test_top_shows_agents_budgets_and_refusals(log: str, tmp_path: Path, costguard: Shell) -> None:
    from langchain_costguard import SQLiteStore

    store = str(tmp_path / "budgets.db")
    guard = CostGuard(Budget(per="user", usd="1.00", window="day"), prices=PRICES, store=SQLiteStore(store))
    with FakeProvider("hello") as provider, guard.scope(user="u1"):
        provider.openai().invoke("hello", {"callbacks": [guard]})
    text = costguard("top", log, "--store", f"sqlite:{store}", "--once").stdout
    for found in ("research", "last hour", "budget user", "user.day", "$1.00", "last refusals"):
        assert found in text


def test_alerts_are_tested_from_the_shell_without_their_address(receiver: Receiver, costguard: Shell) -> None:
    done = costguard("alerts", "test", f"slack={receiver.url}/services/verysecret")
    assert (done.returncode, done.stdout.strip()) == (0, "slack: delivered")
    assert "This is a test" in receiver.posted[0].text
    receiver.answers = [(404, {})]
    done = costguard("alerts", "test", f"slack={receiver.url}/services/verysecret")
    assert (done.returncode, done.stdout.strip()) == (1, "slack: not delivered")
    assert "verysecret" not in done.stdout + done.stderr
    assert costguard("alerts", "test", "fax=1").returncode == 2
