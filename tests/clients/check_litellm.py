"""A real LiteLLM proxy: a gateway's own names, and the cost it states. ``.ci/extended litellm`` runs this."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from langchain_costguard import Budget, CostGuard
from langchain_costguard.events import CallSettled
from langchain_costguard.testing import FakeProvider, Recorder, Reply
from tests.clients.check_clients import ROADS, ask
from tests.clients.check_trackers import running
from tests.observe.test_metrics import free_port

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


@contextmanager
def proxying(where: Path, config: str) -> Iterator[str]:
    """The address of a proxy that runs in this folder with this configuration."""
    (where / "config.yaml").write_text(config, "utf-8")
    url = f"http://127.0.0.1:{(port := free_port())}"
    program = str(Path(sys.executable).parent / "litellm")
    words = [program, "--config", "config.yaml", "--port", str(port), "--host", "127.0.0.1"]
    with running(words, where, f"{url}/health/liveliness", LITELLM_MASTER_KEY=KEY, LITELLM_LOCAL_MODEL_COST_MAP="True"):
        yield url


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    where = tmp_path_factory.mktemp("litellm")
    with (
        FakeProvider(Reply("hi", input_tokens=500, output_tokens=100)) as provider,
        proxying(where, CONFIG.format(url=provider.url)) as url,
    ):
        yield url


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
