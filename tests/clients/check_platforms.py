"""Platforms whose real SDK is pointed at loopback: Braintrust, and whatever ``apprise`` knows. See ``.ci/extended
platforms``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.observe.exports.braintrust import Braintrust
from langchain_costguard.observe.notify import Apprise, Notify
from langchain_costguard.testing import FakeProvider, ScriptedChatModel
from tests.conftest import PRICES
from tests.loopback import Answering, Listener
from tests.observe.test_notify import Receiver

CANARIES = ("pelican-in-the-prompt", "sk-canary-0123456789abcdef", "canary@example.com")


class Api(Listener):
    """Braintrust's API, as far as its SDK asks it to log."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.text = ""
        api = self

        class Handler(Answering):
            def do_POST(self) -> None:
                body = self.body().decode()
                if self.path == "/logs3":
                    api.text += body
                    api.rows += json.loads(body)["rows"]
                org = {"id": "o1", "name": "org", "api_url": api.url, "proxy_url": api.url}
                project = {"id": "p1", "name": "shop", "org_id": "o1"}
                self.answer({"org_info": [org], "project": project, **project})

            def do_GET(self) -> None:
                self.answer({"version": "1.0", "logs3_payload_max_bytes": 6_000_000})

        super().__init__(Handler)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as running:
        yield running


def test_braintrusts_own_sdk_logs_a_row_a_call_with_its_cost_and_a_refusal(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    braintrust = pytest.importorskip("braintrust")
    for name, value in (("APP_URL", api.url), ("API_URL", api.url), ("API_KEY", "none")):
        monkeypatch.setenv(f"BRAINTRUST_{name}", value)
    logger = braintrust.init_logger(project="shop")
    guard = CostGuard(Budget(per="all", model_calls=2), prices=PRICES, sinks=[Braintrust(logger)])
    with FakeProvider("four little words here") as provider:
        with guard.scope(user="canary@example.com", feature="search", agent="helper"):
            for _ in range(2):
                list(provider.openai().stream(" ".join(CANARIES), {"callbacks": [guard]}))
            with pytest.raises(BudgetExceededError):
                provider.openai().invoke(" ".join(CANARIES), {"callbacks": [guard]})
        billed = provider.usage()
    logger.flush()
    rows: dict[str, dict[str, Any]] = {}
    for row in api.rows:  # the start and the end of a span are put together by its id
        for key, value in row.items():
            before = rows.setdefault(row["id"], {})
            before[key] = {**before.get(key, {}), **value} if isinstance(value, dict) else value
    calls = [row for row in rows.values() if not row.get("error")]
    (refused,) = [row for row in rows.values() if row.get("error")]
    assert len(calls) == 2
    assert sum(row["metrics"]["prompt_tokens"] for row in calls) == billed.input_tokens
    assert sum(row["metrics"]["completion_tokens"] for row in calls) == billed.output_tokens
    assert round(sum(row["metrics"]["estimated_cost"] for row in calls) * 1e9) == guard.report().total.spent
    assert all(0 <= row["metrics"]["time_to_first_token"] <= row["metrics"]["end"] for row in calls)
    assert all(row["span_attributes"]["type"] == "llm" and row["project_id"] == "p1" for row in calls)
    assert calls[0]["tags"] == ["agent:helper", "feature:search"] or set(calls[0]["tags"]) == {
        "agent:helper", "feature:search",
    }  # fmt: skip
    assert (refused["error"], refused["metadata"]["budget"]) == ("BudgetExceededError", "all")
    assert [canary for canary in CANARIES if canary in api.text] == []


def test_apprise_brings_an_alert_to_whatever_it_knows() -> None:
    pytest.importorskip("apprise")
    receiver = Receiver()
    try:
        target = Apprise(f"json://{receiver.url.removeprefix('http://')}/hook")
        notify = Notify({0.5: target}, spike=None)
        guard = CostGuard(Budget(per="user", model_calls=2), notify=notify)
        with guard.scope(user="canary@example.com"):
            ScriptedChatModel().invoke("pelican-in-the-prompt", {"callbacks": [guard]})
        (posted,) = receiver.wait(1)
        notify.close(10)
    finally:
        receiver.close()
    assert "Budget user is at 50%: 1 model calls of 2 model calls." in posted.body["message"]
    assert not any(canary in posted.text for canary in CANARIES)
    with pytest.raises(ValueError, match="apprise knows no service of one of them"):
        Apprise("nothing")
    assert receiver.url not in repr(target)
