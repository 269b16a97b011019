"""A real LiteLLM proxy: a gateway's own names, and the cost it states. ``.ci/extended litellm`` runs this."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from langchain_costguard import Budget, CostGuard
from langchain_costguard.events import CallSettled
from langchain_costguard.testing import FakeProvider, Recorder, Reply
from tests.clients.check_clients import ROADS, ask

CONFIG = """
model_list:
  - model_name: cheap
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{url}", api_key: x}}
litellm_settings:
  include_cost_in_streaming_usage: true
"""
KEY = "sk-of-this-test-alone"
COST = 500 * 150 + 100 * 600
"""500 tokens in and 100 out of gpt-4o-mini, in nano-USD."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with FakeProvider(Reply("hi", input_tokens=500, output_tokens=100)) as provider:
        config = Path(tmp_path_factory.mktemp("litellm")) / "config.yaml"
        config.write_text(CONFIG.format(url=provider.url), "utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        program = Path(sys.executable).parent / "litellm"
        running = subprocess.Popen(
            [program, "--config", config, "--port", str(port), "--host", "127.0.0.1"],
            env={**os.environ, "LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        )
        try:
            yield _when_ready(f"http://127.0.0.1:{port}", running)
        finally:
            running.terminate()
            running.wait(30)


def _when_ready(url: str, running: subprocess.Popen[bytes]) -> str:
    for _ in range(180):
        assert running.poll() is None, "the proxy did not start; what it said is above"
        try:
            urllib.request.urlopen(f"{url}/health/liveliness", timeout=2)
            return url
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError("the proxy was not ready within three minutes")


def settled(proxy: str, road: str, **known: Any) -> CallSettled:
    """What a call of the proxy's model ``cheap`` was charged."""
    recorder = Recorder()
    guard = CostGuard(Budget(per="session", usd="50"), sinks=[recorder], **known)

    def make() -> Any:
        model = ChatOpenAI(
            model="cheap", base_url=f"{proxy}/v1", api_key=KEY, max_retries=0, include_response_headers=True,
            stream_usage=True,
        )  # fmt: skip
        return guard.wrap(model) if road.startswith("wrapped") else model

    ask(make, road.removeprefix("wrapped "), None if road.startswith("wrapped") else {"callbacks": [guard]})
    (event,) = recorder.of(CallSettled)
    return event


@pytest.mark.parametrize("road", ROADS)
def test_a_gateways_own_name_is_charged_at_what_it_stands_for(road: str, proxy: str) -> None:
    event = settled(proxy, road, aliases={"cheap": "openai:gpt-4o-mini"})
    assert (event.charge, event.source) == (COST, "priced")


@pytest.mark.parametrize("road", [road for road in ROADS if road.endswith("invoke") or road.startswith("wrapped")])
def test_the_cost_that_a_trusted_proxy_states_is_the_bill(road: str, proxy: str) -> None:
    event = settled(proxy, road, trust_cost_from=[proxy])
    assert (event.charge, event.source) == (COST, "provider")


@pytest.mark.parametrize("road", ["stream", "astream"])
def test_a_stream_whose_client_drops_the_cost_is_never_charged_nothing(road: str, proxy: str) -> None:
    event = settled(proxy, road, trust_cost_from=[proxy], aliases={"cheap": "openai:gpt-4o-mini"})
    assert event.charge == COST
