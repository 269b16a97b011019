"""How well the stuck-loop detector tells stuck runs from working ones, on real runs of other people's agents.

    COSTGUARD_DATA=path/to/data python tests/benchmarks/bench_loops.py [dev|heldout]

One configuration for all of them: ``LoopDetector()``. A run is flagged when any of its calls completes a loop, judged
after each call from the calls before it, as a middleware would. The ranges are those over 200 random halves.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage  # noqa: E402

from langchain_costguard.steering.policies.loops import NUDGE, LoopDetector, Step, nudges, recent  # noqa: E402

DATA = Path(os.environ.get("COSTGUARD_DATA", ""))
DETECTOR = LoopDetector()

Row = dict[str, Any]
Steps = list[Step]


class Run(NamedTuple):
    """One agent's run: whether it should be flagged, and its calls, from one word of the user to the next."""

    stuck: bool
    turns: list[Steps]
    cost: tuple[float, ...] = ()
    """Dollars of each call."""


def rows(name: str, part: str) -> Iterator[Row]:
    with gzip.open(DATA / name / f"{part}.jsonl.gz", "rt") as lines:
        yield from map(json.loads, lines)


# The data sets ----------------------------------------------------------------------------------------------------


def hotpot(part: str) -> Iterator[Run]:
    for row in rows("agents_reflexion_hotpot", part):
        steps = []
        for step in row["steps"]:
            call = re.fullmatch(r"(\w+)\[(.*)\]", step["action"] or "", re.DOTALL)
            name, query = call.groups() if call else ("", step["action"] or "")
            if name != "Finish":
                steps.append(Step(name, query, step["observation"] or ""))
        if row["outcome"] in ("halted", "correct"):
            yield Run(row["outcome"] == "halted", [steps])


def toolbench(part: str) -> Iterator[Run]:
    """Results are not stored, and arguments cut short: of two that were cut, nobody knows that they were the same."""
    cut = 0
    for row in rows("agents_toolbench_gpt35", part):
        steps = []
        for step in row["steps"]:
            text = step["args_trunc"].replace("\\n", "\n").replace('\\"', '"')
            text = re.sub(r"\}',.*$", "}", text, flags=re.DOTALL)
            try:
                arguments = json.loads(text)
            except ValueError:
                cut += 1
                arguments = dict(re.findall(r'"([^"]+)"\s*:\s*("[^"]*"?|\[[^\]]*\]?|\{[^}]*\}?|[^,}\n]+)', text))
                arguments["cut"] = cut
            if step["name"] != "Finish":
                steps.append(Step(step["name"], arguments))
        if row["outcome"] in ("no_answer", "give_answer"):
            yield Run(row["outcome"] == "no_answer", [steps])


def sweagent(part: str) -> Iterator[Run]:
    for row in rows("agents_sweagent_gpt4_gpl3", part):
        steps = []
        for step in row["steps"]:
            name, *rest = re.split(r"\s", step["action"].strip(), maxsplit=1)
            steps.append(Step(name, "".join(rest), step["obs"]))
        yield Run(not row["resolved"], [steps], dollars(row))


def dollars(row: Row) -> tuple[float, ...]:
    """What each call cost: the whole history is sent again each time, so later calls cost more."""
    spoken = [(step["action_tok"] or 0, step["obs_tok"] or 0) for step in row["steps"]]
    histories = [sum(map(sum, spoken[:i])) for i in range(len(spoken))]
    prompt = max(0.0, (row["tokens_sent"] - sum(histories)) / max(1, len(spoken)))
    shares = [(prompt + sent) * 1e-5 + said[0] * 3e-5 for sent, said in zip(histories, spoken, strict=True)]
    scale = row["cost_usd"] / (sum(shares) or 1)
    return tuple(share * scale for share in shares)


def airline(part: str) -> Iterator[Run]:
    for row in rows("agents_tau_airline", part):
        messages: list[BaseMessage] = []
        turns = []
        for message in row["messages"]:
            if message["role"] == "user":
                messages.append(HumanMessage(message["content"]))
            elif message["role"] == "assistant":
                calls = [
                    {"name": c["name"], "args": json.loads(c["arguments"]), "id": c["id"], "type": "tool_call"}
                    for c in message.get("tool_calls") or []
                ]
                messages.append(AIMessage(message["content"] or "", tool_calls=calls))
            elif message["role"] == "tool":
                messages.append(ToolMessage(message["content"] or "", tool_call_id=message["tool_call_id"]))
                turns.append(recent(messages, DETECTOR.window))
        yield Run(row["reward"] != 1, turns)


def mast(part: str) -> Iterator[Run]:
    """Hashes only. A step is a block of code that an agent ran or a line of the driver's log, where a restart shows.

    Some loggers wrote every line several times: a line just written is not one more step. What the code printed is
    not stored; the calls alone say something, as of commands that print nothing.
    """
    for row in rows("agents_mast_labels_derived", part):
        steps, last = [], None
        for step in row["steps"]:
            if step["sig"] != last and (step["action_sig"] or step["agent"] == "log"):
                steps.append(Step(step["agent"], step["action_sig"] or step["sig"], ""))
            last = step["sig"]
        if row["system"] == "HyperAgent":
            yield Run(any(row["labels"].get(label) for label in ("Step repetition", "Trajectory restart")), [steps])


def intercode(part: str) -> Iterator[Run]:
    """Queries and commands that are mended. A flag at the last step of a solved run came too late to do harm."""
    for row in rows("agents_intercode", part):
        steps = [Step("execute", {"command": step["action"]}, str(step["obs"])) for step in row["steps"]]
        yield Run(not row["success"], [steps[:-1] if row["success"] else steps])


# The rules --------------------------------------------------------------------------------------------------------

Rule = Callable[[Sequence[Step]], bool]


def rule(each: LoopDetector) -> Rule:
    return lambda turn: each.check(turn) is not None


detector = rule(DETECTOR)


def base_rule(turn: Sequence[Step]) -> bool:
    return LoopDetector.simple().check(turn) is not None


def thrice(turn: Sequence[Step]) -> bool:
    return max(Counter(f"{step.name} {step.arguments}" for step in turn).values(), default=0) >= 3


def twice_in_a_row(turn: Sequence[Step]) -> bool:
    return len(turn) > 1 and turn[-1][:2] == turn[-2][:2]


def first_flag(run: Run, rule: Rule) -> int | None:
    """How many calls had been made when the rule first fired."""
    for turn in run.turns:
        for made in range(1, len(turn) + 1):
            if rule(turn[:made]):
                return made
    return None


def second_flag(run: Run) -> bool:
    """Whether a run that goes on as before after its nudge would be ended: each turn is told again, with the nudge."""
    for turn in run.turns:
        messages: list[BaseMessage] = [HumanMessage("go")]
        for i, step in enumerate(turn):
            call = {"name": step.name, "args": step.arguments, "id": str(i), "type": "tool_call"}
            messages += [AIMessage("", tool_calls=[call]), ToolMessage(step.result or "", tool_call_id=str(i))]
            if DETECTOR.check(recent(messages, DETECTOR.window)) is None:
                continue
            if nudges(messages):
                return True
            messages.append(HumanMessage(NUDGE, additional_kwargs={"costguard": "loop"}))
    return False


SETS: dict[str, tuple[Callable[[str], Iterator[Run]], str, str]] = {
    "reflexion_hotpot": (hotpot, "halted / correct", ">= 72 / <= 1"),
    "toolbench_gpt35": (toolbench, "no answer / answered", ">= 70 / <= 2.5"),
    "sweagent_gpt4": (sweagent, "unresolved / resolved", ">= 10 / <= 1.5"),
    "tau_airline": (airline, "no reward / reward", "      / 0"),
    "intercode": (intercode, "unsolved / solved", ">= 60 / <= 2.5"),
    "mast (HyperAgent)": (mast, "labelled / not labelled", ">= 85 / <= 12"),
}
RULES: dict[str, Rule] = {
    "same twice": twice_in_a_row,
    "same call >= 3": thrice,
    "base rule": base_rule,
    "detector": detector,
}


def shares(flagged: Sequence[tuple[bool, bool]]) -> tuple[float, float]:
    """Percent flagged of the runs that should be, and of those that should not."""
    groups = [[flag for stuck, flag in flagged if stuck is which] for which in (True, False)]
    return tuple(100 * sum(group) / max(1, len(group)) for group in groups)  # type: ignore[return-value]


def halves(flagged: list[tuple[bool, bool]]) -> str:
    """The lowest and the highest share over random halves of the runs."""
    draw = random.Random(0)
    found = [shares(draw.sample(flagged, len(flagged) // 2)) for _ in range(200)]
    return " / ".join(f"{min(side):.0f}..{max(side):.0f}" for side in zip(*found, strict=True))


def figures(part: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    table, money = [], []
    for name, (load, measure, target) in SETS.items():
        runs = list(load(part))
        count = sum(run.stuck for run in runs)
        cells = []
        for title, rule in RULES.items():
            flags = [first_flag(run, rule) for run in runs]
            flagged = [(run.stuck, flag is not None) for run, flag in zip(runs, flags, strict=True)]
            cells.append("{:.1f} / {:.1f}".format(*shares(flagged)))
            if any(run.cost for run in runs):
                money.append((title, *saved(runs, flags)))
        table.append((name, measure, f"{count} / {len(runs) - count}", *cells, halves(flagged), target))
    return table, money


def saved(runs: Sequence[Run], flags: Sequence[int | None]) -> tuple[str, str]:
    """Dollars that stopping at the first flag would have saved on the stuck runs, and the other runs it would end."""
    stuck = [(run, flag) for run, flag in zip(runs, flags, strict=True) if run.stuck]
    spent = sum(sum(run.cost) for run, _ in stuck)
    kept = sum(sum(run.cost[flag:]) for run, flag in stuck if flag is not None)
    lost = sum(flag is not None and not run.stuck for run, flag in zip(runs, flags, strict=True))
    return f"{kept:.2f} of {spent:.2f} USD saved", f"{lost} of {len(runs) - len(stuck)} resolved runs lost"


# Settings, judged by runs they were not chosen on ------------------------------------------------------------------

OTHERS: dict[str, tuple[Any, ...]] = {
    "window": (8, 16), "repeats": (2, 4), "same_tool": (4, 7), "likeness": (0.4, 0.65), "news": (0.05, 0.2),
    "reworded_news": (0.7, 0.9), "points": (2, 4),
}  # fmt: skip
"""What each setting might be instead, one at a time."""
FOLDS = 5
DEAR = 10
"""A working run that is flagged weighs as much as so many stuck ones that are not."""
MOST = 150
"""Runs of each set that the folds are made of: each is judged by all settings."""


def worth(flagged: Sequence[tuple[bool, bool]]) -> list[float]:
    """What flagging each run, or not, is worth."""
    return [float(flag) if stuck else -DEAR * float(flag) for stuck, flag in flagged]


def chosen(by_setting: Sequence[Sequence[tuple[bool, bool]]], known: Sequence[int]) -> int:
    """The setting that is best on these runs; the default one, the first, unless it is so by a standard error."""
    values = [worth([flagged[i] for i in known]) for flagged in by_setting]
    best = max(range(len(values)), key=lambda n: sum(values[n]))
    more = [one - other for one, other in zip(values[best], values[0], strict=True)]
    return best if sum(more) > statistics.pstdev(more) * len(more) ** 0.5 else 0


def outer(part: str) -> Iterator[tuple[str, ...]]:
    """Each set's figures, the setting chosen on four fifths of all sets' runs and judged by the other fifth."""
    settings = [DETECTOR, *(LoopDetector(**{name: value}) for name, values in OTHERS.items() for value in values)]
    names = ["default", *(f"{name}={value}" for name, values in OTHERS.items() for value in values)]
    sets, runs = list[str](), list[Run]()
    for name, (load, *_) in SETS.items():
        found = list(load(part))
        found = random.Random(0).sample(found, min(MOST, len(found)))
        runs += found
        sets += [name] * len(found)
    flags = [[(run.stuck, first_flag(run, rule(each)) is not None) for run in runs] for each in settings]
    order = random.Random(1).sample(range(len(runs)), len(runs))
    judged: dict[str, list[tuple[bool, bool]]] = {}
    picks = Counter[str]()
    for fold in range(FOLDS):
        tested = set(order[fold::FOLDS])
        pick = chosen(flags, [i for i in order if i not in tested])
        picks[names[pick]] += 1
        for i in tested:
            judged.setdefault(sets[i], []).append(flags[pick][i])
    for name in SETS:
        here = [i for i, each in enumerate(sets) if each == name]
        yield (
            name,
            "{:.1f} / {:.1f}".format(*shares(judged[name])),
            "{:.1f} / {:.1f}".format(*shares([flags[0][i] for i in here])),
        )
    yield ("chosen", ", ".join(f"{name} in {count}" for name, count in picks.most_common()), "")


# Speed ------------------------------------------------------------------------------------------------------------


def history(length: int, calls: int) -> Iterator[BaseMessage]:
    """A run of ``length`` messages, then the given number of calls, every result new and of 2 KB."""
    yield HumanMessage("Compare the suppliers.")
    for i in range((length - 1) // 2 + calls):
        call = {
            "name": "search",
            "args": {"query": f"supplier {i % 7} terms of {i}"},
            "id": f"c{i}",
            "type": "tool_call",
        }
        yield AIMessage("", tool_calls=[call])
        yield ToolMessage(" ".join(f"word{i * 230 + k}" for k in range(230)), tool_call_id=f"c{i}")


def micros(length: int, repeat: bool) -> float:
    """The tenth fastest of a hundred model calls, each one call and one result after the other."""
    messages = list(history(length, 200))
    now, coming = messages[:-400], messages[-400:]
    times = []
    for call, result in zip(coming[::2], coming[1::2], strict=True):
        now += [now[-2], now[-1]] if repeat else [call, result]
        start = time.perf_counter()
        DETECTOR.check(recent(now, DETECTOR.window))
        times.append(time.perf_counter() - start)
    return statistics.quantiles(times, n=10)[0] * 1e6


def show(table: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> int:
    part = sys.argv[1] if len(sys.argv) > 1 else "dev"
    if not os.environ.get("COSTGUARD_DATA") or not (DATA / "agents_tau_airline" / f"{part}.jsonl.gz").is_file():
        print("The public data are not here: set COSTGUARD_DATA to their folder. No run was judged.")
    else:
        table, money = figures(part)
        print(f"Runs flagged, percent ({part} part); {DETECTOR}\n")
        show([("data set", "flagged of", "runs", *RULES, "detector, halves", "target"), *table])
        ended = [(run.stuck, second_flag(run)) for run in intercode(part)]
        print("\nEnded on InterCode, agents that do not heed the nudge, of unsolved / solved runs: ", end="")
        print("{:.1f} / {:.2f} (target <= 0.1)".format(*shares(ended)))
        print("\nStopping the SWE-agent runs at the first flag\n")
        show(money)
        print("\nOuter folds: a setting chosen on four fifths of the runs (150 of a set), judged by the fifth\n")
        show([("data set", "outer folds", "default"), *outer(part)])
        print()
    for length in (10, 10_000):
        times = " and ".join(f"{micros(length, again):.0f} us where the call {what}" for again, what in
                             ((False, "brings news"), (True, "is a repetition")))  # fmt: skip
        print(f"After {length:,} messages one check takes {times}, reading the messages included")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
