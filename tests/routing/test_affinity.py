"""Prompts that begin alike go to the same worker, and no worker gets too much."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_costguard.routing.affinity import PrefixRouter
from langchain_costguard.routing.route import RouteRequest
from langchain_costguard.testing import ManualClock

NAMES = [f"gpu-{i}" for i in range(4)]


def workers(*names: str) -> dict[str, str]:
    return {name: f"openai:{name}" for name in names or NAMES}


def made(**options: Any) -> PrefixRouter:
    return PrefixRouter(workers(), **{"clock": lambda: 0.0, **options})


def conversation(name: str, turns: int = 4) -> list[list[str]]:
    """The prefixes of each turn's prompt: two blocks more each time."""
    return [[f"{name}:{i}" for i in range(2 * turn + 2)] for turn in range(turns)]


def test_a_conversation_stays_with_its_worker_as_it_grows() -> None:
    router = made()
    others = [f"other-{i}" for i in range(200)]
    for name in others:
        router.place(conversation(name)[0], 1000)
    served = {router.place(prefixes, 500 * len(prefixes)) for prefixes in conversation("mine", 3)}
    assert len(served) == 1


def test_a_lone_conversation_stays_where_it_is_cached() -> None:
    clock = ManualClock()
    router, served = made(clock=clock), set()
    for prefixes in conversation("only", 30):
        served.add(router.place(prefixes, 512 * len(prefixes)))
        clock.advance(10)
    assert len(served) == 1


def test_new_conversations_spread_over_all_workers() -> None:
    router = made()
    served = Counter(router.place([f"c{i}"], 1000) for i in range(400))
    assert set(served) == set(NAMES)
    assert max(served.values()) <= 1.25 * 400 / 4


def test_no_worker_gets_above_the_bound_however_popular_a_prefix_is() -> None:
    router, draw = made(), random.Random(1)
    for i in range(2000):
        prefix = ["shared"] * (draw.random() < 0.9)
        router.place([*prefix, f"a{i}", f"b{i}"][: draw.randint(1, 3)], 500)
    loads = router.loads.values()
    assert max(loads) <= 1.25 * sum(loads) / len(loads) + 500


def test_load_is_forgotten_in_time() -> None:
    clock = ManualClock()
    router = PrefixRouter(workers("one"), half_life=10, clock=clock)
    router.place(["a"], 1000)
    clock.advance(10)
    assert router.loads == {"one": pytest.approx(500)}


def test_a_cached_token_counts_a_quarter() -> None:
    router = PrefixRouter(workers("one"), clock=lambda: 0.0)
    router.place(["a", "b"], 1000)
    router.place(["a", "b"], 1000)
    assert router.loads == {"one": pytest.approx(1250)}


def test_what_a_worker_was_sent_long_ago_it_is_not_believed_to_have() -> None:
    router = PrefixRouter(workers("one"), worker_blocks=4, clock=lambda: 0.0)
    router.place(["a", "b"], 1000)
    router.place([f"x{i}" for i in range(4)], 0)
    router.place(["a", "b"], 1000)
    assert router.loads == {"one": pytest.approx(2000)}


# Workers come and go


def places(router: PrefixRouter, many: int = 300) -> dict[str, str]:
    return {f"c{i}": router.place([f"c{i}:0", f"c{i}:1"], 100) for i in range(many)}


def test_a_worker_that_leaves_takes_only_its_own_conversations_with_it() -> None:
    router = made()
    before = places(router)
    router.remove("gpu-0")
    after = places(router)
    stayed = [name for name in before if before[name] != "gpu-0"]
    assert sum(before[name] == after[name] for name in stayed) >= 0.9 * len(stayed)
    assert "gpu-0" not in after.values()


def test_a_worker_that_joins_leaves_the_others_conversations_alone() -> None:
    router = made()
    before = places(router)
    router.add("gpu-9", "openai:gpu-9")
    after = places(router)
    assert sum(before[name] == after[name] for name in before) >= 0.9 * len(before)
    served = Counter(router.place([f"new{i}"], 100) for i in range(300))
    assert 0 < served["gpu-9"] <= 1.25 * 300 / 5 + 60


def test_models_follow_the_workers() -> None:
    router = made()
    router.add("gpu-9", "openai:gpu-9")
    router.remove("gpu-0")
    assert router.models == ("openai:gpu-1", "openai:gpu-2", "openai:gpu-3", "openai:gpu-9")


def test_another_process_sends_the_same_prompts_to_the_same_workers() -> None:
    program = (
        "from langchain_costguard.routing.affinity import PrefixRouter\n"
        "router = PrefixRouter({f'gpu-{i}': 'm' for i in range(4)}, clock=lambda: 0.0)\n"
        "print([router.place([f'c{i}'], 1000) for i in range(50)])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    router = made()
    assert said.strip() == str([router.place([f"c{i}"], 1000) for i in range(50)])


# Requests


def asked(*texts: str, system: str = "", tools: Any = ()) -> RouteRequest:
    messages = [HumanMessage(text) if i % 2 == 0 else AIMessage(text) for i, text in enumerate(texts)]
    return RouteRequest(messages=[SystemMessage(system), *messages] if system else messages, tools=tools)


def test_a_request_that_goes_on_goes_where_its_beginning_is() -> None:
    router = made(block_tokens=16)
    for i in range(50):
        router(asked(f"{i} " * 200))
    first = router(asked("mine " * 200))
    again = router(asked("mine " * 200, "Yes.", "And " * 20))
    assert first.score == 0
    assert again.model == first.model
    assert again.score is not None
    assert again.score > 0.8
    assert "of the prompt in its cache" in again.why


def test_other_tools_are_another_prefix() -> None:
    router = made(block_tokens=16)
    router(asked("mine " * 200, tools=[{"name": "search"}]))
    assert router(asked("mine " * 200, tools=[{"name": "search"}])).score == 1
    assert router(asked("mine " * 200, tools=[{"name": "fetch"}])).score == 0


def test_calls_of_tools_and_blocks_are_part_of_the_prompt() -> None:
    router = made(block_tokens=4)

    def request(city: str) -> RouteRequest:
        call = {"name": "find", "args": {"city": city}, "id": "1", "type": "tool_call"}
        image = {"type": "text", "text": "same " * 20}
        return RouteRequest(
            messages=[HumanMessage([image]), AIMessage("", tool_calls=[call]), HumanMessage("go " * 20)]
        )

    router(request("Rome"))
    assert router(request("Rome")).score == 1
    other = router(request("Oslo")).score
    assert other is not None
    assert 0 < other < 1


@pytest.mark.parametrize("request_", [asked("Hi"), asked(""), RouteRequest(messages=[])])
def test_a_prompt_shorter_than_a_block_is_one(request_: RouteRequest) -> None:
    router = made()
    first = router(request_)
    assert router(request_).model == first.model


def test_texts_that_are_no_unicode_do_no_harm() -> None:
    assert made()(asked("\ud800 broken")).model in workers().values()


def test_threads_share_one_router() -> None:
    router = made()

    def work(name: str) -> None:
        for i in range(200):
            router.place([f"{name}{i}"], 10)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(router.loads.values()) == pytest.approx(8000)


@pytest.mark.parametrize(
    ("given", "options", "named"),
    [
        ({}, {}, "workers: {}"),
        (["openai:a"], {}, "workers: ['openai:a']"),
        ({"": "openai:a"}, {}, "workers: ''"),
        ({"a": None}, {}, "workers['a']: None"),
        (workers(), {"block_tokens": 0}, "block_tokens: 0"),
        (workers(), {"block_tokens": True}, "block_tokens: True"),
        (workers(), {"worker_blocks": 1.5}, "worker_blocks: 1.5"),
        (workers(), {"load_factor": 0.9}, "load_factor: 0.9"),
        (workers(), {"load_factor": float("nan")}, "load_factor: nan"),
        (workers(), {"half_life": 0}, "half_life: 0"),
    ],
)
def test_a_bad_router_is_named(given: Any, options: Any, named: str) -> None:
    with pytest.raises(ValueError) as error:
        PrefixRouter(given, **options)
    assert str(error.value).startswith(named)


def test_workers_that_cannot_join_or_leave_are_named() -> None:
    router = PrefixRouter(workers("a"))
    with pytest.raises(ValueError, match="there is a worker 'a' already"):
        router.add("a", "openai:a")
    with pytest.raises(ValueError, match="'b' is not one of a"):
        router.remove("b")
    with pytest.raises(ValueError, match="'a' is the last worker"):
        router.remove("a")
    with pytest.raises(ValueError, match="prefixes"):
        router.place([], 10)
