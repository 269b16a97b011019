"""What is told and kept of a wrapped model's calls, on every road it can be called: the same, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from langchain_costguard import Budget, BudgetExceededError
from langchain_costguard.testing import ScriptedChatModel
from tests.metering.stories import Answered, Told

ROADS = ["invoke", "ainvoke", "stream", "astream"]


def ask(road: str, model: Any, most: int | None = None) -> Any:
    """Call a model; of a stream, read up to ``most`` pieces."""

    async def aread() -> list[Any]:
        got: list[Any] = []
        pieces = model.astream("1501")
        async for piece in pieces:
            got.append(piece)
            if len(got) == most:
                break
        await pieces.aclose()
        return got

    if road == "invoke":
        return model.invoke("1501")
    if road == "ainvoke":
        return asyncio.run(model.ainvoke("1501"))
    if road == "astream":
        return asyncio.run(aread())
    pieces = model.stream("1501")
    got = [piece for _, piece in zip(range(most or 99), pieces, strict=False)]
    pieces.close()
    return got


class Model(ScriptedChatModel):
    """Says ``usage`` of itself, after it has done something."""

    model: str = "mine"
    max_tokens: int | None = 53
    usage: tuple[int, int | None] = (1487, 41)
    doing: Any = None
    after: int = 0
    """Of a stream, the pieces before it."""

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        if self.doing is not None:
            self.doing(self)
        return super()._generate(messages, *args, **kwargs)

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for number, piece in enumerate(super()._stream(messages)):
            if number == self.after and self.doing is not None:
                self.doing(self)
            yield piece

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        for piece in self._stream(messages):
            yield piece


def raising(error: BaseException) -> Callable[[Any], None]:
    def do(_: Any) -> None:
        raise error

    return do


STARTED = "CallStarted run_id=A, name=mine, held=5034742"
SETTLED = (
    "CallSettled run_id=A, model=openai:mine, usage=1487+41, charge=4132179, held=5034742, answered=mine, "
    "cacheable=1487, accounts=6"
)
SPENT = (
    "spent: usd=4132179, tokens=1528, input_tokens=1487, output_tokens=41, model_calls=1, steps=1, seconds=1000000000"
)
REPORT = "report: calls=1, input_tokens=1487, output_tokens=41, spent=4132179, cacheable=1487"


def lines(told: Told) -> list[str]:
    return [*told.lines, *(line for line in told.sums() if not line.startswith("took"))]


@pytest.mark.parametrize("road", ROADS)
def test_a_call_is_told_of_once_and_held_until_its_end(road: str) -> None:
    told, held = Told(), []
    model = told.guard.wrap(Model(doing=lambda _: held.append(told.sums()[1])))
    ask(road, model)
    assert held == ["held: usd=5034742, tokens=1554, input_tokens=1501, output_tokens=53, model_calls=1, steps=1"]
    assert lines(told) == [STARTED, SETTLED, SPENT, REPORT, "dearest: s=4132179"]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("listening", [False, True])
def test_a_call_that_fails_is_told_of_once(road: str, listening: bool) -> None:
    told = Told(listening=listening)
    with pytest.raises(Answered):
        ask(road, told.guard.wrap(Model(doing=raising(Answered("no")))))
    assert [*told.guard.meter.open_calls] == []
    assert lines(told)[-2:] == ["spent: model_calls=1, seconds=1000000000", "report: failed=1"]
    assert (
        told.lines
        == [
            STARTED,
            "CallVoided run_id=A, name=mine, held=5034742",
            "CallFailed run_id=A, model=openai:mine, kind=unbilled, error=Answered, status=429",
        ][: 3 * listening]
    )


def broken(
    kind: str, output: int, charge: int, *, status: str = "failed", failed: str = "", given: int = 1501
) -> list[str]:
    settled = (
        f"CallSettled run_id=A, model=openai:mine, usage={given}+{output}, charge={charge}, held=5034742, "
        f"estimated=True, source=estimated, status={status}, cacheable=1501, accounts=6"
    )
    missing = f"UsageMissing run_id=A, model=openai:mine, charge={charge}"
    return [
        STARTED,
        settled,
        missing,
        *([f"CallFailed run_id=A, model=openai:mine, kind={kind}, error={failed}"] * bool(failed)),
    ]


@pytest.mark.parametrize(
    ("road", "error", "told_of"),
    [
        ("invoke", KeyboardInterrupt(), broken("", 53, 5_034_742, status="cancelled")),
        ("invoke", SystemExit(), broken("", 53, 5_034_742, status="cancelled")),
        ("invoke", ConnectionResetError(), broken("partly", 0, 3_757_153, failed="ConnectionResetError")),
        ("invoke", TimeoutError(), broken("unknown", 53, 5_034_742, failed="TimeoutError")),
        ("ainvoke", ConnectionResetError(), broken("partly", 0, 3_757_153, failed="ConnectionResetError")),
        ("stream", KeyboardInterrupt(), broken("partly", 2, 3_777_156, failed="KeyboardInterrupt")),
        ("stream", ConnectionResetError(), broken("partly", 2, 3_777_156, failed="ConnectionResetError")),
        ("astream", ConnectionResetError(), broken("partly", 2, 3_777_156, failed="ConnectionResetError")),
        ("stream", None, broken("", 2, 3_777_156)),
        ("astream", None, broken("", 2, 3_777_156)),
    ],
)
def test_a_call_that_breaks_off_costs_what_had_come(road: str, error: Any, told_of: list[str]) -> None:
    told = Told()
    doing = None if error is None else raising(error)
    model = told.guard.wrap(Model(replies=["a b c d e f"], doing=doing, after=2))
    if error is None:
        assert len(ask(road, model, 2)) == 2
    else:
        with pytest.raises(type(error)):
            ask(road, model)
    assert told.lines == told_of
    assert [*told.guard.meter.open_calls] == []


@pytest.mark.parametrize("pieces", [0, 2])
def test_a_task_that_is_cancelled_leaves_what_it_has_cost(pieces: int) -> None:
    told = Told()

    async def main() -> None:
        begun, over = asyncio.Event(), asyncio.Event()

        class Slow(Model):
            async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
                begun.set()
                await over.wait()

            async def _astream(self, *args: Any, **kwargs: Any) -> Any:
                for text in "ab":
                    yield ChatGenerationChunk(message=AIMessageChunk(content=text))
                await self._agenerate()

        model = told.guard.wrap(Slow())
        task = asyncio.create_task(_all(model.astream("1501")) if pieces else model.ainvoke("1501"))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert told.lines[:3] == (broken("", 2, 3_777_156) if pieces else broken("", 53, 5_034_742, status="cancelled"))
    assert [*told.guard.meter.open_calls] == []


@pytest.mark.parametrize("road", ROADS)
def test_a_call_that_does_not_fit_is_not_made(road: str) -> None:
    told, made = Told(Budget(per="all", usd="0.001", tokens=10**6)), list[Any]()
    with pytest.raises(BudgetExceededError):
        ask(road, told.guard.wrap(Model(doing=made.append)))
    assert made == []
    assert [line.split()[0] for line in told.lines] == ["Refused"]
    assert [line for line in told.sums() if line.startswith(("held", "open"))] == []


class Outer(Model):
    """Calls its own methods, or itself."""

    how: str = ""

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        if self.how == "stream":
            *_, last = self._stream(messages, stop, run_manager, **kwargs)
            assert isinstance(last.message, AIMessageChunk)
        elif self.how == "stream of a copy":
            list(self.model_copy()._stream(messages, stop, run_manager))
        elif self.how == "stream without a manager":
            list(self._stream(messages, stop))
        elif self.how == "astream":
            asyncio.run(_all(self._astream(messages, stop)))
        elif self.how == "invoke" and messages[0].content == "1501":
            self.invoke("101")
        return Model._generate(self, messages, stop, run_manager, **kwargs)


async def _all(pieces: Any) -> list[Any]:
    return [piece async for piece in pieces]


@pytest.mark.parametrize("how", ["", "stream", "stream of a copy", "stream without a manager", "astream"])
def test_a_model_that_calls_its_own_methods_is_admitted_once(how: str) -> None:
    told, patient = noted(Told())
    model = told.guard.wrap(Outer())
    model.how = how  # what is changed is called as it is now, not as it was wrapped
    model.invoke("1501")
    assert lines(told) == [STARTED, SETTLED, SPENT, REPORT, "dearest: s=4132179"]
    assert patient == [True]


def noted(told: Told) -> tuple[Told, list[bool]]:
    """Whether each call that is admitted may wait."""
    patient: list[bool] = []
    admit = told.guard.waiting.admit

    def admitting(call: Any, *, patient: bool = True, kept: list[bool] = patient) -> Any:
        kept.append(patient)
        return admit(call, patient=patient)

    told.guard.waiting.admit = admitting  # type: ignore[method-assign]
    return told, patient


def test_a_model_that_asks_itself_is_admitted_again_and_does_not_wait_for_itself() -> None:
    told, patient = noted(Told())
    model = told.guard.wrap(Outer(usage=(101, 7)))
    model.how = "invoke"
    model.invoke("1501")
    assert [line.partition(" ")[0] for line in told.lines] == ["CallStarted"] * 2 + ["CallSettled"]
    assert patient == [True, False]
    other, patient = noted(Told())
    inner = other.guard.wrap(Model(usage=(101, 7)))
    for road in ROADS:
        ask(road, other.guard.wrap(Model(doing=lambda _: inner.invoke("101"))))
    assert patient == [True, False] * 4


@pytest.mark.parametrize("road", ROADS)
def test_what_is_called_without_langchain_is_admitted_all_the_same(road: str) -> None:
    told = Told()
    model = told.guard.wrap(Model(metadata={"user_id": "u"}, tags=["feature:f"]))
    prompt: list[BaseMessage] = [HumanMessage("1501")]
    if road == "invoke":
        model._generate(prompt, run_manager=SimpleNamespace(run_id=uuid4(), handlers=[]))  # of somebody else
    elif road == "ainvoke":
        asyncio.run(model._agenerate(prompt))
    elif road == "stream":
        list(model._stream(prompt))
    else:
        asyncio.run(_all(model._astream(prompt)))
    run = "scope=u/f/A, run_id=A"
    assert lines(told) == [
        STARTED.replace("run_id=A", run), SETTLED.replace("run_id=A", run), SPENT, REPORT, "dearest: s=4132179",
    ]  # fmt: skip


class Telling(Model):
    """A client that drops what it is told of the bill, and says of its reply what it likes."""

    says: Any = ()

    def _ending(self, output: Any, kwargs: Any) -> Any:
        return {}

    def _convert_chunk_to_generation_chunk(self, chunk: Any, *_: Any) -> Any:
        return chunk

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        self._convert_chunk_to_generation_chunk({"usage": {"cost": 0.003, "prompt_tokens": 1487}})
        result = super()._generate(messages, *args, **kwargs)
        return ChatResult(generations=result.generations, llm_output=self.says)


@pytest.mark.parametrize("road", ["invoke", "ainvoke"])
@pytest.mark.parametrize("says", [None, {"model_name": "other"}])
def test_what_a_client_drops_is_heard_and_what_it_says_is_kept(road: str, says: Any) -> None:
    told = Told()
    model = told.guard.wrap(Telling(provider="openrouter", replies=["a"]))
    model.says = says
    ask(road, model)
    (settled,) = (line for line in told.lines if line.startswith("CallSettled"))
    assert "charge=3000000" in settled
    assert ("answered=other" in settled) == bool(says)
    assert not told.guard.wrap(Model(replies=["a"])).invoke("1501").response_metadata.get("usage")


class Seeing(BaseCallbackHandler):
    """Another handler, and a witness."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.seen.append(type(event).__name__)

    def began(self, run: Any) -> None:
        self.seen.append(("began", run.kind, run.name))

    def whose(self, run_id: UUID, scope: Any) -> None:
        self.seen.append("whose")

    def ended(self, run_id: UUID, outcome: Any, error: BaseException | None) -> None:
        self.seen.append(("ended", error))

    def beside(self, run_id: UUID, handlers: Sequence[Any]) -> None:
        self.seen.append(("beside", [type(handler).__name__ for handler in handlers]))

    @contextmanager
    def within(self, kind: str, run_id: UUID | None, name: str) -> Iterator[None]:
        self.seen.append(("within", kind, name))
        yield
        self.seen.append("without")


@pytest.mark.parametrize("road", ["invoke", "ainvoke"])
def test_a_witness_is_around_the_call_and_knows_who_is_beside_it(road: str) -> None:
    seeing = Seeing()
    told = Told(listening=False)
    told.guard.add_sink(seeing)
    model = told.guard.wrap(Model(callbacks=[Seeing()], doing=lambda _: seeing.seen.append("asked")))
    ask(road, model)
    seen, seeing.seen = seeing.seen, []
    model._generate([HumanMessage("1501")])
    assert seeing.seen == ["CallStarted", ("within", "model", "mine"), "asked", "without", "CallSettled"]
    assert seen == [
        ("began", "model", "mine"), "whose", ("beside", ["CostGuard", "Seeing"]), "CallStarted",
        ("within", "model", "mine"), "asked", "without", "CallSettled", ("ended", None),
    ]  # fmt: skip
