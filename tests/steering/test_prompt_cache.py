"""Prompts are marked for the provider's cache where that pays, at each seam; what that costs is held and settled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool

from langchain_costguard import CostGuard, Price
from langchain_costguard.caching.prompt import PromptCache
from langchain_costguard.events import CallSettled, CallStarted, PromptBroken, PromptCacheFell
from langchain_costguard.steering import SteeredModel, install, steer
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply
from langchain_costguard.testing.prefixes import PrefixCache
from langchain_costguard.testing.requests import Request
from tests.conftest import Caller
from tests.steering.seams import hand_written

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")

CLAUDE = "claude-sonnet-4-6"
PRICES = {
    CLAUDE: Price(input="3", output="15", cache_read="0.30", cache_write="3.75", cache_write_1h="6"),
    "gpt-4o": Price(input="2.50", output="10", cache_read="1.25"),
}
SYSTEM = "Answer from the handbook. " + "The harbour opens at six and closes at ten. " * 250
EARLY_END = 15  # replies after which a scripted agent ends in any case


@tool
def search(query: str) -> str:
    """Search the handbook."""
    return f"Of {query} it says: " + "boats, berths and bells. " * 20


def in_steps(steps: int) -> Callable[[Request], Reply]:
    """An agent's model: so many searches, then an answer."""

    def reply(request: Request) -> Reply:
        made = sum(block.get("type") == "tool_result" for block in _blocks(request))
        if made % (steps + 1) < steps and not _is_answered(request):
            return Reply(tool_calls=[("search", {"query": f"berth {made}"})])
        return Reply("The harbour is open.")

    return reply


def _blocks(request: Request) -> list[dict[str, Any]]:
    last = 0
    for at, message in enumerate(request.messages):
        if message["role"] == "user" and not _results(message):
            last = at
    return [block for message in request.messages[last:] for block in _listed(message["content"])]


def _results(message: dict[str, Any]) -> bool:
    return any(block.get("type") == "tool_result" for block in _listed(message["content"]))


def _listed(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _is_answered(request: Request) -> bool:
    return len(request.messages) > 2 * EARLY_END


def marks(request: Request) -> list[tuple[str, str]]:
    """Where a request was marked, and for how long."""
    found = [("tools", t["cache_control"]) for t in request.body.get("tools") or [] if t.get("cache_control")]
    system = request.body.get("system")
    found += [("system", b["cache_control"]) for b in _listed(system or "") if b.get("cache_control")]
    for number, message in enumerate(request.messages):
        found += [(str(number), b["cache_control"]) for b in _listed(message["content"]) if b.get("cache_control")]
    if request.body.get("cache_control"):
        found.append(("automatic", request.body["cache_control"]))
    return [(where, mark.get("ttl", "5m")) for where, mark in found]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def guard(clock: ManualClock, recorder: Recorder) -> CostGuard:
    return CostGuard(prices=PRICES, sinks=[recorder], clock=clock)


@pytest.fixture
def anthropic(clock: ManualClock) -> Iterator[FakeProvider]:
    with FakeProvider(PrefixCache(in_steps(3), clock=clock)) as running:
        yield running


def agent(
    guard: CostGuard, provider: FakeProvider, *before: Any, cache: PromptCache | None = None, **model: Any
) -> Any:
    steering = steer(guard, prompt_cache=cache or PromptCache(), loops=None)
    middleware = [*before, *steering]
    return create_agent(provider.anthropic(CLAUDE, **model), [search], system_prompt=SYSTEM, middleware=middleware)


def ask(call: Caller, runnable: Any, text: str = "When?", **scope: str) -> Any:
    return call(runnable, {"messages": [HumanMessage(text)]}, {"metadata": scope})


def test_an_agent_reads_what_its_last_step_wrote(guard: CostGuard, anthropic: FakeProvider, call: Caller) -> None:
    ask(call, agent(guard, anthropic))

    first, second, third, fourth = (request.usage for request in anthropic.requests)
    assert first.cache_read == 0
    assert first.cache_write == first.input_tokens
    for before, after in ((first, second), (second, third), (third, fourth)):
        assert after.cache_read == before.input_tokens
        assert after.cache_write == after.input_tokens - before.input_tokens
    assert guard.report().total.cacheable == sum(r.usage.input_tokens for r in anthropic.requests)


def test_at_most_four_marks_on_tools_system_the_step_before_and_the_newest(
    guard: CostGuard, anthropic: FakeProvider, call: Caller
) -> None:
    ask(call, agent(guard, anthropic))

    assert marks(anthropic.requests[0]) == [("system", "5m"), ("0", "5m")]  # the tool alone is too short to be kept
    assert marks(anthropic.requests[3]) == [("system", "5m"), ("4", "5m"), ("6", "5m")]


def test_the_messages_of_the_state_stay_as_they_are(guard: CostGuard, anthropic: FakeProvider, call: Caller) -> None:
    state = ask(call, agent(guard, anthropic))

    contents = [message.content for message in state["messages"] if message.type in ("human", "tool")]
    assert all(isinstance(content, str) for content in contents)
    assert search.extras is None


def test_what_a_call_is_held_at_and_settled_at_is_the_price_of_the_write(
    guard: CostGuard, anthropic: FakeProvider, call: Caller, recorder: Recorder
) -> None:
    ask(call, agent(guard, anthropic, max_tokens=100))

    settled, started = recorder.of(CallSettled), [e for e in recorder.of(CallStarted) if e.kind == "model"]
    usage = anthropic.requests[0].usage
    assert settled[0].charge == usage.input_tokens * 3_750 + usage.output_tokens * 15_000
    assert started[0].held >= usage.input_tokens * 3_750 + 100 * 15_000
    assert all(event.charge <= event.held for event in settled)
    truth = [r.usage for r in anthropic.requests]
    plain = sum(3_000 * (u.input_tokens - u.cache_read - u.cache_write) for u in truth)
    cached = sum(300 * u.cache_read + 3_750 * u.cache_write + 15_000 * u.output_tokens for u in truth)
    assert guard.report().total.spent == plain + cached


def test_an_hour_is_held_and_settled_at_its_own_price(
    guard: CostGuard, anthropic: FakeProvider, call: Caller, recorder: Recorder
) -> None:
    ask(call, agent(guard, anthropic, cache=PromptCache(ttl="1h"), max_tokens=100))
    usage = anthropic.requests[0].usage
    assert usage.cache_write_1h == usage.cache_write > 2_000
    settled = recorder.of(CallSettled)[0]
    assert settled.charge == usage.cache_write * 6_000 + usage.output_tokens * 15_000
    assert settled.held >= settled.charge


def test_a_stream_that_does_not_say_for_how_long_it_wrote_is_settled_at_what_was_asked_for(
    guard: CostGuard, anthropic: FakeProvider, stream: Caller, recorder: Recorder
) -> None:
    model = SteeredModel(anthropic.anthropic(CLAUDE, max_tokens=50), steer(guard))
    marked = SystemMessage([{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral", "ttl": "1h"}}])
    stream(model, [marked, HumanMessage("When?")])

    usage = anthropic.requests[0].usage
    assert usage.cache_write_1h > 2_000
    plain = usage.input_tokens - usage.cache_write
    (settled,) = recorder.of(CallSettled)
    assert settled.charge == plain * 3_000 + usage.cache_write * 6_000 + usage.output_tokens * 15_000


def test_a_question_asked_once_is_not_written_down_but_the_shared_prompt_is_once_it_returns(
    guard: CostGuard, anthropic: FakeProvider, call: Caller
) -> None:
    model = SteeredModel(anthropic.anthropic(CLAUDE), steer(guard, prompt_cache=PromptCache()))
    for number in range(4):
        call(model, [SystemMessage(SYSTEM), HumanMessage(f"Question {number}?")])

    assert [marks(request) for request in anthropic.requests] == [[], *[[("system", "5m")]] * 3]
    assert [bool(request.usage.cache_read) for request in anthropic.requests] == [False, False, True, True]


def test_a_prompt_that_never_comes_again_is_not_marked_for_long(
    guard: CostGuard, anthropic: FakeProvider, call: Caller
) -> None:
    model = SteeredModel(anthropic.anthropic(CLAUDE), steer(guard, prompt_cache=PromptCache())).bind_tools([search])
    for number in range(8):
        call(model, [SystemMessage(f"It is {number}. {SYSTEM}"), HumanMessage("When?")])

    assert marks(anthropic.requests[0]) == [("system", "5m"), ("0", "5m")]  # who has tools is expected to go on
    assert marks(anthropic.requests[-1]) == []


def test_many_tools_are_marked_themselves_and_in_the_order_they_are_in(
    guard: CostGuard, anthropic: FakeProvider, call: Caller
) -> None:
    @tool(description="Look up a ship. " + "Give its name, its flag and its berth. " * 150)
    def ships(name: str) -> str:
        return name

    for bound in ([ships, search], [search, ships]):
        steering = steer(guard, prompt_cache=PromptCache(), loops=None)
        one = create_agent(anthropic.anthropic(CLAUDE), bound, system_prompt=SYSTEM, middleware=steering)
        ask(call, one)
        first = anthropic.requests[-4]
        assert [each.get("cache_control") is not None for each in first.body["tools"]] == [False, True]
        assert [each["name"] for each in first.body["tools"]] == [each.name for each in bound]
    assert ships.extras is None


def test_gaps_of_twenty_minutes_are_bridged_by_an_hour(
    guard: CostGuard, anthropic: FakeProvider, call: Caller, clock: ManualClock
) -> None:
    model = SteeredModel(anthropic.anthropic(CLAUDE), steer(guard, prompt_cache=PromptCache()))
    for number in range(8):
        call(model, [SystemMessage(SYSTEM), HumanMessage(f"Question {number}?")])
        clock.advance(1_200)

    assert marks(anthropic.requests[-1]) == [("system", "1h")]
    assert anthropic.requests[-1].usage.cache_read > 2_000


def test_short_prompts_are_left_alone(guard: CostGuard, anthropic: FakeProvider, call: Caller) -> None:
    steering = steer(guard, prompt_cache=PromptCache(), loops=None)
    one = create_agent(anthropic.anthropic(CLAUDE), [search], system_prompt="Be brief.", middleware=steering)
    ask(call, one)

    assert [marks(request) for request in anthropic.requests[:3]] == [[], [], []]


def test_the_hosts_own_caching_middleware_is_completed_and_not_repeated(
    guard: CostGuard, anthropic: FakeProvider, call: Caller
) -> None:
    ask(call, agent(guard, anthropic, AnthropicPromptCachingMiddleware()))

    for request in anthropic.requests:
        found = [where for where, _ in marks(request)]
        assert len(found) <= 4
        assert sorted(set(found)) == sorted(found)
        assert {"tools", "system", "automatic"} <= set(found)
    assert marks(anthropic.requests[3])[2] == ("4", "5m")  # where the step before ended
    assert anthropic.requests[3].usage.cache_read == anthropic.requests[2].usage.input_tokens


def test_a_users_own_mark_for_five_minutes_is_kept_and_nothing_after_it_is_kept_longer(
    guard: CostGuard, anthropic: FakeProvider, call: Caller
) -> None:
    model = SteeredModel(anthropic.anthropic(CLAUDE), steer(guard, prompt_cache=PromptCache(ttl="1h")))
    own = SystemMessage([{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}])
    tools = model.bind_tools([search])
    for _ in range(3):
        call(tools, [own, HumanMessage("When? " + "Tell me of the tides. " * 300)])

    assert all(request.status == 200 for request in anthropic.requests)
    assert marks(anthropic.requests[-1]) == [("system", "5m"), ("0", "5m")]


def test_a_turn_with_more_results_than_the_provider_looks_back_still_finds_the_last_step(
    guard: CostGuard, clock: ManualClock, call: Caller
) -> None:
    def reply(request: Request) -> Reply:
        if len(request.messages) == 1:
            return Reply(tool_calls=[("search", {"query": f"berth {i}"}) for i in range(3)])
        return Reply("Done.")

    with FakeProvider(PrefixCache(reply, clock=clock)) as provider:
        one = agent(guard, provider)
        question = HumanMessage([{"type": "text", "text": f"Part {i} of the question."} for i in range(30)])
        call(one, {"messages": [question]})
        first, second = (request.usage for request in provider.requests)
        assert second.cache_read == first.input_tokens


def test_in_a_chain_and_with_bound_tools_it_is_the_same(
    guard: CostGuard, anthropic: FakeProvider, call: Caller
) -> None:
    model = SteeredModel(anthropic.anthropic(CLAUDE), steer(guard, prompt_cache=PromptCache())).bind_tools([search])
    messages: list[Any] = [SystemMessage(SYSTEM), HumanMessage("When?")]
    for _ in range(3):
        messages = [*messages, call(model, messages), HumanMessage("And then?")]
        if messages[-2].tool_calls:
            results = [search.invoke({**each, "type": "tool_call"}) for each in messages[-2].tool_calls]
            messages = [*messages[:-1], *results]

    reads = [request.usage.cache_read for request in anthropic.requests]
    assert reads[0] == 0
    assert reads[1] == anthropic.requests[0].usage.input_tokens
    assert reads[2] == anthropic.requests[1].usage.input_tokens


def test_a_node_of_an_installed_graph_is_left_alone(guard: CostGuard, anthropic: FakeProvider, call: Caller) -> None:
    graph = install(
        hand_written(anthropic.anthropic(CLAUDE), [search]), guard, policies=steer(guard, prompt_cache=PromptCache())
    )
    ask(call, graph, SYSTEM)

    assert all(marks(request) == [] for request in anthropic.requests)


def test_calls_of_one_user_go_to_one_machine_of_openais(guard: CostGuard, provider: FakeProvider, call: Caller) -> None:
    hosts = PromptCache(openai_hosts=["127.0.0.1"])
    model = SteeredModel(provider.openai(), steer(guard, prompt_cache=hosts))
    for user in ("ann", "ann", "bob"):
        with guard.scope(user=user, feature="search"):
            call(model, "Hi")
    responses = SteeredModel(provider.openai(use_responses_api=True), steer(guard, prompt_cache=hosts))
    with guard.scope(user="ann", feature="search"):
        call(responses, "Hi")

    one, again, other, elsewhere = (request.body["prompt_cache_key"] for request in provider.requests)
    assert one == again == elsewhere != other
    assert "ann" not in one


def test_a_host_that_is_not_openais_gets_no_parameter_it_does_not_know(
    guard: CostGuard, provider: FakeProvider, call: Caller
) -> None:
    call(SteeredModel(provider.openai(), steer(guard, prompt_cache=PromptCache())), "Hi")
    assert "prompt_cache_key" not in provider.requests[0].body


def test_a_key_of_the_users_own_stays(guard: CostGuard, provider: FakeProvider, call: Caller) -> None:
    cache = PromptCache(openai_hosts=["127.0.0.1"])
    call(SteeredModel(provider.openai(), steer(guard, prompt_cache=cache)), "Hi", prompt_cache_key="mine")
    call(create_agent(provider.openai(), [search], middleware=steer(guard, prompt_cache=cache)), {"messages": ["Hi"]})
    assert provider.requests[0].body["prompt_cache_key"] == "mine"
    assert len(provider.requests[1].body["prompt_cache_key"]) == 32


def test_a_fall_of_the_hit_rate_is_told_once_and_the_report_has_it_by_feature(
    guard: CostGuard, call: Caller, recorder: Recorder
) -> None:
    def reply(request: Request) -> Reply:
        cached = 1_536 if request.number <= 20 else 0
        details = {"cached_tokens": cached}
        usage = {"prompt_tokens": 2_000, "completion_tokens": 5, "total_tokens": 2_005}
        return Reply("ok", usage={**usage, "prompt_tokens_details": details})

    with FakeProvider(reply) as provider:
        model = SteeredModel(provider.openai(), steer(guard, prompt_cache=PromptCache()))
        with guard.scope(feature="search"):
            for _ in range(45):
                call(model, "Hi")

    (fell,) = recorder.of(PromptCacheFell)
    assert fell.scope.feature == "search"
    assert (fell.name, round(fell.before, 2)) == ("gpt-4o", 0.77)
    assert fell.now < fell.before / 2
    report = guard.report().by("feature")
    assert report.rows[0][1].hit_rate == pytest.approx(20 * 1_536 / (45 * 2_000))
    assert "hit rate" in str(report)
    assert " 34%" in str(report)
    assert report.actions.times("PromptCacheFell") == 1


@pytest.mark.parametrize(("model", "share"), [(CLAUDE, 1), ("claude-haiku-4-5", 0)])
def test_what_is_too_short_for_a_models_cache_does_not_count_as_cacheable(
    anthropic: FakeProvider, call: Caller, model: str, share: int
) -> None:
    guard = CostGuard(prices={model: PRICES[CLAUDE]})
    call(guard.wrap(anthropic.anthropic(model)), [SystemMessage(SYSTEM), HumanMessage("When?")])
    total = guard.report().total
    assert 1_024 < total.input_tokens < 4_096
    assert total.cacheable == share * total.input_tokens


def test_what_changes_in_a_prompt_is_told_once_without_a_word_of_it(
    guard: CostGuard, anthropic: FakeProvider, call: Caller, recorder: Recorder, caplog: pytest.LogCaptureFixture,
    clock: ManualClock,
) -> None:  # fmt: skip
    model = SteeredModel(anthropic.anthropic(CLAUDE), steer(guard, prompt_cache=PromptCache(warn=True)))
    with caplog.at_level(logging.WARNING), guard.scope(feature="search"):
        for minute in range(6):
            clock.advance(60)
            system = f"You help Quentin. Now: 2026-01-31T12:{minute:02}:00Z\n{SYSTEM}"
            call(model, [SystemMessage(system), HumanMessage(f"Question {minute}?")])

    (broken,) = recorder.of(PromptBroken)
    assert (broken.kind, broken.where, broken.start, broken.end) == ("timestamp", "system message", 23, 43)
    assert broken.tokens > 2_000
    assert broken.per_day > 0
    assert "Quentin" not in broken.why
    (line,) = [r.getMessage() for r in caplog.records if "is not cached" in r.getMessage()]
    assert line.startswith("The prompt of search to claude-sonnet-4-6 is not cached: timestamp in system message")
    assert "Quentin" not in line


def test_looking_for_changes_does_not_hold_up_an_event_loop(
    anthropic: FakeProvider, call: Caller, world: str, clock: ManualClock
) -> None:
    told: list[int] = []
    guard = CostGuard(prices=PRICES, clock=clock, sinks=[lambda event: told.append(threading.get_ident())
                                                         if isinstance(event, PromptBroken) else None])  # fmt: skip
    model = SteeredModel(anthropic.anthropic(CLAUDE), steer(guard, prompt_cache=PromptCache(warn=True)))
    for minute in range(6):
        clock.advance(60)
        call(model, [SystemMessage(f"Now: 2026-01-31T12:{minute:02}:00Z\n{SYSTEM}"), HumanMessage("When?")])
    (thread,) = told
    assert (thread == threading.get_ident()) == (world == "sync")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ttl": "2h"}, "ttl: '2h' is not 'auto', '5m', '1h' or None"),
        ({"key": "agent"}, "key: 'agent' is not 'feature', 'user', 'session' or None"),
        ({"min_tokens": 0}, "min_tokens: 0 must be a whole number"),
        ({"warn": 1}, "warn: 1 must be True or False"),
        ({"openai_hosts": "https://x/v1"}, "openai_hosts: 'https://x/v1' must be a list of host names"),
    ],
)
def test_a_mistake_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="^" + said.replace("'", ".")):
        PromptCache(**given)


def test_what_is_no_prompt_cache_is_refused(guard: CostGuard) -> None:
    with pytest.raises(ValueError, match="prompt_cache: True is no PromptCache"):
        steer(guard, prompt_cache=True)  # type: ignore[arg-type]
