"""Where the provider chooses the model: held at the dearest it may choose, charged as the one that answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from langchain_costguard import Budget, CostGuard
from langchain_costguard.events import CallSettled
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.testing import FakeProvider, Recorder, Reply
from langchain_costguard.vocabulary.usage import ModelRef
from tests.test_bill import ROADS, settled

NOW = 1_790_000_000.0
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/"


class Beside(httpx.BaseTransport):
    """Brings what is sent to a provider to a server on this machine."""

    def __init__(self, url: str) -> None:
        self.url = httpx.URL(url)
        self.client = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = "/v1/" + request.url.path.partition("/v1/")[2]
        request.url = self.url.copy_with(path=path)
        return self.client.handle_request(request)


CHOOSING: dict[str, tuple[str, str, str, int, int]] = {
    "OpenRouter's auto": (
        "https://openrouter.ai/api/v1", "openrouter/auto", "openai/gpt-4o-mini", 150_000, 600_000,
    ),
    "Azure's model router": (
        "https://acme.openai.azure.com/openai/v1/", "model-router", "gpt-4.1-nano-2025-04-14", 100_000, 400_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("unpriced", ["estimate", "refuse"])
@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("case", CHOOSING)
def test_a_model_that_the_provider_chooses_is_charged_as_itself(case: str, road: str, unpriced: Any) -> None:
    base, asked, answers, given, made = CHOOSING[case]
    with (
        FakeProvider(Reply("four little words here", model=answers)) as provider,
        httpx.Client(transport=Beside(provider.url)) as client,
    ):
        model = provider.openai(asked, base_url=base, http_client=client, max_tokens=100)
        event = settled(
            lambda sinks: CostGuard(Budget(per="session", usd="50"), sinks=sinks, unpriced=unpriced), road, model
        )
    assert (event.charge * 1_000, event.estimated, event.answered) == (2 * given + 4 * made, False, answers)
    assert event.held > 100 * 10_000
    assert (event.requested, event.source) == (asked, "priced")


@pytest.mark.parametrize(
    ("name", "family"),
    [(ROUTER + "anthropic.claude:1", "anthropic.claude"), (ROUTER + "meta.llama:1", "meta.llama"),
     (ROUTER.replace("default-", "") + "abc123", "")],
)  # fmt: skip
def test_a_prompt_router_of_bedrocks_is_held_at_the_dearest_of_its_family(name: str, family: str) -> None:
    rates = PriceBook(unpriced="refuse").quote(ModelRef("amazon_bedrock", name), NOW)
    assert family in rates.model
    assert rates.provider == "aws"
    assert "chooses the model" in rates.source


def test_the_dearest_of_a_family_is_not_the_dearest_of_all() -> None:
    book = PriceBook()
    llama, all_of_them = (
        book.quote(ModelRef("amazon_bedrock", ROUTER + name), NOW) for name in ("meta.llama:1", "anthropic.claude:1")
    )
    assert llama.output < all_of_them.output


def test_a_model_is_known_by_its_arn() -> None:
    book, name = PriceBook(), "anthropic.claude-haiku-4-5-20251001-v1:0"
    for where in ("us-east-1::foundation-model/", "us-east-1:123456789012:inference-profile/us."):
        rates = book.rates(ModelRef("amazon_bedrock", f"arn:aws:bedrock:{where}{name}"), NOW)
        assert rates == book.rates(ModelRef("amazon_bedrock", name), NOW) is not None


def test_what_openrouter_gives_away_by_choice_is_free() -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="session", usd="1"), sinks=[recorder])
    with FakeProvider("hi") as provider, httpx.Client(transport=Beside(provider.url)) as client:
        model = provider.openai("openrouter/free", base_url="https://openrouter.ai/api/v1", http_client=client)
        model.invoke("hello", {"callbacks": [guard]})
    (event,) = recorder.of(CallSettled)
    assert (event.charge, event.held) == (0, 0)
