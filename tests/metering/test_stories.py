"""The whole of what is told and kept of a call, whichever way it goes: each event, each account, each column."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_costguard import AgentHaltedError, Budget, BudgetExceededError, Price, UnpricedModelError
from langchain_costguard.metering.pricing import catalog
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.testing import ScriptedChatModel
from tests.metering.stories import START, Answered, Told

STORIES: dict[Callable[[Told], None], str] = {}


def story(text: str) -> Callable[[Callable[[Told], None]], Callable[[Told], None]]:
    """What is said of an act, in full."""

    def keep(act: Callable[[Told], None]) -> Callable[[Told], None]:
        STORIES[act] = text
        return act

    return keep


class Unsent(RuntimeError):
    """As an error of ours inside of a model: nothing was sent."""

    def __init__(self) -> None:
        super().__init__("a tool of ours")
        self.__cause__ = UnpricedModelError("no price", model="m")


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    CallSettled at=3, run_id=A, model=openai:mine, usage=1487+41, charge=4132179, held=5034742, seconds=3,
        answered=mine, cacheable=1487, accounts=6
    CallStarted at=3, run_id=B, name=mine, held=2750999
    CallSettled at=3, run_id=B, model=openai:mine, usage=903+7, charge=2330311, held=2750999, accounts=6
    CallStarted at=3, run_id=C, name=mine, held=2750999
    CallSettled at=3, run_id=C, model=openai:mine, usage=909+11, charge=2385337, held=2750999, accounts=6
    CallStarted at=3, run_id=D, name=mine, held=5034742
    CallSettled at=3, run_id=D, model=openai:mine, usage=1487+41, charge=4132179, held=5034742, answered=other,
        cacheable=1487, accounts=6
    CallStarted at=3, run_id=E, name=mine, held=5034742
    CallSettled at=3, run_id=E, model=openai:mine, usage=1487+41, charge=4132179, held=5034742, answered=heard of
        nowhere, cacheable=1487, accounts=6
    CallStarted at=3, run_id=F, name=mine, held=5034742
    CallSettled at=3, run_id=F, model=openrouter:mine, usage=1487+41, charge=5120000, held=5034742, source=provider,
        priced=4132179, answered=other, rated=the provider's bill, cacheable=1487, accounts=6
    Overrun at=3, run_id=F, model=openrouter:mine, held=5034742, charge=5120000
    spent: usd=22232185, tokens=7942, input_tokens=7760, output_tokens=182, model_calls=6, steps=6, seconds=1000000000
    report: calls=6, input_tokens=7760, output_tokens=182, spent=22232185, overrun=85258, cacheable=5948, billed=1,
        priced=-987821
    dearest: s=5120000
    took: mine=0/3
    """)
def replies(told: Told) -> None:
    run_id = told.model()
    told.clock.advance(3)
    told.end(run_id, 1487, 41, model_name="mine")
    told.end(told.model(900, 5), 903, 7)
    told.end(told.model(900, 5), 909, 11)
    told.end(told.model(), 1487, 41, model_name="other")
    told.end(told.model(), 1487, 41, model_name="heard of nowhere")
    run_id = told.model(ls_provider="openrouter")
    said = {"cost": 0.00512, "prompt_tokens": 1487, "completion_tokens": 41}
    told.end(run_id, 1487, 41, model_name="other", token_usage=said)


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    CallSettled run_id=A, model=openai:mine, usage=1487+41 cache_read:1025 cache_write:267 cache_write_1h:67
        reasoning:13, charge=3115516, held=5034742, saved=1283710, cacheable=1487, accounts=6
    CallStarted run_id=B, name=mine, held=3600216
    CallSettled run_id=B, model=openai:mine, usage=1023+9 cache_read:7, charge=2641920, held=3600216, saved=8766,
        cacheable=1023, accounts=6
    CallStarted run_id=C, name=mine, held=3600216
    CallSettled run_id=C, model=openai:mine, usage=1023+9, charge=2650687, held=3600216, accounts=6
    CallStarted run_id=D, name=mine, held=3603217
    CallSettled run_id=D, model=openai:mine, usage=1024+9, charge=2653190, held=3603217, cacheable=1024, accounts=6
    spent: usd=11061313, tokens=4625, input_tokens=4557, output_tokens=68, model_calls=4, steps=4, seconds=1000000000
    report: calls=4, input_tokens=4557, cache_read=1032, cache_write=267, output_tokens=68, reasoning=13,
        spent=11061313, saved=1292476, cacheable=3534
    dearest: s=5034742
    took: mine=0/0
    """)
def replies_from_the_providers_cache(told: Told) -> None:
    details = {
        "input_token_details": {"cache_read": 1025, "cache_creation": 200, "ephemeral_1h_input_tokens": 67},
        "output_token_details": {"reasoning": 13},
    }
    told.end(told.model(), 1487, 41, details=details)
    told.end(told.model(1023), 1023, 9, details={"input_token_details": {"cache_read": 7}})
    told.end(told.model(1023), 1023, 9)
    told.end(told.model(1024), 1024, 9)


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    CallSettled at=5, run_id=A, model=openai:mine, usage=1501+53, charge=5034742, held=5034742, estimated=True,
        seconds=5, source=estimated, cacheable=1501, accounts=6
    UsageMissing at=5, run_id=A, model=openai:mine, charge=5034742
    CallStarted at=5, run_id=B, name=mine, held=5034742
    CallSettled at=10, run_id=B, model=openai:mine, usage=1501+53, charge=5034742, held=5034742, estimated=True,
        seconds=5, first_token_seconds=2, source=estimated, cacheable=1501, accounts=6
    UsageMissing at=10, run_id=B, model=openai:mine, charge=5034742
    CallStarted at=10, run_id=C, name=mine, held=332250188
    CallSettled at=15, run_id=C, model=openai:mine, usage=1501+7, charge=3827165, held=332250188, estimated=True,
        seconds=5, first_token_seconds=2, source=estimated, cacheable=1501, accounts=6
    UsageMissing at=15, run_id=C, model=openai:mine, charge=3827165
    spent: usd=13896649, tokens=4616, input_tokens=4503, output_tokens=113, model_calls=3, steps=3, seconds=1000000000
    report: calls=3, input_tokens=4503, output_tokens=113, spent=13896649, estimated=3, cacheable=4503
    dearest: s=5034742
    took: mine=5/5/2
    """)
def replies_that_say_nothing(told: Told) -> None:
    for most, pieces in ((53, ""), (53, "abcdefg"), (None, "abcdefg")):
        run_id = told.model(1501, most)
        told.clock.advance(2)
        told.piece(run_id, *pieces)
        told.clock.advance(3)
        told.end(run_id)


@story("""
    CallStarted run_id=A, name=heard of nowhere, held=309020
    CallSettled run_id=A, model=openai:heard of nowhere, usage=12+2, charge=248018, held=309020, rated=a stand-in,
        accounts=6
    Unpriced scope=A, model=openai:heard of nowhere, source=a stand-in
    CallStarted run_id=B, name=heard of nowhere, held=309020
    CallSettled run_id=B, model=openai:heard of nowhere, usage=11+3, charge=309020, held=309020, estimated=True,
        source=estimated, rated=a stand-in, accounts=6
    Unpriced scope=B, model=openai:heard of nowhere, source=a stand-in
    UsageMissing run_id=B, model=openai:heard of nowhere, charge=309020
    CallStarted run_id=C, name=mine, held=63018
    CallSettled run_id=C, model=openai:mine, usage=12+2, charge=50041, held=63018, answered=heard of nowhere,
        accounts=6
    CallStarted run_id=D, name=heard of nowhere, held=309020
    CallSettled run_id=D, model=openai:heard of nowhere, usage=12+2, charge=6004, held=309020, answered=other,
        rated=set by the user: prices['other'], accounts=6
    spent: usd=613083, tokens=56, input_tokens=47, output_tokens=9, model_calls=4, steps=4, seconds=1000000000
    report: calls=4, input_tokens=47, output_tokens=9, spent=613083, estimated=1, unpriced=2
    dearest: s=309020
    took: heard of nowhere=0/0, mine=0/0
    """)
def replies_of_a_model_without_a_price(told: Told) -> None:
    told.end(told.model(11, 3, "heard of nowhere"), 12, 2)
    told.end(told.model(11, 3, "heard of nowhere"))
    told.end(told.model(11, 3), 12, 2, model_name="heard of nowhere")
    told.end(told.model(11, 3, "heard of nowhere"), 12, 2, model_name="other")


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    CallStarted run_id=B, name=other, held=514356
    CallSettled run_id=A, model=openai:mine, usage=1487+41, charge=4132179, held=5034742, cacheable=1487, accounts=6
    CallSettled run_id=B, model=openai:other, usage=1487+41, charge=495750, held=514356, accounts=6
    CallStarted run_id=C, name=mine, held=10985099
    CallSettled run_id=C, model=openai:mine, usage=1487+41, charge=10779078, held=10985099, accounts=6
    spent: usd=15407007, tokens=4584, input_tokens=4461, output_tokens=123, model_calls=3, steps=3, seconds=1000000000
    report: calls=3, input_tokens=4461, output_tokens=123, spent=15407007, cacheable=1487
    dearest: s=10985099
    took: mine=0/0, other=0/0
    """)
def a_price_that_changes_under_way(told: Told) -> None:
    runs = [told.model(), told.model(name="other")]
    told.guard.change(told.guard.budgets, prices={"mine": Price(input="7.0007", output="9.0009")})
    for run_id in runs:
        told.end(run_id, 1487, 41)
    told.end(told.model(), 1487, 41)


@story("""
    CallStarted scope=A, run_id=B, name=mine, held=5034742, parent=A
    CallSettled at=5, scope=A, run_id=B, model=openai:mine, usage=1501+11, charge=3867172, held=5034742,
        estimated=True, seconds=5, first_token_seconds=2, source=estimated, parent=A, status=cancelled,
        cacheable=1501, accounts=6
    spent: usd=3867172, tokens=1512, input_tokens=1501, output_tokens=11, model_calls=1, steps=1, seconds=1000000000
    report: calls=1, input_tokens=1501, output_tokens=11, spent=3867172, estimated=1, cacheable=1501
    dearest: s=5034742
    took: mine=5/5/2
    open: B=provisional
    CallSettled at=10, scope=A, run_id=B, model=openai:mine, usage=1487+41, charge=4132179, held=5034742, seconds=10,
        first_token_seconds=2, parent=A, cacheable=-14, charged_before=3867172, usage_before=1501+11, accounts=6
    spent: usd=4132179, tokens=1528, input_tokens=1487, output_tokens=41, model_calls=1, steps=1, seconds=1000000000
    report: calls=1, input_tokens=1487, output_tokens=41, spent=4132179, cacheable=1487
    dearest: s=5034742
    took: mine=5/5/2
    """)
def a_reply_that_is_heard_of_after_its_parent_ended(told: Told) -> None:
    parent = told.chain()
    run_id = told.model(1501, 53, parent=parent)
    told.clock.advance(2)
    told.piece(run_id, *"abcdefghijk")
    told.clock.advance(3)
    told.guard.on_chain_end({}, run_id=parent)
    told.lines += told.sums()
    told.clock.advance(5)
    told.end(run_id, 1487, 41)


@story("""
    CallStarted scope=A, run_id=B, name=mine, held=5034742, parent=A
    CallSettled at=2, scope=A, run_id=B, model=openai:mine, usage=1501+53, charge=5034742, held=5034742,
        estimated=True, seconds=2, source=estimated, parent=A, status=cancelled, cacheable=1501, accounts=6
    spent: usd=5034742, tokens=1554, input_tokens=1501, output_tokens=53, model_calls=1, steps=1, seconds=1000000000
    report: calls=1, input_tokens=1501, output_tokens=53, spent=5034742, estimated=1, cacheable=1501
    dearest: s=5034742
    took: mine=2/2
    open: B=provisional
    CallSettled at=7, scope=A, run_id=B, model=openai:mine, usage=1501+53, charge=5034742, held=5034742,
        estimated=True, seconds=7, source=estimated, parent=A, charged_before=5034742, usage_before=1501+53,
        accounts=6
    UsageMissing at=7, scope=A, run_id=B, model=openai:mine, charge=5034742
    spent: usd=5034742, tokens=1554, input_tokens=1501, output_tokens=53, model_calls=1, steps=1, seconds=1000000000
    report: calls=1, input_tokens=1501, output_tokens=53, spent=5034742, estimated=1, cacheable=1501
    dearest: s=5034742
    took: mine=2/2
    """)
def a_silent_reply_that_is_heard_of_after_its_parent_ended(told: Told) -> None:
    parent = told.chain()
    run_id = told.model(1501, 53, parent=parent)
    told.clock.advance(2)
    told.guard.on_chain_end({}, run_id=parent)
    told.lines += told.sums()
    told.clock.advance(5)
    told.end(run_id)


@story("""
    CallStarted scope=A, run_id=B, name=search, kind=tool, held=20300000, parent=A
    ToolSettled at=2, scope=A, run_id=B, tool=search, charge=20300000, seconds=2, failed=True, parent=A, accounts=2
    spent: usd=20300000, tool_calls=1, seconds=1000000000
    report: tool_calls=1, spent=20300000
    open: B=provisional
    ToolSettled at=7, scope=A, run_id=B, tool=search, charge=20300000, seconds=7, parent=A, charged_before=20300000,
        accounts=2
    CallStarted at=7, scope=C, run_id=D, name=slow, kind=tool, held=10000000, parent=C
    ToolSettled at=9, scope=C, run_id=D, tool=slow, charge=10000000, seconds=2, failed=True, parent=C, accounts=2
    spent: usd=30300000, tool_calls=2, seconds=1000000000
    report: tool_calls=2, spent=30300000
    open: D=provisional
    ToolSettled at=14, scope=C, run_id=D, tool=slow, charge=17000000, seconds=7, parent=C, charged_before=10000000,
        accounts=2
    CallStarted at=14, scope=E, run_id=F, name=by length, kind=tool, held=1, parent=E
    ToolSettled at=16, scope=E, run_id=F, tool=by length, charge=1, seconds=2, failed=True, parent=E, accounts=2
    spent: usd=37300001, tool_calls=3, seconds=1000000000
    report: tool_calls=3, spent=37300001
    open: F=provisional
    ToolSettled at=21, scope=E, run_id=F, tool=by length, charge=5000000, seconds=7, parent=E, charged_before=1,
        accounts=2
    spent: usd=42300000, tool_calls=3, seconds=1000000000
    report: tool_calls=3, spent=42300000
    """)
def tools_that_end_after_what_called_them(told: Told) -> None:
    for name in ("search", "slow", "by length"):
        parent = told.chain()
        run_id = told.tool(name, parent)
        told.clock.advance(2)
        told.guard.on_chain_end({}, run_id=parent)
        told.lines += told.sums()
        told.clock.advance(5)
        told.guard.on_tool_end("found", run_id=run_id)


@story("""
    CallStarted scope=tools/A, run_id=A, name=search, kind=tool, held=20300000
    ToolSettled at=2, scope=tools/A, run_id=A, tool=search, charge=20300000, seconds=2, accounts=2
    CallStarted at=2, scope=tools/B, run_id=B, name=slow, kind=tool, held=10000000
    ToolSettled at=4, scope=tools/B, run_id=B, tool=slow, charge=12000000, seconds=2, accounts=2
    CallStarted at=4, scope=tools/C, run_id=C, name=by length, kind=tool, held=1
    ToolSettled at=6, scope=tools/C, run_id=C, tool=by length, charge=5000000, seconds=2, accounts=2
    CallStarted at=6, scope=tools/D, run_id=D, name=free, kind=tool
    ToolSettled at=8, scope=tools/D, run_id=D, tool=free, seconds=2, accounts=2
    CallStarted at=8, run_id=E, name=slow, kind=tool, held=10000000
    ToolSettled at=10, run_id=E, tool=slow, charge=12000000, seconds=2, failed=True, accounts=2
    CallStarted at=10, run_id=F, name=slow, kind=tool, held=10000000
    spent: usd=49300000, tool_calls=5, seconds=1000000000
    report: tool_calls=5, spent=49300000
    """)
def tools(told: Told) -> None:
    for name in ("search", "slow", "by length", "free"):
        run_id = told.tool(name, langgraph_node="tools")
        told.clock.advance(2)
        told.guard.on_tool_end("found", run_id=run_id)
    run_id = told.tool("slow")
    told.clock.advance(2)
    told.guard.on_tool_error(LookupError("x"), run_id=run_id)
    pausing = type("GraphInterrupt", (Exception,), {})
    told.guard.on_tool_error(pausing(), run_id=told.tool("slow"))


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    CacheHit at=3, run_id=A, model=openai:mine, usage=1487+41, saved=4132179, seconds=3
    CallStarted at=3, run_id=B, name=mine, held=332250188
    CacheHit at=3, run_id=B, model=openai:mine, usage=0+0
    spent: seconds=1000000000
    report: saved=4132179
    """)
def replies_of_a_cache(told: Told) -> None:
    run_id = told.model()
    told.clock.advance(3)
    told.end(run_id, 1487, 41, details={"total_cost": 0})
    told.end(told.model(1501, None), headers={"helicone-cache": "HIT"})


@story("""
    CallStarted run_id=A, name=search, kind=tool, held=20300000
    ToolSettled run_id=A, tool=search, charge=20300000, accounts=2
    CallStarted run_id=B, name=mine, held=5034742
    CallVoided at=3, run_id=B, name=mine, held=5034742, seconds=3
    CallFailed at=3, run_id=B, model=openai:mine, kind=unbilled, error=Answered, status=429, seconds=3
    CallStarted at=3, run_id=C, name=mine, held=5034742
    CallVoided at=6, run_id=C, name=mine, held=5034742, seconds=3
    CallFailed at=6, run_id=C, model=openai:mine, kind=unsent, error=Unsent, seconds=3
    CallStarted at=6, run_id=D, name=mine, held=5034742
    CallSettled at=9, run_id=D, model=openai:mine, usage=1501+53, charge=5034742, held=5034742, estimated=True,
        seconds=3, source=estimated, status=failed, cacheable=1501, accounts=6
    UsageMissing at=9, run_id=D, model=openai:mine, charge=5034742
    CallFailed at=9, run_id=D, model=openai:mine, kind=unknown, error=TimeoutError, seconds=3
    CallStarted at=9, run_id=E, name=mine, held=5034742
    CallSettled at=12, run_id=E, model=openai:mine, usage=1501+0, charge=3757153, held=5034742, estimated=True,
        seconds=3, source=estimated, status=failed, cacheable=1501, accounts=6
    UsageMissing at=12, run_id=E, model=openai:mine, charge=3757153
    CallFailed at=12, run_id=E, model=openai:mine, kind=partly, error=ConnectionResetError, seconds=3
    CallStarted at=12, run_id=F, name=mine, held=5034742
    CallSettled at=12, run_id=F, model=openai:mine, usage=1501+5, charge=3807162, held=5034742, estimated=True,
        source=estimated, status=failed, cacheable=1501, accounts=6
    UsageMissing at=12, run_id=F, model=openai:mine, charge=3807162
    CallFailed at=12, run_id=F, model=openai:mine, kind=partly, error=ConnectionResetError
    spent: usd=32899057, tokens=4561, input_tokens=4503, output_tokens=58, model_calls=4, tool_calls=1, steps=3,
        seconds=1000000000
    report: calls=3, tool_calls=1, input_tokens=4503, output_tokens=58, spent=32899057, estimated=3, cacheable=4503,
        failed=5
    dearest: s=5034742
    took: mine=3/3/0
    """)
def calls_that_fail(told: Told) -> None:
    told.guard.on_tool_end("found", run_id=told.tool("search"))
    for error in (Answered("no"), Unsent(), TimeoutError("slow"), ConnectionResetError("gone")):
        run_id = told.model()
        told.clock.advance(3)
        told.guard.on_llm_error(error, run_id=run_id)
    run_id = told.model()
    told.piece(run_id, *"abcde")
    told.guard.on_llm_error(ConnectionResetError("gone"), run_id=run_id)


@story("""
    CallStarted run_id=B, name=mine, held=5034742
    CallStarted scope=A, run_id=C, name=free, kind=tool, parent=A
    ToolSettled scope=A, run_id=C, tool=free, failed=True, parent=A, accounts=2
    spent: tool_calls=1, seconds=1000000000
    held: usd=5034742, tokens=1554, input_tokens=1501, output_tokens=53, model_calls=1, steps=1
    report: tool_calls=1
    open: B=open, C=provisional
    HoldExpired at=601, run_id=B, name=mine, held=5034742
    spent: tool_calls=63, seconds=1000000000
    held: usd=5034742, tokens=1554, input_tokens=1501, output_tokens=53, model_calls=1, steps=1
    report: tool_calls=63
    """)
def a_call_that_is_never_heard_of_again(told: Told) -> None:
    parent = told.chain()
    for run in (told.model(), told.tool("free", parent)):
        assert run.int in told.guard.meter.open_calls
    told.guard.on_chain_end({}, run_id=parent)
    told.lines += told.sums()
    told.clock.advance(601)
    for _ in range(62):
        told.guard.on_tool_end("x", run_id=told.tool("free"))
    told.lines = [line for line in told.lines if "at=601, run_id=" not in line or "HoldExpired" in line]


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    CallStarted run_id=B, name=mine, held=1270452
    CallStarted run_id=C, name=search, kind=tool, held=20300000
    spent: seconds=1000000000
    held: usd=26605194, tokens=1961, input_tokens=1901, output_tokens=60, model_calls=2, tool_calls=1, steps=2
    open: A=open, B=open, C=open
    CallSettled run_id=A, model=openai:mine, usage=411+5, charge=1078783, held=5034742, accounts=6
    CallSettled run_id=B, model=openai:mine, usage=411+5, charge=1078783, held=1270452, accounts=6
    ToolSettled run_id=C, tool=search, charge=20300000, accounts=2
    spent: usd=22457566, tokens=832, input_tokens=822, output_tokens=10, model_calls=2, tool_calls=1, steps=2,
        seconds=1000000000
    report: calls=2, tool_calls=1, input_tokens=822, output_tokens=10, spent=22457566
    dearest: s=5034742
    took: mine=0/0
    """)
def calls_under_way_at_once(told: Told) -> None:
    runs = [told.model(), told.model(400, 7)]
    searching = told.tool("search")
    told.lines += told.sums()
    for run_id in runs:
        told.end(run_id, 411, 5)
    told.guard.on_tool_end("found", run_id=searching)


@story("""
    CallStarted run_id=A, name=free
    CallSettled run_id=A, model=openai:free, usage=1+1, accounts=6
    spent: tokens=2, input_tokens=1, output_tokens=1, model_calls=1, steps=1, seconds=1000000000
    report: calls=1, input_tokens=1, output_tokens=1
    took: free=0/0
    CallStarted run_id=B, name=a nano-dollar, held=1
    CallSettled run_id=B, model=openai:a nano-dollar, usage=1+1, charge=1, held=1, accounts=6
    spent: usd=1, tokens=4, input_tokens=2, output_tokens=2, model_calls=2, steps=2, seconds=1000000000
    report: calls=2, input_tokens=2, output_tokens=2, spent=1
    dearest: s=1
    took: a nano-dollar=0/0, free=0/0
    """)
def calls_that_cost_nothing_or_nearly(told: Told) -> None:
    told.end(told.model(1, 1, "free"), 1, 1)
    told.lines += told.sums()
    told.end(told.model(1, 1, "a nano-dollar"), 1, 1)


@story("""
    CallStarted run_id=A, name=a quarter, kind=tool, held=26000000000
    ToolSettled run_id=A, tool=a quarter, charge=26000000000, accounts=2
    CallStarted run_id=B, name=a quarter, kind=tool, held=26000000000
    Alert scope=B, budget=all, measure=usd, account=all|usd, threshold=0.5, spent=52000000000, cap=100000000000
    ToolSettled run_id=B, tool=a quarter, charge=26000000000, accounts=2
    CallStarted run_id=C, name=a quarter, kind=tool, held=26000000000
    ToolSettled run_id=C, tool=a quarter, charge=26000000000, accounts=2
    spent: usd=78000000000, tool_calls=3, seconds=1000000000
    report: tool_calls=3, spent=78000000000
    """)
def alerts_that_change_under_way(told: Told) -> None:
    changes: tuple[dict[str, Any], ...] = ({}, {"alerts": [0.5]}, {})
    for change in changes:
        told.guard.change(told.guard.budgets, **change)
        told.guard.on_tool_end("found", run_id=told.tool("a quarter"))


@story("""
    CallStarted scope=ask/ask/A, run_id=B, name=mine, held=5034742, parent=A
    CallSettled scope=ask/ask/A, run_id=B, model=openai:mine, usage=1487+41, charge=4132179, held=5034742, parent=A,
        cacheable=1487, accounts=5
    spent: usd=4132179, tokens=1528, input_tokens=1487, output_tokens=41, model_calls=1, steps=1, seconds=1000000000
    report: calls=1, input_tokens=1487, output_tokens=41, spent=4132179, cacheable=1487
    dearest: s=5034742
    took: mine=0/0
    """)
def calls_in_a_step(told: Told) -> None:
    said: dict[str, Any] = {"langgraph_node": "ask", "langgraph_checkpoint_ns": "ask:1"}
    step = told.chain(tags=["graph:step:1"], metadata=said, name="ask")
    told.end(told.model(1501, 53, parent=step, **said), 1487, 41)
    told.guard.on_chain_end({}, run_id=step)


@story("""
    CallStarted run_id=A, name=mine, held=536093
    CallSettled run_id=A, model=openai:mine, usage=2+53, charge=536093, held=536093, estimated=True, source=estimated,
        accounts=6
    UsageMissing run_id=A, model=openai:mine, charge=536093
    spent: usd=536093, tokens=55, input_tokens=2, output_tokens=53, model_calls=1, steps=1, seconds=1000000000
    report: calls=1, input_tokens=2, output_tokens=53, spent=536093, estimated=1
    dearest: s=536093
    took: mine=0/0
    """)
def a_router_models_answer(told: Told) -> None:
    said = {"ls_provider": "openai", "ls_model_name": "mine", "ls_max_tokens": 53}
    run_id = told.chain(run_type="llm", metadata=said)
    told.guard.on_chain_end({}, run_id=run_id)


@story("""
    CallStarted run_id=A, name=mine, held=6094922
    CallSettled at=1, run_id=A, model=openai:mine, usage=1501+8, charge=3837167, held=6094922, estimated=True,
        seconds=1, source=estimated, status=failed, cacheable=1501, accounts=6
    UsageMissing at=1, run_id=A, model=openai:mine, charge=3837167
    CallFailed at=1, run_id=A, model=openai:mine, kind=partly, error=ConnectionResetError, seconds=1
    CallStarted at=1, run_id=B, name=mine, held=6094922
    CallSettled at=1, run_id=B, model=openai:mine, usage=1487+120, charge=4922314, held=6094922, cacheable=1487,
        accounts=6
    CallStarted at=1, run_id=C, name=mine, held=6094922
    CallSettled at=1, run_id=C, model=openai:mine, usage=1501+159, charge=6094922, held=6094922, estimated=True,
        source=estimated, cacheable=1501, accounts=6
    UsageMissing at=1, run_id=C, model=openai:mine, charge=6094922
    spent: usd=14854403, tokens=4776, input_tokens=4489, output_tokens=287, model_calls=3, steps=3, seconds=1000000000
    report: calls=3, input_tokens=4489, output_tokens=287, spent=14854403, estimated=2, cacheable=4489, failed=1
    dearest: s=6094922
    took: mine=0/1/0
    """)
def several_replies_at_once(told: Told) -> None:
    run_id = told.model(params={"n": 3})
    told.piece(run_id, *"abcdefgh")
    told.clock.advance(1)
    told.guard.on_llm_error(ConnectionResetError("gone"), run_id=run_id)
    told.end(told.model(params={"n": 3}), 1487, 120)
    told.end(told.model(params={"n": 3}))


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    30 came, look at 53, may be 53
    33 came, look at 53, may be 53
    52 came, look at 53, may be 53
    53 came, look at 61, may be 53
    54 came, look at 61, may be 53
    61 came, look at 309, may be 309
    62 came, look at 309, may be 309
    309 came, look at 317, may be 309
    310 came, look at 317, may be 309
    spent: seconds=1000000000
    held: usd=7595254, tokens=1810, input_tokens=1501, output_tokens=309, model_calls=1, steps=1
    open: A=open
    CallSettled run_id=A, model=openai:mine, usage=1487+310, charge=6822637, held=7595254, cacheable=1487, accounts=6
    CallStarted run_id=B, name=mine, held=4834708
    30 came, look at 33, may be 11
    33 came, look at 41, may be 11
    52 came, look at 291, may be 97
    53 came, look at 291, may be 97
    54 came, look at 291, may be 97
    61 came, look at 291, may be 97
    62 came, look at 291, may be 97
    309 came, look at 549, may be 183
    310 came, look at 549, may be 183
    spent: usd=6822637, tokens=1797, input_tokens=1487, output_tokens=310, model_calls=1, steps=1, seconds=1000000000
    held: usd=9995740, tokens=2050, input_tokens=1501, output_tokens=549, model_calls=1, steps=1
    report: calls=1, input_tokens=1487, output_tokens=310, spent=6822637, cacheable=1487
    dearest: s=7595254
    took: mine=0/0/0
    open: B=open
    CallSettled run_id=B, model=openai:mine, usage=1487+310, charge=6822637, held=9995740, cacheable=1487, accounts=6
    spent: usd=13645274, tokens=3594, input_tokens=2974, output_tokens=620, model_calls=2, steps=2, seconds=1000000000
    report: calls=2, input_tokens=2974, output_tokens=620, spent=13645274, cacheable=2974
    dearest: s=9995740
    took: mine=0/0/0
    """)
def streams_that_are_longer_than_was_held(told: Told) -> None:
    for most, params in ((53, {}), (11, {"n": 3})):
        run_id = told.model(most=most, params=params)
        call = told.guard.meter.open_calls[run_id.int]
        for pieces in (30, 3, 19, 1, 1, 7, 1, 247, 1):
            told.piece(run_id, *["a"] * pieces)
            assert call.stream is not None
            told.lines.append(f"{call.stream.chunks} came, look at {call.stream.check_at}, may be {call.ceiling}")
        told.lines += told.sums()
        told.end(run_id, 1487, 310)


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    CallStarted run_id=B, name=search, kind=tool, held=20300000
    spent: seconds=1000000000
    """)
def calls_that_are_taken_back(told: Told) -> None:
    told.guard.settlement.not_made(told.model())
    told.guard.settlement.not_made(told.tool("search"))
    assert told.guard.would_refuse() is None


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    CallSettled run_id=A, model=openai:mine, usage=1501+53, charge=5034742, held=5034742, estimated=True,
        source=estimated, status=cancelled, cacheable=1501, accounts=6
    UsageMissing run_id=A, model=openai:mine, charge=5034742
    CallStarted run_id=B, name=mine, held=5034742
    CallSettled run_id=B, model=openai:mine, usage=1501+3, charge=3787158, held=5034742, estimated=True,
        source=estimated, status=stopped, cacheable=1501, accounts=6
    UsageMissing run_id=B, model=openai:mine, charge=3787158
    spent: usd=8821900, tokens=3058, input_tokens=3002, output_tokens=56, model_calls=2, steps=2, seconds=1000000000
    report: calls=2, input_tokens=3002, output_tokens=56, spent=8821900, estimated=2, cacheable=3002
    dearest: s=5034742
    took: mine=0/0/0
    """)
def calls_that_are_cut_short(told: Told) -> None:
    for pieces, stopped in (("", False), ("abc", True)):
        run_id = told.model()
        told.piece(run_id, *pieces)
        call = told.guard.meter.books.take(run_id)
        assert call is not None
        told.guard.settlement.cut_short(call, stopped=stopped)


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    CallStarted scope=A, run_id=B, name=other, held=230912, parent=A
    CallSettled scope=A, run_id=B, model=openai:other, usage=703+11, charge=224312, held=230912, parent=A, accounts=6
    spent: usd=224312, tokens=714, input_tokens=703, output_tokens=11, model_calls=1, steps=1, seconds=1000000000
    report: calls=1, input_tokens=703, output_tokens=11, spent=224312
    dearest: s=230912
    took: other=0/0
    open: A=open
    CallStarted run_id=C, name=mine, held=5034742
    CallStarted scope=C, run_id=D, name=other, held=230912, parent=C
    CallSettled scope=C, run_id=D, model=openai:other, usage=703+11, charge=224312, held=230912, parent=C, accounts=6
    spent: usd=448624, tokens=1428, input_tokens=1406, output_tokens=22, model_calls=2, steps=2, seconds=1000000000
    report: calls=2, input_tokens=1406, output_tokens=22, spent=448624
    dearest: s=230912
    took: other=0/0
    open: C=open
    CallSettled run_id=C, model=openai:mine, usage=1487+41, charge=4132179, held=5034742, cacheable=1487, accounts=6
    CallStarted run_id=E, name=mine, held=5034742
    CallStarted scope=E, run_id=F, name=other, held=230912, parent=E
    CallSettled scope=E, run_id=F, model=openai:other, usage=703+11, charge=224312, held=230912, parent=E, accounts=6
    spent: usd=4805115, tokens=3670, input_tokens=3596, output_tokens=74, model_calls=4, steps=4, seconds=1000000000
    report: calls=4, input_tokens=3596, output_tokens=74, spent=4805115, cacheable=1487
    dearest: s=5034742
    took: mine=0/0, other=0/0
    open: E=open
    CallSettled run_id=E, model=openai:mine, usage=1501+53, charge=5034742, held=5034742, estimated=True,
        source=estimated, cacheable=1501, accounts=6
    UsageMissing run_id=E, model=openai:mine, charge=5034742
    spent: usd=9839857, tokens=5224, input_tokens=5097, output_tokens=127, model_calls=5, steps=5, seconds=1000000000
    report: calls=5, input_tokens=5097, output_tokens=127, spent=9839857, estimated=1, cacheable=2988
    dearest: s=5034742
    took: mine=0/0, other=0/0
    """)
def models_around_others(told: Told) -> None:
    for own in ((703, 11), (1487, 41), ()):
        outer = told.model()
        told.end(told.model(701, 17, "other", parent=outer), 703, 11)
        told.lines += told.sums()
        told.end(outer, *own)


@story("""
    CallStarted run_id=A, name=mine, held=536093
    CallStarted run_id=B, name=mine, held=536093
    CallStarted run_id=C, name=mine, held=536093
    CallSettled run_id=A, model=openai:mine, usage=703+11, charge=1869698, held=1608279, accounts=6
    Overrun run_id=A, model=openai:mine, held=1608279, charge=1869698
    CallSettled run_id=B, model=openai:mine, usage=0+0, accounts=6
    CallSettled run_id=C, model=openai:mine, usage=0+0, accounts=6
    CallStarted run_id=D, name=mine, held=536093
    CallStarted run_id=E, name=mine, held=536093
    CallSettled run_id=D, model=openai:mine, usage=703+11, charge=1869698, held=1072186, accounts=6
    Overrun run_id=D, model=openai:mine, held=1072186, charge=1869698
    CallSettled run_id=E, model=openai:mine, usage=0+0, accounts=6
    CallStarted run_id=F, name=mine, held=536093
    CallStarted run_id=G, name=mine, held=536093
    CallSettled run_id=F, model=openai:mine, usage=2+53, charge=536093, held=536093, estimated=True, source=estimated,
        accounts=6
    UsageMissing run_id=F, model=openai:mine, charge=536093
    CallSettled run_id=G, model=openai:mine, usage=2+53, charge=536093, held=536093, estimated=True, source=estimated,
        accounts=6
    UsageMissing run_id=G, model=openai:mine, charge=536093
    spent: usd=4811582, tokens=1538, input_tokens=1410, output_tokens=128, model_calls=7, steps=7, seconds=1000000000
    report: calls=7, input_tokens=1410, output_tokens=128, spent=4811582, estimated=2, overrun=1058931
    dearest: s=1869698
    took: mine=0/0
    """)
def prompts_sent_in_one_request(told: Told) -> None:
    told.batch(3, (703, 11))
    told.batch(2, (703, 11))
    told.batch(2, None)


@story("""
    CallStarted run_id=A, name=mine, held=5034742
    Refused run_id=B, name=mine, error=BudgetExceededError, message=Budget 'all' refused a call to mine: it may take
        $100.0170, and $99.9950 of $100.0000 is left ($0.0050347 is held by calls under way). Its output may be
        9,999,999 tokens long: ask for less with max_tokens, or use guard.wrap(model), which asks for what is
        affordable., budget=all, measure=usd, account=all|usd, asked=100016993000, left=99994965258
    Budget 'all' refused a call to mine: it may take $100.0170, and $99.9950 of $100.0000 is left ($0.0050347 is held
        by calls under way). Its output may be 9,999,999 tokens long: ask for less with max_tokens, or use
        guard.wrap(model), which asks for what is affordable.
    Refused run_id=C, name=other, error=BudgetExceededError, message=Budget 'all' refused a call to other: it may take
        10,000,000 tokens, and 9,998,446 of 10,000,000 is left (1,554 is held by calls under way)., budget=all,
        measure=tokens, account=all|tokens, asked=10000000, left=9998446
    Budget 'all' refused a call to other: it may take 10,000,000 tokens, and 9,998,446 of 10,000,000 is left (1,554 is
        held by calls under way).
    Refused run_id=D, kind=tool, name=dear, error=BudgetExceededError, message=Budget 'all' refused tool dear: it may
        take $101.0000, and $99.9950 of $100.0000 is left ($0.0050347 is held by calls under way)., budget=all,
        measure=usd, account=all|usd, asked=101000000000, left=99994965258
    Budget 'all' refused tool dear: it may take $101.0000, and $99.9950 of $100.0000 is left ($0.0050347 is held by
        calls under way).
    Refused run_id=E, name=mine, error=AgentHaltedError, message=Refused a call to mine: all agents are halted:
        enough.
    Refused run_id=F, kind=tool, name=search, error=AgentHaltedError, message=Refused tool search: all agents are
        halted: enough.
    Refused run_id=G, kind=chain, error=AgentHaltedError, message=Refused chain: all agents are halted: enough.
    CallSettled run_id=A, model=openai:mine, usage=1487+41, charge=4132179, held=5034742, cacheable=1487, accounts=6
    spent: usd=4132179, tokens=1528, input_tokens=1487, output_tokens=41, model_calls=1, steps=1, seconds=1000000000
    report: calls=1, input_tokens=1487, output_tokens=41, spent=4132179, refused=6, cacheable=1487
    dearest: s=5034742
    took: mine=0/0
    """)
def refusals(told: Told) -> None:
    run_id = told.model()
    dear: list[Callable[[], object]] = [
        lambda: told.model(1, 9_999_999),
        lambda: told.model(1, 9_999_999, "other"),
        lambda: told.tool("dear"),
    ]
    for start in dear:
        with pytest.raises(BudgetExceededError) as refused:
            start()
        told.lines.append(str(refused.value))
    told.guard.kill(reason="enough")
    starts: list[Callable[[], object]] = [told.model, lambda: told.tool("search"), told.chain]
    for start in starts:
        with pytest.raises(AgentHaltedError):
            start()
    told.guard.revive()
    told.end(run_id, 1487, 41)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A price for models of whom none is known, whatever the public table has."""
    rates = Rates(input=9_001_000, output=70_003_000, cache_read=9_001_000, source="a stand-in", estimated=True)
    monkeypatch.setattr(catalog, "dearest", lambda *_: (rates, START + 9_999))


@pytest.mark.parametrize("act", STORIES, ids=lambda act: act.__name__)
def test_all_that_is_told_and_kept_of_a_call(act: Callable[[Told], None]) -> None:
    told, silent = Told(), Told(listening=False)
    act(told)
    assert [*told.lines, *told.sums()] == textwrap.dedent(STORIES[act]).strip().replace("\n    ", " ").splitlines()
    act(silent)
    assert silent.sums() == told.sums()


@pytest.mark.parametrize("act", STORIES, ids=lambda act: act.__name__)
def test_what_takes_the_short_way_where_it_can_comes_to_the_same(act: Callable[[Told], None]) -> None:
    found = []
    for listening in (True, False):
        told = Told(listening=listening, token_counter=None)
        told.end(told.model(), 1487, 41)  # from the second on the accounts are at hand
        act(told)
        lines = [*told.lines, *told.sums()]
        sums = [line for line in lines if line.startswith(("spent", "held", "report", "took", "open"))]
        found.append([re.sub(r", overrun=\d+", "", line) for line in sums])  # a small one is not seen
    assert found[0] == found[1]


@pytest.mark.parametrize("listening", [False, True])
def test_a_stream_that_nobody_limits_holds_what_it_held(listening: bool) -> None:
    told = Told(Budget(per="user", usd=1, only={"user": ["nobody"]}), listening=listening)
    run_id = told.model(7, 5)
    call = told.guard.meter.open_calls[run_id.int]
    held = call.held
    told.piece(run_id, *"abcdefgh" * 40)
    assert (call.held, call.ceiling) == (held, 5)


def test_what_is_kept_of_calls_that_may_yet_be_heard_of_is_bounded() -> None:
    told = Told(token_counter=None)
    for number in range(10_001):
        told.guard.meter.note_dearest(str(number), number)
    assert [*told.guard.meter.dearest][::9_999] == ["1", "10000"]
    runs = []
    for _ in range(1_001):
        parent = told.chain()
        runs.append(told.tool("slow", parent))
        told.guard.on_chain_end({}, run_id=parent)
    told.lines.clear()
    for run_id in (runs[0], runs[1]):
        told.guard.on_tool_end("found", run_id=run_id)
    assert [line.split()[0] for line in told.lines] == ["ToolSettled"]


def test_what_outlives_its_parent_and_then_its_task_is_settled_once() -> None:
    told = Told()

    async def main() -> None:
        begun, over = asyncio.Event(), asyncio.Event()

        class Slow(ScriptedChatModel):
            async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
                begun.set()
                await over.wait()

        async def parent(_: object) -> asyncio.Task[Any]:
            task = asyncio.create_task(Slow(max_tokens=5).ainvoke("7"))
            await begun.wait()
            return task

        task = await RunnableLambda(parent).ainvoke("", {"callbacks": [told.guard]})
        task.cancel()  # of which LangChain tells nothing
        await asyncio.wait([task])
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [line.split()[0] for line in told.lines] == ["CallStarted", "CallSettled"]
    assert told.guard.report().total.calls == 1
