"""A wrapped model is the same model, strictly admitted: it asks for what is affordable, and waits for its turn."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, SimpleChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from langchain_costguard import AgentHaltedError, Budget, BudgetExceededError, CostGuard, Price
from langchain_costguard.events import CallSettled, CallStarted, Refused
from langchain_costguard.metering.seams.wrapping import STRICT
from langchain_costguard.testing import FakeProvider, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.waits import waits_less_than

QUESTION: Any = {"messages": [("user", "hello there")]}
ONE_CALL = 2 * 2500 + 4 * 10_000
ANTHROPIC = {"claude-sonnet-4-6": Price(input="3", output="15")}


def empty(guard: CostGuard) -> bool:
    """Whether nothing is held, nobody waits and no call is open."""
    held = [balance.held for _, balance in guard.store.scan(now=guard.now())]
    return not any(held) and guard.lines == {} and guard.meter.open_calls == {}


# It stays what it was


def test_a_wrapped_model_is_of_its_class_and_says_the_same_of_itself(provider: FakeProvider) -> None:
    plain = provider.openai(max_tokens=50, temperature=0.5, tags=["mine"], metadata={"team": "a"})
    before = dict(plain.metadata or {})
    wrapped = CostGuard(prices=PRICES).wrap(plain)
    assert isinstance(wrapped, ChatOpenAI)
    assert (type(wrapped).__name__, type(wrapped).__module__) == ("ChatOpenAI", ChatOpenAI.__module__)
    assert type(wrapped).__qualname__ == ChatOpenAI.__qualname__
    assert wrapped._get_ls_params() == plain._get_ls_params()
    assert wrapped._get_llm_string() == plain._get_llm_string()
    assert wrapped.model_dump() == plain.model_dump()
    assert wrapped.profile == plain.profile
    assert "_costguard=" not in repr(wrapped)
    assert (plain.callbacks, plain.metadata, type(plain)) == (None, before, ChatOpenAI)
    assert wrapped.metadata is not None
    assert wrapped.metadata["team"] == "a"
    assert wrapped.root_client is plain.root_client


def test_what_is_made_of_a_wrapped_model_is_guarded_too(call: Caller) -> None:
    class Answer(BaseModel):
        """An answer."""

        text: str

    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    with FakeProvider(Reply(tool_calls=[("Answer", {"text": "yes"})])) as provider:
        guard = CostGuard(Budget(per="all", model_calls=6), prices=PRICES)
        wrapped: Any = guard.wrap(provider.openai(max_tokens=50))
        forms: list[Runnable[Any, Any]] = [
            wrapped.bind_tools([search]),
            wrapped.with_structured_output(Answer, method="function_calling"),
            wrapped.model_copy(update={"temperature": 0.1}),
            wrapped.with_retry(stop_after_attempt=1),
            copy.copy(wrapped),
            wrapped.model_copy(update={"metadata": {"team": "b"}, "tags": ["other"]}),
        ]
        for form in forms:
            call(form, "hi")
        for form in forms:
            with pytest.raises(BudgetExceededError):
                call(form, "hi")
        assert len(provider.requests) == 6
    total = guard.report().total
    assert (total.calls, total.refused) == (6, 6)
    assert empty(guard)


@pytest.mark.parametrize("change", [{"callbacks": None}, {"callbacks": [], "metadata": None}, {"metadata": None}])
def test_a_copy_that_lost_its_callbacks_or_metadata_is_still_strict(change: Any, call: Caller) -> None:
    with FakeProvider("four little words here") as provider:
        guard = CostGuard(Budget(per="all", model_calls=1, output_tokens=5000), prices=PRICES)
        wrapped = guard.wrap(provider.openai(max_tokens=10)).model_copy(update=change)
        call(wrapped, "hello there")
        with pytest.raises(BudgetExceededError):
            call(wrapped, "hello there")
    total = guard.report().total
    assert (total.calls, total.spent, total.refused) == (1, ONE_CALL, 1)
    assert empty(guard)


def test_an_agent_of_a_wrapped_model_is_guarded(call: Caller) -> None:
    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    with FakeProvider([Reply(tool_calls=[("search", {"q": "x"})])]) as provider:
        guard = CostGuard(Budget(per="all", model_calls=3), prices=PRICES)
        agent = create_agent(guard.wrap(provider.openai(max_tokens=50)), [search], name="research")
        with pytest.raises(BudgetExceededError):
            call(agent, QUESTION)
        assert len(provider.requests) == 3
    assert [scope for scope, _ in guard.report().by("agent").rows] == [("research",)]


def test_a_wrapped_model_pickles_where_the_model_does_and_stays_this_guards(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", model_calls=2), prices=PRICES)
    plain = FakeListChatModel(responses=["a"])
    wrapped = pickle.loads(pickle.dumps(guard.wrap(plain)))
    assert isinstance(wrapped, FakeListChatModel)
    for each in (wrapped, copy.deepcopy(wrapped)):
        call(each, "hi")
    with pytest.raises(BudgetExceededError):
        call(wrapped, "hi")
    assert guard.report().total.calls == 2
    assert pickle.loads(pickle.dumps(guard)) is copy.deepcopy(guard) is guard


def test_a_guard_that_is_not_of_this_process_cannot_be_unpickled() -> None:
    data = pickle.dumps(CostGuard())
    gc.collect()
    with pytest.raises(ValueError, match="construct one there"):
        pickle.loads(data)


@pytest.mark.parametrize("thing", [None, "gpt-4o", 5, ChatOpenAI, object(), lambda text: text])
def test_only_chat_models_and_embeddings_can_be_wrapped(thing: Any) -> None:
    with pytest.raises(ValueError, match=r"wrap: .*neither a chat model nor Embeddings"):
        CostGuard().wrap(thing)


def test_a_bound_model_is_wrapped_beneath_what_is_bound(provider: FakeProvider, call: Caller) -> None:
    guard = CostGuard(Budget(model_calls=1), prices=PRICES)
    bound = guard.wrap(provider.openai().bind(stop=["x"]))
    call(bound, "hello")
    assert provider.requests[-1].body["stop"] == ["x"]
    with pytest.raises(BudgetExceededError):
        call(bound, "hello")


# It asks for what is affordable


def budget_for(output: int, *, price: int = 10_000) -> str:
    """Money for a short prompt and so many output tokens."""
    return f"{(60 * 2500 + output * price) / 1e9:.9f}"


MODELS: dict[str, Any] = {
    "chat": (lambda p, **kw: p.openai(**kw), "max_completion_tokens"),
    "responses": (lambda p, **kw: p.openai(use_responses_api=True, **kw), "max_output_tokens"),
    "anthropic": (lambda p, **kw: p.anthropic(**kw), "max_tokens"),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("bound", [False, True])
def test_the_output_asked_for_is_lowered_to_what_the_budget_affords(kind: str, bound: bool, call: Caller) -> None:
    make, field = MODELS[kind]
    with FakeProvider(Reply(chunks=["one "] * 2000)) as provider:
        guard = CostGuard(Budget(per="all", output_tokens=300), prices={**PRICES, **ANTHROPIC}, assume_output_tokens=10)
        model = guard.wrap(make(provider) if bound else make(provider, max_tokens=1000))
        call(model.bind(max_tokens=1000) if bound else model, "hello there")
        assert provider.requests[0].max_tokens == 300
        assert {name: value for name, value in provider.requests[0].body.items() if "max" in name} == {field: 300}
    assert guard.report().total.output_tokens == 300
    assert guard.report().total.overrun == 0
    assert empty(guard)


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_affordable_is_asked_for_as_it_is(kind: str, call: Caller) -> None:
    make, _ = MODELS[kind]
    with FakeProvider("fine") as provider:
        guard = CostGuard(Budget(per="all", usd="100"), prices={**PRICES, **ANTHROPIC})
        for most in (7, 900):
            call(guard.wrap(make(provider, max_tokens=most)), "hello there")
            assert provider.requests[-1].max_tokens == most
        plain, wrapped = make(provider), guard.wrap(make(provider))
        call(plain, "hello there")
        call(wrapped, "hello there")
        # Where nothing is asked for and nothing has to be lowered, nothing is said.
        assert provider.requests[-1].max_tokens == provider.requests[-2].max_tokens


def test_a_model_nobody_knows_is_sent_no_ceiling_that_nobody_asked_for(call: Caller, provider: FakeProvider) -> None:
    for budgets in ([], [Budget(per="all", usd="1000")]):
        guard = CostGuard(*budgets, prices={"mystery": Price(input="1", output="1")})
        call(guard.wrap(provider.openai(model="mystery")), "hello there")
        assert provider.requests[-1].max_tokens is None


def test_a_stream_is_asked_for_what_is_affordable_too(stream: Caller) -> None:
    with FakeProvider(Reply(chunks=["one "] * 2000)) as provider:
        guard = CostGuard(Budget(per="all", usd=budget_for(40)), prices=PRICES, assume_output_tokens=10)
        got = stream(guard.wrap(provider.openai(max_tokens=1000)), "hello there")
        most = provider.requests[0].max_tokens
        assert most is not None
        assert 40 <= most <= 60
        assert sum(bool(piece.content) for piece in got) == most
    assert empty(guard)


def test_less_than_the_floor_is_not_worth_asking_for(call: Caller, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="all", output_tokens=50), prices=PRICES, assume_output_tokens=51)
    with pytest.raises(BudgetExceededError):
        call(guard.wrap(provider.openai(max_tokens=1000)), "hello there")
    call(guard.wrap(provider.openai(max_tokens=40)), "hello there")  # it asked for no more
    assert len(provider.requests) == 1
    assert empty(guard)


class Speechless(BaseChatModel):
    """A model that overrides `_generate` alone, and knows no ceiling."""

    @property
    def _llm_type(self) -> str:
        return "speechless"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        assert kwargs == {}
        usage: Any = {"input_tokens": 2, "output_tokens": 4, "total_tokens": 6}
        return ChatResult(generations=[ChatGeneration(message=AIMessage("fine", usage_metadata=usage))])


def test_a_model_without_such_a_parameter_is_called_as_it_is(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", output_tokens=300), prices=PRICES)
    call(guard.wrap(Speechless()), "hi")
    assert guard.report().total.output_tokens == 4
    assert empty(guard)


# It waits for its turn


def waiting_for(guard: CostGuard, count: int) -> None:
    """Until so many callers stand in line."""
    deadline = time.monotonic() + 10
    while sum(len(line) for line in list(guard.lines.values())) < count:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def test_callers_are_served_in_the_order_they_came(world: str) -> None:
    served: list[str] = []

    def answer(request: Any) -> str:
        served.append(request.messages[-1]["content"])
        return "fine"

    with FakeProvider(answer, gate=True) as provider:
        guard = CostGuard(Budget(per="all", output_tokens=170), prices=PRICES, wait=30)
        model = guard.wrap(provider.openai(max_tokens=150))  # one at a time, and money for twenty
        names = [f"caller {i}" for i in range(12)]

        def let_in(count: int) -> None:
            waiting_for(guard, count)

        async def main() -> None:
            tasks = []
            for i, name in enumerate(names):
                tasks.append(asyncio.create_task(model.ainvoke(name)))
                await asyncio.to_thread(provider.wait_for_requests if i == 0 else let_in, i or 1)
            provider.gate.set()
            await asyncio.gather(*tasks)

        def in_threads() -> None:
            threads = []
            for i, name in enumerate(names):
                threads.append(threading.Thread(target=model.invoke, args=(name,)))
                threads[-1].start()
                provider.wait_for_requests(1) if i == 0 else let_in(i)
            provider.gate.set()
            for thread in threads:
                thread.join()

        asyncio.run(main()) if world == "async" else in_threads()
    assert served == names
    assert guard.report().total.refused == 0
    assert empty(guard)


def test_a_wait_is_bounded_and_ends_in_a_refusal(call: Caller) -> None:
    recorder = Recorder()
    with FakeProvider("fine", gate=True) as provider:
        guard = CostGuard(Budget(per="all", output_tokens=200), prices=PRICES, wait=0.2, sinks=[recorder])
        model = guard.wrap(provider.openai(max_tokens=150))
        first = threading.Thread(target=model.invoke, args=("first",))
        first.start()
        provider.wait_for_requests(1)
        start = time.monotonic()
        with waits_less_than(5), pytest.raises(BudgetExceededError, match="held by calls under way") as caught:
            call(model, "second")
        assert time.monotonic() - start >= 0.2
        assert caught.value.by_holds
        provider.gate.set()
        first.join()
        assert len(provider.requests) == 1
    assert len(recorder.of(Refused)) == len(recorder.of(CallStarted)) == len(recorder.of(CallSettled)) == 1
    assert empty(guard)


@pytest.mark.parametrize("wait", [0, 30])
def test_what_could_never_fit_does_not_wait(wait: float, call: Caller) -> None:
    with FakeProvider("fine", gate=True) as provider:
        guard = CostGuard(Budget(per="all", output_tokens=200, model_calls=2), prices=PRICES, wait=wait)
        first = threading.Thread(target=guard.wrap(provider.openai(max_tokens=150)).invoke, args=("first",))
        first.start()
        provider.wait_for_requests(1)
        dear = guard.wrap(provider.openai(max_tokens=50, n=9))
        with waits_less_than(10), pytest.raises(BudgetExceededError) as caught:
            call(dear, "second")
        assert not caught.value.by_holds
        provider.gate.set()
        first.join()
    assert empty(guard)


def test_the_event_loop_goes_on_while_a_call_waits() -> None:
    async def main(provider: FakeProvider, model: Any) -> int:
        first = asyncio.create_task(model.ainvoke("first"))
        await asyncio.to_thread(provider.wait_for_requests, 1)
        second = asyncio.create_task(model.ainvoke("second"))
        turns = 0
        while turns < 500:
            await asyncio.sleep(0)
            turns += 1
        assert not second.done()
        provider.gate.set()
        await asyncio.gather(first, second)
        return turns

    with FakeProvider("fine", gate=True) as provider:
        guard = CostGuard(Budget(per="all", output_tokens=200), prices=PRICES, wait=30)
        assert asyncio.run(main(provider, guard.wrap(provider.openai(max_tokens=150)))) == 500
    assert empty(guard)


def test_a_caller_that_is_cancelled_while_it_waits_leaves_no_trace() -> None:
    async def main(provider: FakeProvider, guard: CostGuard, model: Any) -> None:
        first = asyncio.create_task(model.ainvoke("first"))
        await asyncio.to_thread(provider.wait_for_requests, 1)
        others = [asyncio.create_task(model.ainvoke(f"other {i}")) for i in range(3)]
        await asyncio.to_thread(waiting_for, guard, 3)
        for task in others[:2]:
            task.cancel()
        assert all(
            isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*others[:2], return_exceptions=True)
        )
        assert sum(len(line) for line in guard.lines.values()) == 1
        provider.gate.set()
        await asyncio.gather(first, others[2])

    with FakeProvider("fine", gate=True) as provider:
        guard = CostGuard(Budget(per="all", output_tokens=200), prices=PRICES, wait=30)
        asyncio.run(main(provider, guard, guard.wrap(provider.openai(max_tokens=150))))
        assert len(provider.requests) == 2
    total = guard.report().total
    assert (total.calls, total.refused, total.estimated) == (2, 0, 0)
    assert empty(guard)


def test_the_kill_switch_reaches_those_who_wait(call: Caller) -> None:
    with FakeProvider("fine", gate=True) as provider:
        guard = CostGuard(Budget(per="all", output_tokens=200), prices=PRICES, wait=30)
        model = guard.wrap(provider.openai(max_tokens=150))
        first = threading.Thread(target=model.invoke, args=("first",))
        first.start()
        provider.wait_for_requests(1)
        threading.Thread(target=lambda: (waiting_for(guard, 1), guard.kill(reason="enough"))).start()
        with pytest.raises(AgentHaltedError, match="enough"):
            call(model, "second")
        guard.revive()
        provider.gate.set()
        first.join()
    assert empty(guard)


def test_a_call_that_failed_makes_room_for_the_next_in_line(call: Caller) -> None:
    with FakeProvider([Reply(status=500), "fine"], gate=True) as provider:
        guard = CostGuard(Budget(per="all", output_tokens=200), prices=PRICES, wait=30)
        model = guard.wrap(provider.openai(max_tokens=150))
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(model.invoke, "first")
            provider.wait_for_requests(1)
            threading.Thread(target=lambda: (waiting_for(guard, 1), provider.gate.set())).start()
            assert call(model, "second").content == "fine"
            assert first.exception() is not None
    assert empty(guard)


# It is counted once


@pytest.mark.parametrize("mode", ["invoke", "stream"])
def test_attached_in_every_way_at_once_it_counts_once(mode: str, call: Caller, stream: Caller) -> None:
    with FakeProvider("four little words here") as provider:
        recorder = Recorder()
        guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES, sinks=[recorder])
        model = guard.wrap(guard.wrap(provider.openai(callbacks=CallbackManager(handlers=[guard]), max_tokens=50)))
        with guard.watch():
            (call if mode == "invoke" else stream)(model, "hello there", {"callbacks": [guard, guard]})
        assert len(provider.requests) == 1
    total = guard.report().total
    assert (total.calls, total.spent) == (1, ONE_CALL)
    assert [type(event).__name__ for event in recorder.events] == ["CallStarted", "CallSettled"]
    assert recorder.of(CallStarted)[0].held > ONE_CALL
    assert empty(guard)


def test_a_model_of_two_guards_obeys_both(call: Caller) -> None:
    with FakeProvider("four little words here") as provider:
        first = CostGuard(Budget(per="all", model_calls=2), prices=PRICES, session="the same")
        second = CostGuard(Budget(per="all", model_calls=1), prices=PRICES, session="the same")
        for model in (second.wrap(first.wrap(provider.openai(max_tokens=9))),):
            call(model, "hello there")
            with pytest.raises(BudgetExceededError):
                call(model, "hello there")
        third = CostGuard(Budget(per="all", model_calls=9), prices=PRICES, session="the same")
        model = third.wrap(first.wrap(provider.openai(max_tokens=9)))
        call(model, "hello there")
        with pytest.raises(BudgetExceededError):
            call(model, "hello there")
        assert len(provider.requests) == 2
    assert [guard.report().total.calls for guard in (first, second, third)] == [2, 1, 1]
    assert all(empty(guard) for guard in (first, second, third))


def test_other_callbacks_of_the_model_stay(call: Caller, provider: FakeProvider) -> None:
    class Seen(BaseCallbackHandler):
        ends = 0

        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            self.ends += 1

    for callbacks in ([seen := Seen()], CallbackManager(handlers=[seen])):
        guard = CostGuard(prices=PRICES)
        call(guard.wrap(provider.openai(callbacks=callbacks)), "hello there")
        assert guard.report().total.calls == 1
    assert seen.ends == 2


def test_a_hit_of_the_models_own_cache_is_free_and_never_waits(call: Caller, provider: FakeProvider) -> None:
    set_llm_cache(InMemoryCache())
    guard = CostGuard(Budget(per="all", model_calls=1), prices=PRICES)
    model = guard.wrap(provider.openai(max_tokens=50))
    for _ in range(3):
        assert call(model, "hello there").content == "four little words here"
    total = guard.report().total
    assert (total.calls, total.spent, total.saved, total.refused) == (1, ONE_CALL, 2 * ONE_CALL, 0)
    assert empty(guard)


def test_a_model_called_below_langchain_is_guarded(world: str, provider: FakeProvider) -> None:
    guard = CostGuard(Budget(per="all", model_calls=2), prices=PRICES)
    model = guard.wrap(provider.openai(max_tokens=50))
    messages: Any = [HumanMessage("hello there")]

    async def arun() -> None:
        await model._agenerate(messages)
        async for _ in model._astream(messages):
            pass
        await model._agenerate(messages)

    def run() -> None:
        model._generate(messages)
        for _ in model._stream(messages):
            pass
        model._generate(messages)

    with pytest.raises(BudgetExceededError):
        asyncio.run(arun()) if world == "async" else run()
    assert guard.report().total.spent == 2 * ONE_CALL
    assert len(provider.requests) == 2
    assert empty(guard)


USAGE: Any = {"input_tokens": 2, "output_tokens": 4, "total_tokens": 6}


class GeneratesByStreaming(BaseChatModel):
    """`_generate` reads its own `_stream`, without a run manager."""

    calls: list[str] = []  # noqa: RUF012 - pydantic copies it

    @property
    def _llm_type(self) -> str:
        return "roundabout"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        text = "".join(chunk.text for chunk in self._stream(messages, stop, **kwargs))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=USAGE))])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.calls.append("stream")
        yield ChatGenerationChunk(message=AIMessageChunk(content="one two three four", usage_metadata=USAGE))


class StreamsByGenerating(BaseChatModel):
    """`_stream` cuts up what its own `_generate` gives; neither asks for a run manager."""

    @property
    def _llm_type(self) -> str:
        return "roundabout"

    def _generate(self, messages: Any, stop: Any = None, **kwargs: Any) -> ChatResult:  # type: ignore[override]
        assert "run_manager" not in kwargs
        return ChatResult(generations=[ChatGeneration(message=AIMessage("one two three four", usage_metadata=USAGE))])

    def _stream(self, messages: Any, stop: Any = None, **kwargs: Any) -> Iterator[ChatGenerationChunk]:  # type: ignore[override]
        message = self._generate(messages, stop, **kwargs).generations[0].message
        yield ChatGenerationChunk(message=AIMessageChunk(content=message.content, usage_metadata=USAGE))


@pytest.mark.parametrize("kind", [GeneratesByStreaming, StreamsByGenerating, Speechless])
@pytest.mark.parametrize("mode", ["invoke", "stream"])
def test_a_model_that_calls_itself_is_admitted_once(kind: Any, mode: str, call: Caller, stream: Caller) -> None:
    guard = CostGuard(Budget(per="all", model_calls=2), prices=PRICES)
    model = guard.wrap(kind())
    for _ in range(2):
        (call if mode == "invoke" else stream)(model, "hi")
    total = guard.report().total
    assert (total.calls, total.output_tokens, total.estimated) == (2, 8, 0)
    with pytest.raises(BudgetExceededError):
        (call if mode == "invoke" else stream)(model, "hi")
    assert empty(guard)


class Asks(BaseChatModel):
    """A model that asks another one."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "asks"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages))])


@pytest.mark.parametrize("direct", [False, True])
def test_a_wrapped_model_inside_a_wrapped_model_is_admitted_and_paid_once(direct: bool, call: Caller) -> None:
    guard = CostGuard(Budget(per="all", model_calls=1), prices=PRICES)
    inner = guard.wrap(ScriptedChatModel(usage=(2, 4)))
    outer = guard.wrap(Asks(inner=inner))
    call(outer, "hi")
    assert guard.report().total.calls == 1
    with pytest.raises(BudgetExceededError):
        call(outer, "hi")
    assert inner.calls == 1
    assert empty(guard)


class Plain(SimpleChatModel):
    """The smallest chat model LangChain knows."""

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _call(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> str:
        return "fine"


def test_a_reply_without_usage_is_estimated(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES)
    call(guard.wrap(Plain(metadata={"ls_model_name": "gpt-4o", "ls_provider": "openai"})), "hi")
    total = guard.report().total
    assert (total.calls, total.estimated) == (1, 1)
    assert 0 < total.spent < 10_000_000
    assert empty(guard)


def test_an_error_of_the_model_is_its_own(call: Caller) -> None:
    class Breaks(Plain):
        def _call(self, *args: Any, **kwargs: Any) -> str:
            raise KeyError("mine")

    guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES)
    with pytest.raises(KeyError, match="mine"):
        call(guard.wrap(Breaks()), "hi")
    assert empty(guard)


# Embeddings

TEXTS = ["one two three", "four five"]
EMBEDDING_PRICES = {"text-embedding-3-small": Price(input="0.02", output="0")}


def embed(world: str, wrapped: Any, texts: Any = TEXTS) -> Any:
    if isinstance(texts, str):
        return asyncio.run(wrapped.aembed_query(texts)) if world == "async" else wrapped.embed_query(texts)
    return asyncio.run(wrapped.aembed_documents(texts)) if world == "async" else wrapped.embed_documents(texts)


def test_embeddings_are_metered_at_their_estimate(world: str) -> None:
    recorder = Recorder()
    with FakeProvider() as provider:
        guard = CostGuard(Budget(per="all", usd="1"), prices=EMBEDDING_PRICES, sinks=[recorder])
        wrapped = guard.wrap(provider.embeddings())
        assert len(embed(world, wrapped)) == 2
        assert len(embed(world, wrapped, "one two three")) > 2
        assert len(provider.requests) == 2
    total = guard.report().total
    assert (total.calls, total.estimated, total.output_tokens) == (2, 2, 0)
    assert total.spent == total.input_tokens * 20
    assert [type(event).__name__ for event in recorder.events[:2]] == ["CallStarted", "CallSettled"]
    assert guard.report().by("model").rows[0][0] == ("text-embedding-3-small",)
    assert empty(guard)


def test_embeddings_that_do_not_fit_are_not_sent(world: str) -> None:
    with FakeProvider() as provider:
        guard = CostGuard(Budget(per="all", input_tokens=20, model_calls=9), prices=EMBEDDING_PRICES)
        wrapped = guard.wrap(provider.embeddings())
        with pytest.raises(BudgetExceededError):
            embed(world, wrapped, ["word " * 100])
        assert provider.requests == []
        embed(world, wrapped, "one two")
        assert embed(world, wrapped, []) == []
    total = guard.report().total
    assert (total.calls, total.refused) == (1, 1)
    assert empty(guard)


def test_embeddings_that_failed_cost_nothing(world: str) -> None:
    with FakeProvider(embedding=Reply(status=500)) as provider:
        guard = CostGuard(Budget(per="all", usd="1"), prices=EMBEDDING_PRICES)
        with pytest.raises(Exception, match="told to fail"):
            embed(world, guard.wrap(provider.embeddings()))
    assert guard.report().total.spent == 0
    assert empty(guard)


def test_wrapped_embeddings_pass_for_what_they_wrap(provider: FakeProvider) -> None:
    plain = provider.embeddings()
    wrapped: Any = CostGuard(prices=EMBEDDING_PRICES).wrap(plain)
    assert wrapped.model == plain.model
    assert wrapped.openai_api_base == plain.openai_api_base
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = wrapped.no_such_thing


def test_a_vector_store_of_wrapped_embeddings_is_guarded(world: str) -> None:
    with FakeProvider() as provider:
        guard = CostGuard(Budget(per="all", model_calls=2), prices=EMBEDDING_PRICES)
        store = InMemoryVectorStore(guard.wrap(provider.embeddings()))

        async def arun() -> None:
            await store.aadd_texts(TEXTS)
            await store.asimilarity_search("one")
            await store.asimilarity_search("one")

        def run() -> None:
            store.add_texts(TEXTS)
            store.similarity_search("one")
            store.similarity_search("one")

        with pytest.raises(BudgetExceededError):
            asyncio.run(arun()) if world == "async" else run()
        assert len(provider.requests) == 2
    assert guard.report().total.calls == 2


def test_the_mark_of_a_wrapped_model_names_the_guard_and_not_its_session() -> None:
    first, second = (CostGuard(session="the same") for _ in range(2))
    marks = [guard.wrap(ScriptedChatModel()).metadata[STRICT] for guard in (first, second)]  # type: ignore[index]
    assert marks[0] != marks[1]
