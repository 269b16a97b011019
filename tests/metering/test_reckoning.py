"""What a reply is charged for: each place where what it says is put right, at the unit where that begins."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from langchain_costguard import Price
from langchain_costguard.metering.budgets.accounts import FOREVER
from langchain_costguard.metering.budgets.holds import NONE, Hold
from langchain_costguard.metering.calls import Call, Stream
from langchain_costguard.metering.pricing.asks import Asks
from langchain_costguard.metering.pricing.offered import Offer
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.metering.reckoning import Reckoning, guess, rates_inside, reckon, with_others
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage

RATES = Rates(input=2_000, output=10_000, input_audio=30_000)
GATEWAY = "http://litellm:4000/v1"
TRUSTED = frozenset({"litellm:4000"})


def holding(deadline: float = FOREVER) -> Hold:
    return Hold([], NONE, NONE, 0, 0, deadline=deadline)


def streamed(*chunks: str, told: Any = None) -> Stream:
    stream = Stream(0.0, 1)
    stream.parts, stream.chunks, stream.usage, stream.repeats = [*chunks], len(chunks), told, told is not None
    return stream


def a_call(provider: str = "openai", seller: str = "", **facts: Any) -> Call:
    """One that may take 101 tokens in, 113 at the most, and three replies of 53."""
    call = Call(uuid4(), None, "model", "gpt-4o", Scope(), "", 0.0)
    call.ref, call.rates, call.hold = ModelRef(provider, "gpt-4o", seller), RATES, holding()
    call.tokens, call.upper, call.words, call.asked, call.ceiling, call.times = 101, 113, 31, 53, 53, 3
    for name, value in facts.items():
        setattr(call, name, value)
    return call


def a_reply(counts: tuple[int, int] | None, text: str = "", details: Any = None, more: Any = None, **facts: Any) -> Any:
    said: Any = None
    if counts is not None:
        said = {"input_tokens": counts[0], "output_tokens": counts[1], "total_tokens": sum(counts), **(details or {})}
    message = AIMessage(text, usage_metadata=said, response_metadata=facts, **(more or {}))
    return LLMResult(generations=[[ChatGeneration(message=message)], [ChatGeneration(message=AIMessage("another"))]])


COST: dict[str, Any] = {"token_usage": {"cost": 0.5}}
HEADERS: dict[str, Any] = {"headers": {"x-litellm-response-cost": "0.25", "x-litellm-model-name": "the dear one"}}
CASES: dict[str, tuple[Call, Any, Reckoning]] = {
    "counts": (a_call(), a_reply((97, 7), "abc"), Reckoning(Usage(97, 7))),
    "a name and a provider": (
        a_call(),
        a_reply((97, 7), model_name="m", model_provider="p"),
        Reckoning(Usage(97, 7), False, "m", "p"),
    ),
    "nothing": (a_call(), a_reply(None, "abc"), Reckoning(None)),
    # Its cost
    "a cost that nobody asked for": (a_call(), a_reply((97, 7), **COST), Reckoning(Usage(97, 7))),
    "a bill": (a_call("openrouter"), a_reply((97, 7), **COST), Reckoning(Usage(97, 7), cost=5 * 10**8)),
    "a bill of who sells it": (
        a_call("openai", "OpenRouter"),
        a_reply((97, 7), **COST),
        Reckoning(Usage(97, 7), cost=5 * 10**8),
    ),
    "no bill of who sells it": (a_call("openrouter", "openai"), a_reply((97, 7), **COST), Reckoning(Usage(97, 7))),
    "a trusted cost": (
        a_call(url=GATEWAY),
        a_reply((97, 7), model_name="m", **HEADERS),
        Reckoning(Usage(97, 7), False, "the dear one", cost=25 * 10**7),
    ),
    "a cost from elsewhere": (
        a_call(url="http://elsewhere/v1"),
        a_reply((97, 7), model_name="m", **HEADERS),
        Reckoning(Usage(97, 7), False, "m"),
    ),
    "a cost from nowhere": (a_call(), a_reply((97, 7), **HEADERS), Reckoning(Usage(97, 7))),
    "a bill of no counts": (
        a_call("openrouter"),
        a_reply(None, "abcd", **COST),
        Reckoning(Usage(101, 4), True, cost=5 * 10**8),
    ),
    "a bill of zeros": (a_call("openrouter"), a_reply((0, 0), "abc", **COST), Reckoning(Usage(), cost=5 * 10**8)),
    "a bill of no input": (
        a_call("openrouter"),
        a_reply((0, 7), "abc", **COST),
        Reckoning(Usage(113, 7), True, cost=5 * 10**8),
    ),
    # Its tier and place
    "as asked": (
        a_call(asks=Asks(tier="priority", geo="us")),
        a_reply((97, 7)),
        Reckoning(Usage(97, 7, tier="priority", geo="us")),
    ),
    "as it says": (
        a_call(asks=Asks(tier="priority", geo="us")),
        a_reply((97, 7), service_tier="flex"),
        Reckoning(Usage(97, 7, tier="flex", geo="us")),
    ),
    "as usual, it says": (
        a_call(asks=Asks(tier="priority")),
        a_reply((97, 7), service_tier="default"),
        Reckoning(Usage(97, 7)),
    ),
    "elsewhere, it says": (
        a_call(asks=Asks(geo="us")),
        a_reply(
            (97, 7), usage={"input_tokens": 97, "output_tokens": 7, "cache_read_input_tokens": 0, "inference_geo": "eu"}
        ),
        Reckoning(Usage(97, 7, geo="eu")),
    ),
    "a picture": (
        a_call(asks=Asks(hosted=(Offer("web_search", 1, "gpt-4o"), Offer("image_generation", 1, "gpt-image-1")))),
        a_reply((97, 7), tool_usage={"image_gen": {"input_tokens": 5, "output_tokens": 272}}),
        Reckoning(Usage(97, 7, others=(("gpt-image-1", Usage(5, 272, output_image=272)),))),
    ),
    "unasked": (a_call(), a_reply((97, 7), service_tier="flex"), Reckoning(Usage(97, 7, tier="flex"))),
    # Audio
    "heard": (
        a_call(audio=True),
        a_reply((97, 7), details={"input_token_details": {"cache_read": 11}}),
        Reckoning(Usage(97, 7, cache_read=11, input_audio=55)),
    ),
    "hardly heard": (a_call(audio=True), a_reply((30, 7)), Reckoning(Usage(30, 7))),
    "heard, as it says": (
        a_call(audio=True),
        a_reply((97, 7), details={"input_token_details": {"audio": 5}}),
        Reckoning(Usage(97, 7, input_audio=5)),
    ),
    "heard at the price of text": (
        a_call(audio=True, rates=Rates(input=2, input_audio=2)),
        a_reply((97, 7)),
        Reckoning(Usage(97, 7)),
    ),
    # Cohere
    "read, not billed": (a_call("cohere"), a_reply((597, 7)), Reckoning(Usage(101, 7), True)),
    "less than thought": (a_call("cohere"), a_reply((97, 7)), Reckoning(Usage(97, 7), True)),
    "streamed": (a_call("cohere", stream=streamed("a")), a_reply((597, 7)), Reckoning(Usage(597, 7))),
    "billed": (
        a_call("cohere"),
        a_reply((597, 7), token_count={"billed_units": {"input_tokens": 89, "output_tokens": 5}}),
        Reckoning(Usage(89, 5)),
    ),
    # Counts that cannot be
    "zeros": (a_call(), a_reply((0, 0), "abc", model_name="m"), Reckoning(None, True, "m")),
    "no input": (a_call(), a_reply((0, 7), "abc"), Reckoning(Usage(113, 7), True)),
    "no input of one": (a_call(tokens=1), a_reply((0, 7)), Reckoning(Usage(113, 7), True)),
    "no input of none": (a_call(tokens=0), a_reply((0, 7)), Reckoning(Usage(0, 7))),
    "zeros of none": (a_call(tokens=0), a_reply((0, 0)), Reckoning(Usage())),
    "no output of none": (a_call(), a_reply((97, 0)), Reckoning(Usage(97, 0))),
    "no output": (a_call(), a_reply((97, 0), "abc"), Reckoning(Usage(97, 159), True)),
    "no output, and more came": (a_call(), a_reply((97, 0), "a" * 160), Reckoning(Usage(97, 160), True)),
    "no output, and no most": (a_call(asked=None), a_reply((97, 0), "abc"), Reckoning(Usage(97, 3), True)),
    "no output, and no hold": (a_call(hold=None), a_reply((97, 0), "abc"), Reckoning(Usage(97, 3), True)),
    # What came
    "a tool that is called": (
        a_call(asked=None),
        a_reply((97, 0), "ab", more={"tool_calls": [{"name": "look", "args": {}, "id": "1"}]}),
        Reckoning(Usage(97, len("ab" + "look{}")), True),
    ),
    "a thought": (
        a_call(asked=None),
        a_reply((97, 0), "ab", more={"additional_kwargs": {"reasoning_content": "abcde"}}),
        Reckoning(Usage(97, 7), True),
    ),
    "pieces": (a_call(asked=None, stream=streamed("abc", "d")), a_reply((97, 0), "x"), Reckoning(Usage(97, 4), True)),
    "no pieces": (a_call(asked=None, stream=streamed()), a_reply((97, 0), "xy"), Reckoning(Usage(97, 2), True)),
    # Told again and again
    "the last": (
        a_call(stream=streamed("a", told={"input_tokens": 89, "output_tokens": 5})),
        a_reply((97, 7), service_tier="flex"),
        Reckoning(Usage(89, 5, tier="flex")),
    ),
    "the last says nothing": (
        a_call(stream=streamed("a", told={"input_tokens": 89})),
        a_reply((97, 7)),
        Reckoning(Usage(97, 7)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_reply_is_put_right(case: str) -> None:
    call, reply, found = CASES[case]
    assert reckon(call, reply, TRUSTED, len) == found
    if found.cost is None or call.url is None:
        assert reckon(call, reply, frozenset(), len) == found


@pytest.mark.parametrize(
    ("facts", "output", "found"),
    [
        ({}, 7, (Usage(101, 7), 101 * 2 + 7 * 10)),
        ({}, 0, (Usage(101, 0), 202)),
        ({}, None, (Usage(113, 0), 226)),
        ({"hold": None}, None, (Usage(113, 0), 226)),
        ({"hold": holding(600.0)}, None, (Usage(113, 159), 226 + 1_590)),
        ({"held": 9_999}, None, (Usage(113, 0), 9_999)),
        ({"held": 225}, None, (Usage(113, 0), 226)),
    ],
)
def test_a_reply_that_says_nothing_is_guessed(facts: dict[str, Any], output: int | None, found: Any) -> None:
    assert guess(a_call(**facts), output) == found


def test_a_model_inside_a_call_has_its_own_price_or_that_of_its_kin() -> None:
    prices = {"gpt-image-1": Price(input="3"), "critic": Price(input="5"), "openrouter:critic": Price(input="7")}
    book, call = PriceBook(prices), a_call()
    found = {name: rates_inside(call, book, name) for name in ("critic", "gpt-image-1", "gpt-image-9", "unheard-of")}
    kin, unheard = found["gpt-image-9"], found["unheard-of"]
    assert [(rates.input, rates.estimated) for rates in [*found.values()][:3]] == [
        (5 * 10**6, False), (3 * 10**6, False), (3 * 10**6, True),
    ]  # fmt: skip
    assert (kin.source, unheard.estimated) == ("set by the user: prices['gpt-image-1']", True)
    assert rates_inside(a_call(seller="openrouter"), book, "critic").input == 7 * 10**6
    assert PriceBook(unpriced="free").quote(ModelRef("openai", "gpt-image-9"), 0.0).input == 0
    others = (("critic", Usage(11, 3)), ("gpt-image-9", Usage(2, 1)))
    assert with_others(call, Usage(97, 7, others=others), book) == (
        Usage(110, 11, others=others), 11 * 5_000 + 2 * 3_000, True,
    )  # fmt: skip
    assert with_others(call, Usage(97, 7, others=others[:1]), book)[1:] == (55_000, False)
    assert with_others(call, Usage(97, 7), book) == (Usage(97, 7), 0, False)
