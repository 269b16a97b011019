"""Calls as LangChain tells of them, and all that a guard makes of them, in words: for tests that look at all of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from langchain_costguard import Budget, CostGuard, Price, ToolFee
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.testing import ManualClock
from langchain_costguard.vocabulary.scope import Scope
from langchain_costguard.vocabulary.usage import ModelRef, Usage

START = 1_000_000.0
_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CLIENT: dict[str, Any] = {}
"""The one that asks, in LangChain's serialized form."""
PRICES = {
    "mine": Price(input="2.5031", output="10.0017", cache_read="1.2507", cache_write="3.0011", cache_write_1h="5.0023"),
    "other": Price(input="0.3003", output="1.2001"),
    "free": Price(input="0"),
    "a nano-dollar": Price(input="0.001"),
}
"""So many nano-USD a token: 2503.1 in, 10001.7 out; of ``other`` 300.3 and 1200.1."""
TOOLS: dict[str, Any] = {
    "search": "0.0203",
    "slow": ToolFee(call="0.01", second="0.001"),
    "by length": ToolFee(unit="0.001"),
    "dear": 101,
    "a quarter": 26,
    "cheap": "0.0002",
}


class Answered(Exception):
    """An error status of a provider."""

    status_code = 429


def counted(messages: Any) -> int:
    """The tokens of a prompt: it says them itself."""
    return int(messages[0].content.split()[0])


class Told:
    """A guard, a clock, and what was told: runs are called A, B and so on, in the order they start."""

    def __init__(self, *budgets: Budget, listening: bool = True, **arguments: Any) -> None:
        self.clock = ManualClock(START)
        self.lines: list[str] = []
        self._runs: dict[str, str] = {}
        limits: dict[str, Any] = dict.fromkeys(MEASURES, 10**7) | {"usd": "100"}
        given = {"prices": PRICES, "tool_prices": TOOLS, "token_counter": counted, "session": "s", **arguments}
        sinks = [self._hear] if listening else []
        self.guard = CostGuard(*(budgets or [Budget(per="all", **limits)]), clock=self.clock, sinks=sinks, **given)

    # What happens

    def model(
        self,
        prompt: int = 1501,
        most: int | None = 53,
        name: str = "mine",
        parent: UUID | None = None,
        params: Mapping[str, Any] | None = None,
        tags: list[str] | None = None,
        **said: Any,
    ) -> UUID:
        """A call of a model starts."""
        run_id = self._run()
        facts = {"ls_provider": "openai", "ls_model_name": name, "ls_max_tokens": most, **said}
        self.guard.on_chat_model_start(
            CLIENT,
            [[HumanMessage(f"{prompt} {'word ' * prompt}")]],
            run_id=run_id,
            parent_run_id=parent,
            tags=tags,
            metadata=facts,
            invocation_params=params,
        )
        return run_id

    def piece(self, run_id: UUID, *texts: str) -> None:
        """Pieces of its reply come."""
        for text in texts:
            self.guard.on_llm_new_token(text, run_id=run_id)

    def end(self, run_id: UUID, given: int | None = None, made: int = 0, *, text: str = "", **facts: Any) -> None:
        """It ends, with so many tokens."""
        self.guard.on_llm_end(reply(given, made, text=text, **facts), run_id=run_id)

    def tool(self, name: str, parent: UUID | None = None, **said: Any) -> UUID:
        """A tool starts."""
        run_id = self._run()
        self.guard.on_tool_start({}, "x", run_id=run_id, parent_run_id=parent, name=name, metadata=said)
        return run_id

    def batch(self, size: int, used: tuple[int, int] | None) -> None:
        """A text model is sent some prompts in one request, and says with the first reply what all of them took."""
        runs, params = [self._run() for _ in range(size)], {"model": "mine"}
        facts = {"ls_provider": "openai", "ls_model_name": "mine", "ls_max_tokens": 53}
        for run_id in runs:
            self.guard.on_llm_start(
                {}, ["hello"], run_id=run_id, metadata=facts, invocation_params=params, batch_size=size
            )
        for run_id in runs:
            said = used and {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
            self.guard.on_llm_end(
                LLMResult(generations=[[Generation(text="")]], llm_output={"token_usage": said or {}}), run_id=run_id
            )
            used = None

    def chain(self, parent: UUID | None = None, **facts: Any) -> UUID:
        """A chain starts."""
        run_id = self._run()
        self.guard.on_chain_start({}, {}, run_id=run_id, parent_run_id=parent, **facts)
        return run_id

    def _run(self) -> UUID:
        run_id = uuid4()
        self._runs[str(run_id)] = chr(ord("A") + len(self._runs))
        return run_id

    # What is said of it

    def _hear(self, event: Any) -> None:
        facts = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
        facts["at"] -= START
        balances = {name.partition("|")[2]: rest for name, *rest in facts.pop("balances", ())}
        facts["accounts"] = len(balances)
        stand = self.guard.store.read([f"all|{name}" for name in balances], now=self.clock())
        if [*balances.values()] != [[each.spent, each.cap] for each in stand]:
            facts["but"] = balances
        usual = {"kind": "model", "status": "ok", "source": "priced", "priced": facts.get("charge")}
        if "requested" in facts:
            usual["requested"] = facts["model"].name
            usual["rated"] = f"set by the user: prices[{facts['model'].name!r}]"
        facts["scope"] = facts["scope"]._replace(session="", model="")
        usual["scope"] = Scope(trace=str(facts.get("run_id")))
        said = [
            f"{name}={self._word(value)}"
            for name, value in facts.items()
            if value not in (None, "", 0, False, ()) and value != usual.get(name)
        ]
        self.lines.append(f"{type(event).__name__} {', '.join(said)}")

    def _word(self, value: Any) -> str:
        if isinstance(value, Scope):
            return "/".join(self._word(each) for each in value if each) or "nobody"
        if isinstance(value, Usage):
            given, made, *parts = value
            named = [f"{name}:{n}" for name, n in zip(Usage._fields[2:], parts, strict=True) if n]
            return " ".join([f"{given}+{made}", *named])
        if isinstance(value, float):
            return f"{value:g}"
        if isinstance(value, ModelRef):
            return f"{value.provider}:{value.name}{value.seller and f' at {value.seller}'}"
        text = str(value)
        if _RUN.fullmatch(text):
            return self._runs.setdefault(text, chr(ord("A") + len(self._runs)))
        return text

    def sums(self) -> list[str]:
        """How the accounts and the report stand."""
        guard, now = self.guard, self.clock()
        guard.meter.refine()
        stand = dict(zip(MEASURES, guard.store.read([f"all|{name}" for name in MEASURES], now=now), strict=True))
        report = guard.report().by("model")
        took = {scope[0]: report.latency(scope) for scope, _ in report.rows}
        rows = {
            "spent": {name: each.spent for name, each in stand.items()},
            "held": {name: each.held for name, each in stand.items()},
            "report": dataclasses.asdict(report.total),
            "dearest": guard.meter.dearest,
            "took": {model: "/".join(f"{n:g}" for n in each if n is not None) for model, each in took.items()},
            "open": {self._runs[str(call.run_id)]: call.state for call in guard.meter.open_calls.values()},
        }
        said = {
            name: ", ".join(f"{k}={v}" for k, v in row.items() if v or name == "dearest") for name, row in rows.items()
        }
        return [f"{name}: {row}" for name, row in said.items() if row]


def reply(given: int | None = None, made: int = 0, *, text: str = "", details: Any = None, **facts: Any) -> LLMResult:
    """A reply with so many tokens in and out, which says ``facts`` besides."""
    said: Any = None
    if given is not None:
        said = {"input_tokens": given, "output_tokens": made, "total_tokens": given + made, **(details or {})}
    message = AIMessage(text, usage_metadata=said, response_metadata=facts)
    return LLMResult(generations=[[ChatGeneration(message=message)]])
