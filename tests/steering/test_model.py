"""A steered model is the same model in a chain, whichever verb it is called by, and its streams stay streams."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import warnings
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputToolsParser
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.prompt_values import StringPromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from langchain_costguard import Budget, BudgetExceededError, CostGuard
from langchain_costguard.events import CallSettled, EndedEarly, Retried
from langchain_costguard.steering import Retry, SteeredModel, max_tool_calls, steer, valid_json
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder, Reply, ScriptedChatModel
from tests.conftest import PRICES, Caller
from tests.test_wrap import ANTHROPIC, ONE_CALL, empty

QUICK = Retry(base=0.001, most=0.01)
BUSY = Reply(status=503)
WORDS = "four little words here"
PROMPT = ChatPromptTemplate.from_template("{q}")


class Answer(BaseModel):
    """An answer."""

    text: str


@tool
def search(q: str) -> str:
    """Search."""
    return "found"


def steered(guard: CostGuard, model: Any, **policies: Any) -> Any:
    return SteeredModel(model, steer(guard, **{"retry": QUICK, **policies}))


def joined(pieces: list[AIMessageChunk]) -> Any:
    whole: Any = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece
    return whole


def paid(guard: CostGuard, provider: FakeProvider) -> bool:
    served = provider.usage()
    spent = served.input_tokens * 2_500 + served.output_tokens * 10_000
    return guard.report().total.spent == spent and empty(guard)


# It stays what it was


def test_a_steered_model_is_of_its_class_and_says_the_same_of_itself(provider: FakeProvider) -> None:
    plain = provider.openai(max_tokens=50, temperature=0.5, tags=["mine"], metadata={"team": "a"})
    model = steered(CostGuard(prices=PRICES), plain)
    assert isinstance(model, ChatOpenAI)
    assert isinstance(model, SteeredModel)
    assert (type(model).__name__, type(model).__module__) == ("ChatOpenAI", ChatOpenAI.__module__)
    assert model.get_name() == plain.get_name()
    assert model._get_ls_params() == plain._get_ls_params()
    assert model._get_llm_string() == plain._get_llm_string()
    assert model.model_dump() == plain.model_dump()
    assert model.lc_id() == plain.lc_id()
    assert type(plain) is ChatOpenAI
    assert plain.callbacks is None


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_the_real_clients_are_steered_by_every_verb(dialect: str, call: Caller, stream: Caller) -> None:
    with FakeProvider([BUSY, WORDS, BUSY, WORDS]) as provider:
        plain = provider.openai(max_tokens=50) if dialect == "openai" else provider.anthropic(max_tokens=50)
        guard = CostGuard(Budget(per="all", usd="1"), prices={**PRICES, **ANTHROPIC})
        model = steered(guard, plain)
        assert isinstance(model, ChatOpenAI if dialect == "openai" else ChatAnthropic)
        assert call(model, "hello there").text == WORDS
        pieces = stream(model, "hello there")
        assert len([piece for piece in pieces if piece.text]) == 4
        assert joined(pieces).text == WORDS
        assert joined(pieces).usage_metadata["output_tokens"] == 4
        assert len(provider.requests) == 4
    assert guard.report().total.calls == 2
    assert empty(guard)


def test_a_chain_of_prompt_model_and_parser_is_steered(call: Caller, stream: Caller) -> None:
    with FakeProvider([BUSY, WORDS, BUSY, WORDS]) as provider:
        guard = CostGuard(prices=PRICES)
        chain = PROMPT | steered(guard, provider.openai()) | StrOutputParser()
        assert call(chain, {"q": "hello there"}) == WORDS
        assert "".join(stream(chain, {"q": "hello there"})) == WORDS
        assert paid(guard, provider)


class Seen(BaseCallbackHandler):
    """What a callback of LangChain's sees."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.ends = 0
        self.errors = 0
        self.runs: list[UUID] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.runs.append(run_id)
        self.starts.append(
            {
                "name": kwargs.get("name") or (serialized or {}).get("name"),
                "tags": sorted(kwargs["tags"]),
                "metadata": {k: v for k, v in kwargs["metadata"].items() if not k.startswith("costguard")},
                "stop": kwargs["invocation_params"].get("stop"),
                "messages": [[m.content for m in batch] for batch in messages],
            }
        )

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends += 1

    def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
        self.errors += 1


@pytest.mark.parametrize("mode", ["invoke", "stream"])
def test_callbacks_see_what_they_see_without_it_and_each_attempt_as_a_run(
    mode: str, call: Caller, stream: Caller
) -> None:
    verb = call if mode == "invoke" else stream
    seen, plainly, run_id = Seen(), Seen(), uuid4()
    with FakeProvider([WORDS, BUSY, WORDS]) as provider:
        plain = provider.openai(tags=["mine"], metadata={"team": "a"})
        said: Any = {"tags": ["theirs"], "metadata": {"user": "u1"}, "run_name": "asking"}
        verb(plain, "hello there", {**said, "callbacks": [plainly]}, stop=["."])
        model = steered(CostGuard(prices=PRICES), plain)
        verb(model, "hello there", {**said, "callbacks": [seen], "run_id": run_id}, stop=["."])
    assert seen.starts == plainly.starts * 2
    assert seen.starts[0]["name"] == "asking"
    assert seen.starts[0]["stop"] == ["."]
    assert (seen.ends, seen.errors) == (1, 1)
    assert seen.runs[0] == run_id
    assert len(set(seen.runs)) == 2


@pytest.mark.parametrize("mode", ["invoke", "stream"])
def test_the_usage_that_langchain_counts_is_the_true_one(mode: str, call: Caller, stream: Caller) -> None:
    counter = UsageMetadataCallbackHandler()
    with FakeProvider([BUSY, "not json", '{"a": 1}']) as provider:
        guard = CostGuard(prices=PRICES)
        model = steered(guard, provider.openai(), guardrails=[valid_json()])
        (call if mode == "invoke" else stream)(model, "hello there", {"callbacks": [counter]})
        served = provider.usage()
        (counted,) = counter.usage_metadata.values()
        assert (counted["input_tokens"], counted["output_tokens"]) == (served.input_tokens, served.output_tokens)
        assert paid(guard, provider)


def test_what_is_made_of_a_steered_model_is_steered_too(call: Caller) -> None:
    answer = Reply(tool_calls=[("Answer", {"text": "yes"})])
    json = Reply('{"text": "yes"}')
    forms: dict[str, Any] = {
        "bind_tools": (lambda m: m.bind_tools([Answer]), answer),
        "bind": (lambda m: m.bind(temperature=0.1), json),
        "with_config": (lambda m: m.with_config(tags=["x"]), json),
        "with_fallbacks": (lambda m: m.with_fallbacks([FakeListChatModel(responses=["no"])]), json),
        "with_retry": (lambda m: m.with_retry(stop_after_attempt=1), json),
        "copy": (lambda m: m.model_copy(update={"temperature": 0.2}), json),
        "copy.copy": (copy.copy, json),
        "json_schema": (lambda m: m.with_structured_output(Answer, method="json_schema"), json),
        "function_calling": (lambda m: m.with_structured_output(Answer, method="function_calling"), answer),
        "include_raw": (lambda m: m.with_structured_output(Answer, method="json_schema", include_raw=True), json),
    }
    for name, (form, reply) in forms.items():
        with FakeProvider([BUSY, reply]) as provider:
            guard = CostGuard(prices=PRICES)
            got = call(form(steered(guard, provider.openai())), "hello there")
            assert len(provider.requests) == 2, name
            assert paid(guard, provider), name
        if name in ("json_schema", "function_calling"):
            assert got == Answer(text="yes"), name
        if name == "include_raw":
            assert got["parsed"] == Answer(text="yes")


def test_what_was_made_before_it_was_steered_is_steered_as_well(call: Caller) -> None:
    with FakeProvider([BUSY, Reply(tool_calls=[("search", {"q": "x"})])]) as provider:
        guard = CostGuard(prices=PRICES)
        model = steered(guard, provider.openai().bind_tools([search]).with_config(tags=["x"]))
        assert call(model, "hello there").tool_calls[0]["name"] == "search"
        assert [request.tools[0].name for request in provider.requests] == ["search"] * 2
        assert paid(guard, provider)


def test_every_form_of_input_is_understood(call: Caller) -> None:
    with FakeProvider(WORDS) as provider:
        model = steered(CostGuard(prices=PRICES), provider.openai())
        for given in ("hello", [HumanMessage("hello")], [("user", "hello")], StringPromptValue(text="hello")):
            call(model, given, stop=["."])
        assert [r.messages for r in provider.requests] == [[{"content": "hello", "role": "user"}]] * 4
        assert all(r.body["stop"] == ["."] for r in provider.requests)


def test_a_batch_is_steered_call_by_call(world: str) -> None:
    def reply(request: Any) -> Reply:
        return BUSY if request.number <= 3 else Reply(WORDS)

    with FakeProvider(reply) as provider:
        guard = CostGuard(prices=PRICES)
        model = steered(guard, provider.openai())
        got = asyncio.run(model.abatch(["a", "b", "c"])) if world == "async" else model.batch(["a", "b", "c"])
        assert [message.content for message in got] == [WORDS] * 3
        assert len(provider.requests) == 6
        assert paid(guard, provider)


def test_an_agent_of_a_steered_model_is_steered(call: Caller) -> None:
    script = [BUSY, Reply(tool_calls=[("search", {"q": "x"})]), BUSY, Reply("done")]
    with FakeProvider(script) as provider:
        guard = CostGuard(prices=PRICES)
        agent = create_agent(steered(guard, provider.openai()), [search])
        assert call(agent, {"messages": [("user", "go")]})["messages"][-1].content == "done"
        assert len(provider.requests) == 4
        assert paid(guard, provider)


def test_copies_are_steered_by_the_same_policies_and_pickling_says_why_not(call: Caller) -> None:
    guard = CostGuard(Budget(per="all", model_calls=1), prices=PRICES)
    model = steered(guard, FakeListChatModel(responses=["a"]), on_exceeded="raise")
    call(copy.deepcopy(model), "hi")
    for each in (model, copy.copy(model), copy.deepcopy(model)):
        with pytest.raises(BudgetExceededError):
            call(each, "hi")
    with pytest.raises(TypeError, match="steer it where it is used"):
        pickle.dumps(model)
    with pytest.raises(TypeError, match="build the model, then steer it"):
        type(model)(responses=["b"])


def test_only_models_and_what_steer_returns_are_taken() -> None:
    guard = CostGuard()
    for model, steering, field in (
        ("gpt-4o", steer(guard), "model"),
        (FakeListChatModel(responses=["a"]) | StrOutputParser(), steer(guard), "model"),
        (FakeListChatModel(responses=["a"]), guard, "steering"),
    ):
        with pytest.raises(ValueError, match=f"^{field}: "):
            SteeredModel(model, steering)  # type: ignore[arg-type]


class Fails(FakeListChatModel):
    """A model that cannot stream, and fails once."""

    failures: int = 1
    _stream = BaseChatModel._stream
    _astream = BaseChatModel._astream

    def _call(self, *args: Any, **kwargs: Any) -> str:
        if self.failures:
            self.failures -= 1
            raise TimeoutError("too slow")
        return str(super()._call(*args, **kwargs))


@pytest.mark.parametrize("mode", ["invoke", "stream"])
def test_a_model_that_cannot_stream_is_steered_once(mode: str, call: Caller, stream: Caller) -> None:
    recorder, seen = Recorder(), Seen()
    guard = CostGuard(prices=PRICES, sinks=[recorder])
    for failures, tries in ((1, 2), (99, 4)):
        model = steered(guard, Fails(responses=["fine"], failures=failures))
        seen.runs.clear()
        config = {"callbacks": [seen]}
        if failures == 1:
            got = call(model, "hi", config) if mode == "invoke" else stream(model, "hi", config)[0]
            assert got.content == "fine"
        else:
            with pytest.raises(TimeoutError):
                (call if mode == "invoke" else stream)(model, "hi", config)
        assert len(seen.runs) == tries
    assert len(recorder.of(Retried)) == 1 + 3
    assert empty(guard)


# Whose it is


@pytest.mark.parametrize("form", ["model", "chain", "node"])
@pytest.mark.parametrize("mode", ["invoke", "stream"])
def test_what_steering_tells_is_of_the_callers_scope(form: str, mode: str, call: Caller, stream: Caller) -> None:
    recorder = Recorder()
    guard = CostGuard(Budget(per="user", model_calls=1), prices=PRICES, sinks=[recorder])
    model = steered(guard, ScriptedChatModel(metadata={"feature": "chat"}))
    if form == "node":
        inner = model

        def node(q: str) -> Any:
            return inner.invoke(q)

        async def anode(q: str) -> Any:
            return await inner.ainvoke(q)

        model = RunnableLambda(node, afunc=anode)
    runnable = model if form != "chain" else PROMPT | model | StrOutputParser()
    value: Any = {"q": "hi"} if form == "chain" else "hi"
    verb = call if mode == "invoke" else stream
    config = {"metadata": {"user": "u1", "session": "s1"}}
    verb(runnable, value, config)
    verb(runnable, value, {"metadata": {"user": "u2", "session": "s2"}})
    verb(runnable, value, config)
    (ended,) = recorder.of(EndedEarly)
    (settled, *_) = recorder.of(CallSettled)
    assert (ended.scope.user, ended.scope.session, ended.scope.feature) == ("u1", "s1", "chat")
    assert ended.scope[:6] == settled.scope[:6]


def test_a_budget_of_the_callers_own_bounds_the_waiting(call: Caller) -> None:
    with FakeProvider(Reply(status=429, retry_after=5)) as provider:
        guard = CostGuard(Budget(per="user", seconds=3), prices=PRICES)
        model = steered(guard, provider.openai(), retry=Retry())
        for _ in range(2):  # the first call starts the budget's clock
            with pytest.raises(Exception, match="fail") as caught:
                call(model, "hi", {"metadata": {"user": "u1"}})
        assert "the time of a budget is over" in str(getattr(caught.value, "__notes__", ""))
        assert len(provider.requests) == 2


# Streams


def test_the_first_piece_is_out_before_the_last_is_served(world: str) -> None:
    with FakeProvider([BUSY, Reply(WORDS, hold_after=1)]) as provider:
        guard = CostGuard(prices=PRICES)
        chain = PROMPT | steered(guard, provider.openai()) | StrOutputParser()

        async def aread() -> list[str]:
            got = []
            async for text in chain.astream({"q": "hi"}):
                got.append(text)
                if text:
                    provider.gate.set()
            return got

        def read() -> Iterator[str]:
            for text in chain.stream({"q": "hi"}):
                yield text
                if text:
                    provider.gate.set()

        assert "".join(asyncio.run(aread()) if world == "async" else read()) == WORDS
        assert paid(guard, provider)


class Breaks(GenericFakeChatModel):
    """A model whose stream breaks after a word, or before."""

    error: Any
    words: int = 1
    tries: list[int] = []  # noqa: RUF012 - pydantic copies it

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        self.tries.append(1)
        for _ in range(self.words):
            yield ChatGenerationChunk(message=AIMessageChunk(content="word "))
        raise self.error


def test_a_stream_that_breaks_is_tried_again_only_before_its_first_piece(stream: Caller) -> None:
    for words, tries in ((0, 4), (1, 1)):
        error, recorder = ConnectionError("gone"), Recorder()
        guard = CostGuard(prices=PRICES, sinks=[recorder])
        model = steered(guard, Breaks(messages=iter([]), error=error, words=words, tries=[]))
        with pytest.raises(ConnectionError) as caught:
            stream(model, "hi")
        assert caught.value is error
        assert not getattr(error, "__notes__", [])
        assert len(model.tries) == tries
        assert len(recorder.of(Retried)) == tries - 1
        assert empty(guard)


@pytest.mark.parametrize("on_exceeded", ["end", "raise"])
def test_a_stream_halted_midway_says_why_or_raises(on_exceeded: str, stream: Caller) -> None:
    clock = ManualClock()
    with FakeProvider(Reply(chunks=200)) as provider:
        guard = CostGuard(prices=PRICES, clock=clock)
        model = steered(guard, provider.openai(), on_exceeded=on_exceeded)

        class Kills(BaseCallbackHandler):
            def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
                if token == "word3 ":
                    guard.kill(reason="enough")
                    clock.advance(5)

        config = {"callbacks": [Kills()]}
        if on_exceeded == "raise":
            with pytest.raises(Exception, match="enough"):
                stream(model, "hi", config)
        else:
            pieces = stream(model, "hi", config)
            assert joined(pieces).text == "word0 word1 word2 word3 \n\nI was stopped by an operator: enough."
            assert pieces[-1].chunk_position == "last"
        provider.wait_until_idle()
    assert empty(guard)


class Overruns(ScriptedChatModel):
    """A model that heeds no ceiling."""

    def _chunks(self, kwargs: Any) -> Iterator[ChatGenerationChunk]:
        return super()._chunks({})


def test_a_stream_that_outgrows_its_budget_says_so_or_answers_from_the_reserve(stream: Caller) -> None:
    for reserve, ending in ((None, "\n\nI have to stop here: "), ("0.005", "\n\nthat is all")):
        guard = CostGuard(Budget(per="all", usd="0.02", reserve=reserve), prices=PRICES)
        model = Overruns(replies=[Reply(chunks=3000), Reply("that is all")])
        text = joined(stream(steered(guard, model), "hi")).text
        assert text.startswith("word0 word1 ")
        assert ending in text
        assert "word2999" not in text
        assert empty(guard)


def test_a_stream_refused_at_its_start_is_one_piece_that_says_why(stream: Caller) -> None:
    guard = CostGuard(Budget(per="all", usd="0.0000001"), prices=PRICES)
    model = ScriptedChatModel()
    (piece,) = stream(steered(guard, model), "hi")
    assert "I have to stop here" in piece.text
    assert piece.response_metadata["costguard"]["ended"] == "BudgetExceededError"
    assert model.calls == 0
    assert "".join(stream(PROMPT | steered(guard, model) | StrOutputParser(), {"q": "hi"})) == piece.text


def test_guardrails_hold_a_stream_back_and_show_the_repaired_reply_alone(stream: Caller) -> None:
    with FakeProvider(["no json at all", '{"a": 1}']) as provider:
        guard = CostGuard(prices=PRICES)
        pieces = stream(steered(guard, provider.openai(), guardrails=[valid_json()]), "hi")
        assert joined(pieces).text == '{"a": 1}'
        assert len(pieces) > 2
        assert joined(pieces).usage_metadata["output_tokens"] == 2
        assert paid(guard, provider)


def test_tool_calls_of_a_held_stream_come_in_their_pieces(stream: Caller) -> None:
    two = Reply(tool_calls=[("search", {"q": "a"}), ("search", {"q": "b"})])
    one = Reply("one moment", tool_calls=[("search", {"q": "a question of some length"})])
    with FakeProvider([two, one]) as provider:
        guard = CostGuard(prices=PRICES)
        model = steered(guard, provider.openai().bind_tools([search]), guardrails=[max_tool_calls(1)])
        whole = joined(pieces := stream(model, "hi"))
        assert [call["args"] for call in whole.tool_calls] == [{"q": "a question of some length"}]
        assert sum(len(piece.tool_call_chunks) for piece in pieces) > 2
        assert (whole.text, whole.usage_metadata["input_tokens"] > 0) == ("one moment", True)
        provider._next_reply[False] = lambda request: one
        assert stream(model | JsonOutputToolsParser(), "hi")[-1][0]["args"] == {"q": "a question of some length"}
        assert paid(guard, provider)


def test_arguments_that_do_not_parse_are_not_repaired_once_they_are_shown(stream: Caller) -> None:
    with FakeProvider([Reply(tool_calls=[("search", "no json")])]) as provider:
        guard = CostGuard(prices=PRICES)
        whole = joined(stream(steered(guard, provider.openai().bind_tools([search])), "hi"))
        assert [call["args"] for call in whole.invalid_tool_calls] == ["no json"]
        assert len(provider.requests) == 1
        assert paid(guard, provider)


@pytest.mark.parametrize("hold", [False, True])
def test_a_consumer_that_goes_early_leaves_nothing_behind(hold: bool, stream: Caller, recwarn: Any) -> None:
    with FakeProvider(Reply(chunks=50)) as provider:
        guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES)
        model = steered(guard, provider.openai(), guardrails=[lambda reply: None] if hold else ())
        assert len(stream(model, "hi", most=3)) >= 3
        chain = PROMPT | model | StrOutputParser()
        assert len(stream(chain, {"q": "hi"}, most=3)) >= 3
        provider.wait_until_idle()
        assert len(provider.requests) == 2
    gc.collect()
    assert empty(guard)
    assert guard.report().total.calls == 2
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_an_abandoned_async_stream_is_cleaned_up(caplog: pytest.LogCaptureFixture) -> None:
    async def main(model: Any) -> None:
        async for piece in model.astream("hi"):
            if piece.text:
                break
        gc.collect()
        for _ in range(50):
            await asyncio.sleep(0)

    with FakeProvider(Reply(chunks=50, hold_after=5)) as provider, warnings.catch_warnings():
        warnings.simplefilter("error")
        guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES)
        with caplog.at_level(logging.WARNING, "asyncio"):
            asyncio.run(main(steered(guard, provider.openai())))
            gc.collect()
        provider.wait_until_idle()
    assert empty(guard)
    assert not caplog.records


@pytest.mark.parametrize("verb", ["ainvoke", "astream"])
@pytest.mark.parametrize("where", ["call", "sleep"])
def test_a_cancelled_task_leaves_nothing_held(verb: str, where: str) -> None:
    reply = Reply(status=429, retry_after=20) if where == "sleep" else Reply(WORDS)

    async def use(model: Any) -> None:
        if verb == "ainvoke":
            await model.ainvoke("hi")
        else:
            async for _ in model.astream("hi"):
                pass

    async def main(provider: FakeProvider, guard: CostGuard) -> None:
        sleeps = asyncio.Event()
        guard.add_sink(lambda event: sleeps.set() if isinstance(event, Retried) else None)
        task = asyncio.create_task(use(steered(guard, provider.openai(), retry=Retry())))
        await asyncio.to_thread(provider.wait_for_requests, 1)
        if where == "sleep":
            await sleeps.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FakeProvider(reply, gate=where == "call") as provider:
        guard = CostGuard(Budget(per="all", usd="1"), prices=PRICES)
        asyncio.run(main(provider, guard))
        assert len(provider.requests) == 1
    assert empty(guard)


# Events of LangChain's


def test_astream_events_are_those_of_the_steered_model() -> None:
    async def main(chain: Any) -> list[Any]:
        return [event async for event in chain.astream_events({"q": "hi"}, version="v2")]

    with FakeProvider([BUSY, WORDS]) as provider:
        guard = CostGuard(prices=PRICES)
        events = asyncio.run(main(PROMPT | steered(guard, provider.openai()) | StrOutputParser()))
        names = [event["event"] for event in events]
        assert names.count("on_chat_model_start") == 2
        assert names.count("on_chat_model_end") == 1
        streamed = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
        assert "".join(streamed) == WORDS
        assert paid(guard, provider)


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
def test_events_of_version_three_are_metered_and_held_to_the_budgets(world: str) -> None:
    async def main(model: Any) -> Any:
        stream = await model.astream_events("hello there", version="v3")
        return await stream.output

    def run(model: Any) -> Any:
        return asyncio.run(main(model)) if world == "async" else model.stream_events("hello there", version="v3").output

    with FakeProvider(WORDS) as provider:
        guard = CostGuard(Budget(per="all", model_calls=1), prices=PRICES)
        model = steered(guard, provider.openai())
        assert run(model).text == WORDS
        with pytest.raises(BudgetExceededError):
            run(model)
        assert guard.report().total.spent == ONE_CALL
    assert empty(guard)
