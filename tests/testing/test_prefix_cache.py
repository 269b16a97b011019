"""The fake provider bills a cache of prompts as Anthropic's documentation says the real one does."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_costguard.testing import FakeProvider, ManualClock, Reply
from langchain_costguard.testing.prefixes import PrefixCache

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")

FIVE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}


def words(count: int, word: str = "word", mark: Any = None) -> dict[str, Any]:
    """A block of so many words."""
    return {"type": "text", "text": " ".join([word] * count), **({"cache_control": mark} if mark else {})}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cached(clock: ManualClock) -> Any:
    with FakeProvider(PrefixCache("two words", least=100, clock=clock)) as provider:
        yield provider


def billed(provider: FakeProvider, system: list[Any], *asked: Any) -> tuple[int, int, int, int]:
    """Plain, read, written for five minutes, and for an hour."""
    provider.anthropic().invoke([SystemMessage(system), *(HumanMessage(each) for each in asked)])
    usage = provider.requests[-1].usage
    plain = usage.input_tokens - usage.cache_read - usage.cache_write
    return plain, usage.cache_read, usage.cache_write - usage.cache_write_1h, usage.cache_write_1h


def test_nothing_is_kept_without_a_mark_or_below_the_minimum(cached: FakeProvider) -> None:
    assert billed(cached, [words(200)], "hi") == (201, 0, 0, 0)
    assert billed(cached, [words(99, mark=FIVE)], "hi") == (100, 0, 0, 0)


def test_what_is_written_is_read_until_five_minutes_after_its_last_use(
    cached: FakeProvider, clock: ManualClock
) -> None:
    system = [words(200, mark=FIVE)]
    assert billed(cached, system, "hi") == (1, 0, 200, 0)
    clock.advance(299)
    assert billed(cached, system, "ho hum") == (2, 200, 0, 0)
    clock.advance(299)
    assert billed(cached, system, "hi") == (1, 200, 0, 0)
    clock.advance(300)
    assert billed(cached, system, "hi") == (1, 0, 200, 0)


def test_an_hour_is_billed_up_to_its_last_mark_and_five_minutes_after_it(cached: FakeProvider) -> None:
    system = [words(200, mark=HOUR), words(50, mark=FIVE)]
    assert billed(cached, system, "hi") == (1, 0, 50, 200)
    assert billed(cached, [words(200, mark=HOUR), words(60, mark=FIVE)], "hi") == (1, 200, 60, 0)


def test_a_mark_that_moves_on_finds_what_was_written_before_it(cached: FakeProvider) -> None:
    assert billed(cached, [words(200, mark=FIVE)], [words(10)])[2] == 200
    assert billed(cached, [words(200)], [words(10, mark=FIVE)]) == (0, 200, 10, 0)


@pytest.mark.parametrize(("between", "read"), [(19, 200), (20, 0)])
def test_it_looks_back_twenty_blocks_and_no_further(cached: FakeProvider, between: int, read: int) -> None:
    billed(cached, [words(200, mark=FIVE)], "hi")
    asked = [words(1) for _ in range(between - 1)] + [words(1, mark=FIVE)]
    assert billed(cached, [words(200)], asked)[1] == read


def test_a_stream_bills_the_same(cached: FakeProvider) -> None:
    messages = [SystemMessage([words(200, mark=FIVE)]), HumanMessage("hi")]
    for read in (0, 200):
        assert list(cached.anthropic().stream(messages))
        assert cached.requests[-1].usage.cache_read == read


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ([words(30, mark=FIVE) for _ in range(5)], "A maximum of 4 blocks"),
        ([words(30, mark=FIVE), words(30, mark=HOUR)], "must not come after"),
    ],
)
def test_what_the_provider_refuses_is_refused(cached: FakeProvider, system: list[Any], said: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=said):
        billed(cached, system, "hi")


def test_an_error_stays_an_error() -> None:
    with (
        FakeProvider(PrefixCache(Reply(status=529))) as provider,
        pytest.raises(anthropic.APIStatusError),
    ):
        provider.anthropic().invoke("hi")
