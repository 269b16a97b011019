"""What context policies come to on real runs of agents: money with re-fetches, recall, breaks of the prefix.

    COSTGUARD_DATA=... python tests/benchmarks/bench_context.py [--split dev] [--seconds]

Three sets of real runs (tau-bench airline, SWE-agent, Who&When from 8,000 tokens on) and the airline's chained by six.
Sonnet 4.5 prices in a cache that is always warm within a run. Measured as `langchain_costguard.context.replay` says;
summaries are digests, and no summary by a model is judged. SWE-agent's results are cut at 600 characters in the data,
and filled up to their true length here: facts in the rest are not seen.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_costguard.context import Context
from langchain_costguard.context.plan import SONNET, Row, compare, promises, table
from langchain_costguard.context.replay import Measure
from langchain_costguard.metering.pricing.estimate import Estimator
from langchain_costguard.vocabulary.usage import ModelRef

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
ESTIMATOR, O200K = Estimator(), ModelRef("openai", "gpt-4o")
"""Lengths are in o200k's tokens, as those of the data: with TIKTOKEN_CACHE_DIR they are exact."""
RESULTS = {"WebSurfer", "FileSurfer", "ComputerTerminal", "Computer_terminal", "WebServing_Expert"}
"""Who in Who&When's group chats answers as a tool does."""
TARGETS = {
    "airline": {"cap 400": 0.0, "cap 1,500": 0.0, "ids": 0.96, "words": 0.95},
    "SWE-agent": {"cap 400": -0.12, "cap 1,500": -0.04, "ids": 0.0, "words": 0.0},
    "Who&When": {"cap 400": -0.35, "cap 1,500": -0.25, "ids": 0.92, "words": 0.84},
}


def tokens(text: str) -> int:
    return ESTIMATOR.count_output(text, O200K)


def rows(name: str, split: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def airline(split: str) -> list[list[BaseMessage]]:
    return [list(map(_openai, row["messages"])) for row in rows("agents_tau_airline", split)]


def _openai(message: dict[str, Any]) -> BaseMessage:
    text = message["content"] or ""
    if message["role"] == "system":
        return SystemMessage(text)
    if message["role"] == "user":
        return HumanMessage(text)
    if message["role"] == "tool":
        return ToolMessage(text, tool_call_id=message["tool_call_id"], name=message.get("name"))
    calls = message.get("tool_calls") or []
    made: Any = [{"name": c["name"], "args": json.loads(c["arguments"] or "{}"), "id": c["id"]} for c in calls]
    return AIMessage(text, tool_calls=made)


def chained(split: str) -> list[list[BaseMessage]]:
    """Six tasks in one thread, as a desk would have them: constructed."""
    runs = airline(split)
    random.Random(7).shuffle(runs)
    return [
        [*runs[at][:1], *(message for run in runs[at : at + 6] for message in run[1:])]
        for at in range(0, len(runs) - 5, 6)
    ]


def swe_agent(split: str) -> list[list[BaseMessage]]:
    found = []
    for row in rows("agents_sweagent_gpt4_gpl3", split):
        so_far = sent = 0
        for step in row["steps"]:
            sent += so_far
            so_far += step["action_tok"] + step["obs_tok"]
        hidden = max(0, (row["tokens_sent"] - sent) // max(1, row["n_steps"]))
        run: list[BaseMessage] = [SystemMessage(" the" * int(hidden * 0.9))]
        run.append(HumanMessage(f"Solve the issue {row['instance_id']}." + " the" * int(hidden * 0.1)))
        for at, step in enumerate(row["steps"]):
            action, seen = step["action"], step["obs"]
            call: Any = {"name": "shell", "args": {"command": action}, "id": str(at)}
            run.append(AIMessage(" the" * max(0, step["action_tok"] - tokens(action) - 14), tool_calls=[call]))
            if len(seen) >= 600:  # the rest is another one where the data's hash of the whole is
                seen += f"\n{step['obs_sig']}\n"
                seen += (" the" * 12 + "\n") * (max(0, step["obs_tok"] - tokens(seen)) // 13)
            run.append(ToolMessage(seen, tool_call_id=str(at)))
        found.append(run)
    return found


def who_and_when(split: str) -> list[list[BaseMessage]]:
    return [_group_chat(row) for row in rows("agents_whowhen", split)]


def _group_chat(row: dict[str, Any]) -> list[BaseMessage]:
    run: list[BaseMessage] = [HumanMessage(row["history"][0]["content"])]
    for at, said in enumerate(row["history"][1:]):
        name = said["role"] if row["system"] == "magentic-one" else said["agent"]
        before = run[-1]
        if name in RESULTS and isinstance(before, AIMessage):
            call: Any = {"name": name, "args": {}, "id": f"c{at}"}
            run[-1] = AIMessage(before.content, tool_calls=[call])
            run.append(ToolMessage(said["content"], tool_call_id=f"c{at}", name=name))
        elif name == "human":
            run.append(HumanMessage(said["content"]))
        else:
            run.append(AIMessage(said["content"]))
    return run


SETS: dict[str, tuple[Callable[[str], list[list[BaseMessage]]], int]] = {
    "airline": (airline, 3_000),
    "six tasks": (chained, 8_000),
    "SWE-agent": (swe_agent, 6_000),
    "Who&When": (who_and_when, 8_000),
}
"""How it is read, and the trigger of LangChain's policies."""
_LONG = 8_000
"""Tokens from which on a run of Who&When counts; what words are rare is told from all of them."""


def judged(name: str, found: Sequence[Row]) -> list[str]:
    """The targets, each with what was measured."""
    targets, lines = TARGETS.get(name), []
    if targets is None:
        return []
    for row in found:
        if not row.name.startswith("Context("):
            continue
        what = "cap 400" if "400" in row.name else "cap 1,500"
        if "alone" in row.name:
            checks = [("ids", row.ids, 0.99, False), ("words", row.words, 0.98, False)] if "1,500" in what else []
            checks = checks if name == "Who&When" else []
        else:
            checks = [
                ("money", row.money, targets[what], True),
                ("dearer", row.dearer, 0.10, True),
                ("ids", row.ids, targets["ids"], False),
                ("words", row.words, targets["words"], False),
                ("breaks a call", row.breaks, 1 / 15, True),
                ("balance over replayed", abs((row.stated or 1.0) - 1), 0.10, True),
                ("calls without the task", float(row.without_task), 0.0, True),
            ]
        for title, value, target, below in checks:
            met = value <= target if below else value >= target
            sign = "<=" if below else ">="
            lines.append(f"  {'met   ' if met else 'MISSED'} {row.name}: {title} {value:+.3f} {sign} {target:+.3f}")
    return lines


def first_three(measure: Measure) -> str:
    """What marks for the prompt cache are worth over the first three calls of a run, by when the first one is set."""
    read, write, plain = 0.30, 3.75, 3.0
    spent = {"never": 0.0, "from the second call on": 0.0, "from the first call on": 0.0}
    for conversation in measure.conversations:
        lengths = [sum(map(measure.size, conversation[:at])) for at, m in enumerate(conversation) if m.type == "ai"][:3]
        for first, name in ((9, "never"), (1, "from the second call on"), (0, "from the first call on")):
            kept = 0
            for at, length in enumerate(lengths):
                marked = at >= first and length >= 1_024
                spent[name] += kept * read + (length - kept) * (write if marked else plain)
                kept = length if marked else kept
    none = spent["never"]
    return "  prompt cache, first three calls, marked " + ", ".join(
        f"{n}: {m / none - 1:+.0%}" for n, m in spent.items()
    )


def added(runs: int = 200) -> float:
    """Milliseconds that the layer adds to a call with 12,000 tokens of history, nothing due: the median."""
    from langchain_costguard import CostGuard
    from langchain_costguard.steering import steer
    from langchain_costguard.steering.flow import Call
    from langchain_costguard.steering.requests import ChatRequest, Reply
    from langchain_costguard.testing import ScriptedChatModel

    guard = CostGuard()
    history: list[BaseMessage] = [HumanMessage("Find a berth.")]
    for at in range(25):
        call: Any = {"name": "search", "args": {"q": str(at)}, "id": str(at)}
        history += [AIMessage("Next.", tool_calls=[call]), ToolMessage(f"berth {at} " * 160, tool_call_id=str(at))]
    model = ScriptedChatModel(replies=["done"])
    times: dict[bool, list[float]] = {True: [], False: []}
    for on in (False, True):
        steering = steer(guard, context=Context(window=1_000_000) if on else None, loops=None, retry=None)
        if steering.windows is not None:  # a thread in mid-lot: looked at lately, and not due
            _, thread = steering.windows.thread(_here(guard), history)
            thread.look = 0, steering.windows.situation(ChatRequest(model, []), O200K, thread, None).prices, 1e9
        for _ in range(runs):
            begun = time.perf_counter()
            flow = steering.model_flow(ChatRequest(model, list(history)))
            wanted: Any = next(flow)
            while not isinstance(wanted, Call):
                wanted = flow.send(wanted.function(*wanted.args))
            with suppress(StopIteration):
                flow.send(Reply(AIMessage("done")))
            times[on].append(time.perf_counter() - begun)
    return (sorted(times[True])[runs // 2] - sorted(times[False])[runs // 2]) * 1_000


def _here(guard: Any) -> Any:
    from langchain_costguard.steering.surroundings import Here

    return Here(guard, "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--split", default=os.environ.get("COSTGUARD_SPLIT", "dev"))
    parser.add_argument("--sets", default=",".join(SETS))
    options = parser.parse_args()
    print(f"added at 12k tokens, nothing due: {added():.3f} ms (target 0.300)")
    if not os.environ.get("COSTGUARD_DATA") or not (DATA / "agents_tau_airline").is_dir():
        print("The public data are not here: set COSTGUARD_DATA to their folder. No policy was measured.")
        return
    ESTIMATOR.warm(20)
    missed, tables = 0, []
    for name in options.sets.split(","):
        read, trigger = SETS[name]
        everything = read(options.split)
        measure = Measure(everything, lambda message: max(1, ESTIMATOR.estimate(O200K, [message]).tokens - 3))
        if name == "Who&When":
            lengths = [row["total_tok_o200k"] for row in rows("agents_whowhen", options.split)]
            measure = measure.only([at for at, length in enumerate(lengths) if length >= _LONG])
        found = compare(measure, SONNET, trigger=trigger)
        print(
            f"\n{name} ({options.split}): {len(measure.conversations)} runs, {sum(r.calls for r in found[:1]):,} calls"
        )
        print(table(found))
        tables.append(found)
        print(first_three(measure))
        lines = judged(name, found)
        missed += sum("MISSED" in line for line in lines)
        print(*lines, sep="\n", flush=True)
    print("\nWhat compactions were expected to save when they were made, against what they saved, in all:")
    for cap in ("1500", "400"):
        promised, kept = promises(tables, cap)
        near = abs(promised - kept) <= 0.1 * kept
        missed += not near
        print(f"  {'met   ' if near else 'MISSED'} Context(cap={cap}): ${promised:.3f} for ${kept:.3f} (within 10 %)")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
