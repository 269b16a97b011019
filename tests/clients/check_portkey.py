"""A real Portkey gateway: who spends in its headers, and how many requests it made of one. ``.ci/extended portkey``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from langchain_openai import ChatOpenAI

from langchain_costguard import Budget, CostGuard
from langchain_costguard.events import CallSettled, CallStarted
from langchain_costguard.observe.exports.headers import portkey_headers
from langchain_costguard.testing import FakeProvider, Recorder, Reply
from langchain_costguard.vocabulary.scope import Scope
from tests.clients.check_trackers import until
from tests.conftest import PRICES
from tests.observe.lens import Lens
from tests.observe.test_metrics import free_port

LOOPBACK = """
const net = require("net"), listen = net.Server.prototype.listen;  // the gateway takes every interface
net.Server.prototype.listen = function (...given) {
  if (given[0] && typeof given[0] === "object") given[0].host = "127.0.0.1";
  else if (typeof given[1] === "string") given[1] = "127.0.0.1";
  else given.splice(1, 0, "127.0.0.1");
  return listen.apply(this, given);
};
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gateway of npm's ``@portkey-ai/gateway``, in the folder that COSTGUARD_TEST_PORTKEY names."""
    where = tmp_path_factory.mktemp("portkey")
    (where / "loopback.cjs").write_text(LOOPBACK, "utf-8")
    program = Path(os.environ["COSTGUARD_TEST_PORTKEY"]) / "node_modules/@portkey-ai/gateway/build/start-server.js"
    port = free_port()
    words = ["node", "-r", str(where / "loopback.cjs"), str(program), f"--port={port}", "--headless"]
    with (where / "log").open("wb") as log:
        env = {**os.environ, "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
        running = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: httpx.get(url).is_success, 60)
            yield url
        finally:
            running.terminate()
            running.wait(10)


def test_one_admitted_call_that_was_two_requests_is_paid_once_and_says_so(gateway: str) -> None:
    lens, recorder = Lens(), Recorder()
    guard = CostGuard(
        Budget(per="all", model_calls=5), prices=PRICES, sinks=[recorder], telemetry=lens.telemetry(annotate=False)
    )
    scope = Scope(user="u1", session="s1", agent="helper", feature="search", trace="r1")
    with FakeProvider([Reply(status=500), "four little words here"]) as provider:
        config = {"provider": "openai", "custom_host": provider.url, "retry": {"attempts": 2}}
        told = {**portkey_headers(scope, key="k"), "x-portkey-config": json.dumps(config)}
        model = ChatOpenAI(
            model="gpt-4o", base_url=f"{gateway}/v1", api_key="x", max_retries=0, default_headers=told,
            include_response_headers=True,
        )  # fmt: skip
        message = model.invoke("hello", {"callbacks": [guard]})
        assert len(provider.requests) == 2
        billed = provider.usage()
    headers = message.response_metadata["headers"]
    assert headers["x-portkey-retry-attempt-count"] == "1"
    assert headers["x-portkey-trace-id"] == "r1"
    assert json.loads(told["x-portkey-metadata"])["_user"] == "u1"
    assert len(recorder.of(CallStarted)) == 1
    (event,) = recorder.of(CallSettled)
    assert (event.usage.input_tokens, event.usage.output_tokens) == (billed.input_tokens, billed.output_tokens)
    (span,) = lens.spans()
    assert span.attributes["costguard.gateway.requests"] == 2


def test_a_call_that_went_through_at_once_is_one_request(gateway: str) -> None:
    lens = Lens()
    guard = CostGuard(prices=PRICES, telemetry=lens.telemetry(annotate=False))
    with FakeProvider("hello") as provider:
        told = {**portkey_headers(Scope(), provider="openai"), "x-portkey-custom-host": provider.url}
        model = ChatOpenAI(
            model="gpt-4o", base_url=f"{gateway}/v1", api_key="x", default_headers=told, include_response_headers=True
        )
        model.invoke("hello", {"callbacks": [guard]})
    (span,) = lens.spans()
    assert "costguard.gateway.requests" not in span.attributes
