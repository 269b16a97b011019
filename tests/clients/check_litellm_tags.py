"""A real LiteLLM proxy is told who spends, and telemetry names what it answered with. ``.ci/extended litellm``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from langchain_openai import ChatOpenAI

from langchain_costguard import CostGuard
from langchain_costguard.observe.exports.headers import litellm_body
from langchain_costguard.testing import FakeProvider, Reply
from langchain_costguard.vocabulary.scope import Scope
from tests.clients.check_litellm import KEY, proxying
from tests.clients.check_trackers import until
from tests.conftest import PRICES
from tests.observe.lens import Lens

CONFIG = """
model_list:
  - model_name: cheap
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{url}", api_key: x}}
litellm_settings: {{callbacks: ["notes.noting"]}}
"""
NOTES = """
import json
from litellm.integrations.custom_logger import CustomLogger
class Noting(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        told = kwargs["standard_logging_object"]
        facts = {"tags": told["request_tags"], "user": told["end_user"], "cost": told["response_cost"]}
        with open("told.jsonl", "a") as file:
            print(json.dumps(facts), file=file)
noting = Noting()
"""
SCOPE = Scope(user="u1", session="s1", agent="helper", feature="search", trace="r1")


class Proxy(NamedTuple):
    """A proxy, and where it notes what it was told."""

    url: str
    told: Path


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    where = tmp_path_factory.mktemp("litellm")
    with FakeProvider(Reply("hi", input_tokens=500, output_tokens=100)) as provider:
        (where / "notes.py").write_text(NOTES, "utf-8")
        with proxying(where, CONFIG.format(url=provider.url)) as url:
            yield Proxy(url, where / "told.jsonl")


def test_the_proxy_is_told_user_and_tags_and_the_span_says_what_it_cost(proxy: Proxy) -> None:
    lens = Lens()
    guard = CostGuard(aliases={"cheap": "openai:gpt-4o-mini"}, telemetry=lens.telemetry(annotate=False))
    model = ChatOpenAI(
        model="cheap", base_url=f"{proxy.url}/v1", api_key=KEY, extra_body=litellm_body(SCOPE),
        include_response_headers=True,
    )  # fmt: skip
    with guard.scope(user="u1", session="s1", feature="search", agent="helper"):
        model.invoke("hello", {"callbacks": [guard]})
    (noted,) = until(lambda: [json.loads(line) for line in proxy.told.read_text("utf-8").splitlines()])
    assert noted["user"] == "u1"
    assert {"agent:helper", "feature:search"} <= set(noted["tags"])
    (span,) = lens.spans()
    assert span.attributes["gen_ai.request.model"] == "cheap"
    assert span.attributes["gen_ai.response.model"] == "cheap"  # the proxy's answer has its own name for it
    assert span.attributes["costguard.cost.usd"] == pytest.approx(noted["cost"])
    assert (span.attributes["user.id"], span.attributes["session.id"]) == ("u1", "s1")


@pytest.mark.parametrize("streamed", [False, True])
def test_litellms_own_client_has_one_priced_span(streamed: bool) -> None:
    from langchain_litellm import ChatLiteLLM

    lens = Lens()
    guard = CostGuard(prices=PRICES, telemetry=lens.telemetry(annotate=False))
    with FakeProvider("four little words here") as provider:
        model: Any = ChatLiteLLM(model="openai/gpt-4o", api_base=provider.url, api_key="x")
        config: Any = {"callbacks": [guard]}
        list(model.stream("hello", config)) if streamed else model.invoke("hello", config)
        billed = provider.usage()
    (span,) = lens.spans()
    assert span.attributes["gen_ai.usage.output_tokens"] == billed.output_tokens
    assert span.attributes["costguard.cost.nano_usd"] == billed.input_tokens * 2_500 + billed.output_tokens * 10_000
    assert span.attributes["gen_ai.provider.name"] == "openai"
