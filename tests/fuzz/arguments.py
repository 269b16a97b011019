"""Every public constructor and verb with odd arguments: it works, or says in a `ValueError` which one is wrong."""

from __future__ import annotations

import inspect
import os
import random
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from langchain_core.embeddings import DeterministicFakeEmbedding
from langgraph.graph import MessagesState, StateGraph

from langchain_costguard import (
    Budget,
    CostGuard,
    KillSwitch,
    MemoryStore,
    Price,
    RedisStore,
    Spend,
    SQLiteStore,
    ToolFee,
    caching,
    context,
    routing,
    steering,
)
from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.stores.postgres import PostgresStore
from langchain_costguard.observe import attribution, notify, telemetry
from langchain_costguard.observe.exports.openmeter import OpenMeter
from langchain_costguard.observe.log import open_log
from langchain_costguard.pricing import Estimator, PriceBook
from langchain_costguard.routing.records import read
from langchain_costguard.stores import open_store
from langchain_costguard.testing import ManualClock, Reply, ScriptedChatModel
from tests.fuzz.oddities import SECRET, odd

URL = "redis://127.0.0.1:1/0"
MODEL = ScriptedChatModel()


@dataclass(frozen=True)
class Door:
    """A way in, with arguments that are right: ``extra`` names those that its signature hides."""

    call: Callable[..., Any]
    right: Mapping[str, Any] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    secret: bool = False
    """Whether its arguments are secrets, which an error does not repeat."""

    @property
    def fields(self) -> list[str]:
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        named = [name for name, each in inspect.signature(self.call).parameters.items() if each.kind in kinds]
        return [*named, *self.extra]


@cache
def guard() -> CostGuard:
    return CostGuard(budget())


def budget() -> Budget:
    most: Any = dict.fromkeys(MEASURES, 1_000)
    return Budget(name="one", **most)


def _spend(**arguments: Any) -> Spend:
    with closing(open_log("spend.db")):
        return Spend(**{"log": "spend.db", **arguments})


def _records(path: Any = "records.jsonl", **arguments: Any) -> Any:
    Path("records.jsonl").write_text('{"prompt": "x", "quality": {"a": 1, "b": 0}}\n', "utf-8")
    return read(path, **arguments)


def _installed(graph: Any = None, **arguments: Any) -> Any:
    made = StateGraph(MessagesState)
    made.add_node("agent", lambda state: {"messages": []})
    made.add_edge("__start__", "agent")
    return steering.install(
        made.compile() if graph is None else graph, **{"guard": guard(), "tools": None, **arguments}
    )


def _taking(call: Any, like: Any) -> Any:
    call.__signature__ = inspect.signature(like)
    return call


def _guard(budgets: Any = (), **arguments: Any) -> CostGuard:
    return CostGuard(*(budgets if isinstance(budgets, tuple) else (budgets,)), **arguments)


def _with(name: str) -> Callable[..., Any]:
    """A verb of a guard, which is made when it is asked for."""

    def call(**arguments: Any) -> Any:
        made = CostGuard(budget())
        MODEL.invoke("x", {"callbacks": [made]})  # its seconds run
        return getattr(made, name)(**arguments)

    signature = inspect.signature(getattr(CostGuard, name))
    own = [each for each in signature.parameters.values() if each.name != "self"]
    call.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return call


def _scoped(**tags: Any) -> None:
    with guard().scope(**tags):
        pass


OPTIONS = tuple(caching.Options.__annotations__)
GUARD = tuple(name for name in inspect.signature(CostGuard).parameters if name != "budgets")
EMBEDDINGS = DeterministicFakeEmbedding(size=8)
URLS = ("url", "url_or_client", "store", "switch", "source", "log", "otlp", "local", "trust_cost_from")
"""Arguments in which a URL is expected, and may be malformed: its password is never shown."""
DOORS: dict[str, Door] = {
    "Budget": Door(Budget, {"usd": "1"}),
    "CostGuard": Door(_guard, {"budgets": (Budget(usd="1"),)}, GUARD),
    "KillSwitch": Door(KillSwitch, {"source": "switch.txt"}),
    "Price": Door(Price, {"input": "1"}),
    "ToolFee": Door(ToolFee, {"call": "1"}),
    "RedisStore": Door(RedisStore, {"url_or_client": URL}),
    "SQLiteStore": Door(SQLiteStore, {"path": "b.db"}),
    "PostgresStore": Door(PostgresStore, {"url": "postgresql://127.0.0.1:1/x"}),
    "MemoryStore": Door(MemoryStore),
    "Spend": Door(_taking(_spend, Spend)),
    "open_store": Door(open_store, {"url": "memory:"}),
    "Estimator": Door(Estimator),
    "PriceBook": Door(PriceBook),
    "grant": Door(_with("grant"), {"what": "one", "usd": "1"}),
    "kill": Door(_with("kill"), {"agent": "a"}),
    "revive": Door(_with("revive"), {"agent": "a"}),
    "would_refuse": Door(_with("would_refuse"), {"usd": "1"}),
    "headroom": Door(_with("headroom")),
    "change": Door(_with("change"), {"budgets": (budget(),)}),
    "add_sink": Door(_with("add_sink"), {"sink": len}),
    "close": Door(_with("close"), {"timeout": 0.1}),
    "scope": Door(_scoped, {"user": "u"}, ("user", "session", "agent", "feature", "task")),
    "by": Door(lambda dimension: guard().report().by(dimension), {"dimension": "user"}),
    "MemoryCache": Door(caching.MemoryCache, extra=OPTIONS),
    "SQLiteCache": Door(caching.SQLiteCache, {"path": "c.db"}, OPTIONS),
    "RedisCache": Door(caching.RedisCache, {"url_or_client": URL}, OPTIONS),
    "PostgresCache": Door(caching.PostgresCache, {"url": "postgresql://127.0.0.1:1/x"}, OPTIONS),
    "open_cache": Door(caching.open_cache, {"url": "memory:"}, OPTIONS),
    "Rules": Door(caching.Rules),
    "SemanticCache": Door(caching.SemanticCache, {"embeddings": EMBEDDINGS}, OPTIONS),
    "MemoryIndex": Door(caching.MemoryIndex),
    "SQLiteIndex": Door(caching.SQLiteIndex, {"path": "i.db"}),
    "RedisIndex": Door(caching.RedisIndex, {"url_or_client": URL}),
    "RedisSearchIndex": Door(caching.RedisSearchIndex, {"url_or_client": URL}),
    "RedisVectorSetIndex": Door(caching.RedisVectorSetIndex, {"url_or_client": URL}),
    "ShadowLog": Door(caching.ShadowLog),
    "PromptCache": Door(caching.PromptCache),
    "lint_prompts": Door(caching.lint_prompts, {"records": []}),
    "Agreement": Door(routing.Agreement),
    "BudgetRouter": Door(routing.BudgetRouter, {"levels": {0.9: "openai:gpt-4o"}, "default": "openai:gpt-4o"}),
    "Cascade": Door(routing.Cascade, {"tiers": ("openai:gpt-4o-mini", "openai:gpt-4o")}),
    "Examples": Door(routing.Examples, {"model": "openai:gpt-4o", "utterances": ["x", "y"]}),
    "Judge": Door(routing.Judge, {"model": MODEL}),
    "PrefixRouter": Door(routing.PrefixRouter, {"workers": {"a": MODEL}}),
    "Record": Door(routing.Record, {"prompt": "x", "quality": {"a": 1.0, "b": 0.5}}),
    "RunLog": Door(routing.RunLog, {"path": "runs.jsonl"}),
    "SemanticRouter": Door(
        routing.SemanticRouter,
        {
            "routes": {
                name: routing.Examples(model=MODEL, utterances=[name, f"{name} again"]) for name in ("cats", "taxes")
            },
            "embeddings": EMBEDDINGS,
            "default": MODEL,
        },
    ),
    "StaticRouter": Door(routing.StaticRouter, {"table": {"a": MODEL}, "default": MODEL}),
    "Verifier": Door(routing.Verifier, {"check": len}),
    "Parses": Door(routing.Parses, {"check": {"type": "object"}}),
    "tiers": Door(routing.tiers),
    "records": Door(_taking(_records, read)),
    "Breaker": Door(steering.Breaker),
    "Retry": Door(steering.Retry),
    "LoopDetector": Door(steering.LoopDetector),
    "Stop": Door(steering.Stop, {"why": "x"}),
    "BudgetGate": Door(steering.BudgetGate, {"guard": guard()}),
    "CacheNode": Door(
        steering.CacheNode, {"guard": guard(), "cache": caching.MemoryCache(), "node": len, "model": MODEL}
    ),
    "ContextNode": Door(steering.ContextNode, {"guard": guard(), "model": MODEL}),
    "RouterNode": Door(steering.RouterNode, {"guard": guard(), "router": len, "default": MODEL}),
    "RoutedModel": Door(steering.RoutedModel, {"guard": guard(), "router": len, "default": MODEL}),
    "StuckLoopNode": Door(steering.StuckLoopNode, {"guard": guard()}),
    "SteeredModel": Door(steering.SteeredModel, {"model": MODEL, "steering": steering.steer(guard())}),
    "guarded_tools": Door(steering.guarded_tools, {"tools": [], "guard": guard()}),
    "install": Door(_taking(_installed, steering.install)),
    "max_tool_calls": Door(steering.max_tool_calls, {"most": 3}),
    "valid_json": Door(steering.valid_json),
    "parses": Door(steering.parses, {"parser": {"type": "object"}}),
    "steer": Door(steering.steer, {"guard": guard()}),
    "Context": Door(context.Context),
    "MemoryStash": Door(context.MemoryStash),
    "Stash": Door(context.Stash, {"shelf": caching.MemoryCache()}),
    "Alertmanager": Door(notify.Alertmanager, {"url": "http://h/"}, secret=True),
    "Email": Door(notify.Email, {"to": "a@b.c", "server": "smtp://h:25"}, secret=True),
    "Notify": Door(notify.Notify, {"ladder": {0.7: notify.Slack("http://h/")}}),
    "PagerDuty": Door(notify.PagerDuty, {"routing_key": "k" * 32}, secret=True),
    "Slack": Door(notify.Slack, {"url": "http://h/"}, secret=True),
    "Webhook": Door(notify.Webhook, {"url": "http://h/", "secret": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"}, secret=True),
    "Telemetry": Door(telemetry.Telemetry),
    "Attribution": Door(attribution.Attribution),
    "OpenMeter": Door(OpenMeter, {"url": "http://h/"}),
    "ManualClock": Door(ManualClock),
    "Reply": Door(Reply),
}
"""Each public way in. What it is asked for comes from its signature: a new argument is tried from the first day on."""


def tried(name: str, field: str, value: Any) -> str | None:
    """What is wrong with how a door takes an odd value; None where it works or says which one it was."""
    door = DOORS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = door.call(**{**door.right, field: value})
        except ValueError as error:
            return _fault(str(error), name, field, value)
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:160]}"
    shown = repr(made) if field in URLS else ""
    return f"its repr shows a password: {shown[:200]}" if SECRET in shown else None


def _fault(said: str, name: str, field: str, value: Any) -> str | None:
    if ((field in URLS and name not in ("Context", "Stash")) or DOORS[name].secret) and SECRET in said:
        return f"the error shows a password: {said[:200]}"
    if field.partition("_or_")[0] not in said.lower() and not any(part in said for part in (name, *name.split("_"))):
        return f"the error does not name the field: {said[:200]}"
    if DOORS[name].secret or value is None:
        return None
    parts = [value, *value] if isinstance(value, Collection) else [value]
    texts = [text for part in parts for text in (repr(part)[:12], str(part)[:12])] + [f"a {type(value).__name__} "]
    texts += [os.path.abspath(value)] if isinstance(value, os.PathLike) else []
    if SECRET not in str(value) and not any(text in said for text in texts):
        return f"the error does not name the value: {said[:200]}"
    return None


def faults(number: int, chance: random.Random) -> Iterator[tuple[str, str, str, str]]:
    """So many odd arguments; yields door, field, value and fault of those that end badly."""
    pairs = [(name, field) for name, door in DOORS.items() for field in door.fields]
    chance.shuffle(pairs)
    for i in range(number):
        name, field = pairs[i % len(pairs)]
        value = odd(chance)
        fault = tried(name, field, value)
        if fault is not None:
            yield name, field, repr(value)[:80], fault
