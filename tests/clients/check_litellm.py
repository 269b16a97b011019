"""A real LiteLLM proxy: a gateway's own names, and the cost it states. ``.ci/extended litellm`` runs this."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_openai import ChatOpenAI

from langchain_costguard import CostGuard
from langchain_costguard.events import CallSettled
from langchain_costguard.testing import FakeProvider, Recorder, Reply

CONFIG = """
model_list:
  - model_name: cheap
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{url}", api_key: x}}
"""
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
        running = subprocess.Popen([program, "--config", config, "--port", str(port), "--host", "127.0.0.1"])
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"{url}/health/liveliness", timeout=2)
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(1)
            yield url
        finally:
            running.terminate()
            running.wait(30)


@pytest.mark.parametrize(("told", "source"), [("aliases", "priced"), ("trust_cost_from", "provider")])
def test_a_gateways_own_name_is_charged_at_what_it_stands_for(told: str, source: str, proxy: str) -> None:
    recorder = Recorder()
    known = {"aliases": {"cheap": "openai:gpt-4o-mini"}} if told == "aliases" else {"trust_cost_from": [proxy]}
    guard = CostGuard(sinks=[recorder], **known)
    model = ChatOpenAI(
        model="cheap", base_url=f"{proxy}/v1", api_key="x", max_retries=0, include_response_headers=source == "provider"
    )
    model.invoke("hello", {"callbacks": [guard]})
    (event,) = recorder.of(CallSettled)
    assert (event.charge, event.source) == (COST, source)
