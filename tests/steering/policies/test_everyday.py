"""Everyday work that looks like a loop and is none: nobody is ended for it; and the loops that look like it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool

from langchain_costguard import CostGuard
from langchain_costguard.steering import LoopDetector, steer
from langchain_costguard.steering.policies.loops import Step, marked, recent
from langchain_costguard.testing import FakeProvider, Reply

TOWNS = ("Bergen", "Gent", "Porto", "Brno", "Turku", "Cork", "Lund", "Pécs", "Graz", "Split")
FIRMS = ("Acorn", "Birchwood", "Calder", "Dunmore", "Everly", "Fenwick", "Garnet", "Holloway", "Inverness", "Jasper")
TASKS = ("read the lease", "call the notary", "compare the rates", "draft the reply", "check the annex", "file it")


def asked(tool: str, key: str, pairs: list[tuple[str, str]]) -> list[Step]:
    return [Step(tool, {key: question}, answer) for question, answer in pairs]


def between(each: Callable[[int], Step], then: Step, times: int = 8) -> list[Step]:
    return [step for i in range(times) for step in (each(i), then)]


def todo(done: int) -> Step:
    states = ["completed" if i < done else "in_progress" if i == done else "pending" for i in range(len(TASKS))]
    todos = [{"content": task, "status": state} for task, state in zip(TASKS, states, strict=True)]
    return Step("keep_list", {"todos": todos}, f"Updated the list to {todos}")


EVERYDAY: dict[str, list[Step]] = {
    "a figure of ten towns, one after another": asked(
        "search", "query", [(f"rainfall in {town}", f"{town}: {600 + 37 * i} mm") for i, town in enumerate(TOWNS)]
    ),
    "the same in as many wordings": asked(
        "search",
        "query",
        [
            ("rainfall in Bergen", "Bergen has 2,495 mm of rain a year"),
            ("how much rain does Gent get in a year", "Gent gets 850 mm of rain"),
            ("Porto yearly rainfall", "Rain in Porto comes to 1,254 mm"),
            ("what is the rainfall of Brno in a year", "Some 505 mm fall on Brno"),
            ("rain per year in Turku", "In Turku 723 mm"),
            ("yearly rain in Cork", "Cork: 1,207 mm"),
        ],
    ),
    "who leads a firm": asked(
        "ask",
        "question",
        [
            (f"who is the head of {firm}", f"The head of {firm} is {name}.")
            for firm, name in zip(FIRMS, ("Ada Roe", "Bo Lind", "Cy Hart", "Di Moss", "Ed Lake"), strict=False)
        ],
    ),
    "tomorrow's weather": asked(
        "forecast",
        "place",
        [
            (f"weather in {town} tomorrow", f"{town} tomorrow: {sky}")
            for town, sky in zip(TOWNS, ("fog", "hail", "sleet", "sunny spells", "gusts", "drizzle"), strict=False)
        ],
    ),
    "a web search for each firm, with pages that are alike": asked(
        "search",
        "query",
        [
            (
                f"{firm} yearly turnover 2023",
                f"1. {firm} yearly report 2023 - turnover of {firm} was {41 + 7 * i}.{i} million. 2. {firm}: investors",
            )
            for i, firm in enumerate(FIRMS)
        ],
    ),
    "rows of each table": asked(
        "query", "sql", [(f"SELECT COUNT(*) FROM {name}", f"[({i * 911 + 17},)]") for i, name in enumerate(FIRMS)]
    ),
    "pages by OFFSET": [
        Step("query", {"query": f"SELECT name FROM staff LIMIT 2 OFFSET {2 * i}"}, f"[('{a}',), ('{b}',)]")
        for i, (a, b) in enumerate(zip(TOWNS, FIRMS, strict=True))
    ],
    "a query that is mended until it works": [
        Step("query", {"query": query}, answer)
        for query, answer in (
            ("SELECT name FROM staffs WHERE age > 30", "Error: no such table: staffs"),
            ("SELECT name FROM staff WHERE age > 30", "Error: no such column: age"),
            ("SELECT name FROM staff WHERE years > 30", "Error: no such column: years"),
            ("SELECT name FROM staff WHERE born < 1990", "Error: no such column: name"),
            ("SELECT full_name FROM staff WHERE born < 1990", "[('Ada Roe',), ('Bo Lind',)]"),
        )
    ],
    "pages by a cursor": [
        Step("orders", {"cursor": f"c{i * 77}"}, json.dumps({"open": [i * 3, i * 3 + 1], "next": f"c{(i + 1) * 77}"}))
        for i in range(10)
    ],
    "strings to be translated": asked(
        "translate",
        "text",
        [
            (f"{verb} the window", f"Fenster {deutsch}")
            for verb, deutsch in (
                ("Open", "öffnen"), ("Close", "schließen"), ("Clean", "putzen"), ("Lock", "verriegeln"),
                ("Break", "zerbrechen"), ("Paint", "streichen"),
            )
        ],
    ),
    "claims to be checked, most of them true": asked(
        "check",
        "claim",
        [
            (f"The firm {firm} has more than {i}0 thousand customers", f"Verdict: {'false' if i == 4 else 'true'}.")
            for i, firm in enumerate(FIRMS)
        ],
    ),
    "letters marked one by one": [
        Step("mark", {"id": f"m-{i * 31}"}, "The letter was marked as answered and put away with the others.")
        for i in range(10)
    ],
    "rows added to a sheet": [
        Step("add_row", {"town": town}, "The row has been added, and the sheet was saved and recalculated.")
        for town in TOWNS
    ],
    "files attached": [Step("attach", {"to": "1", "file": f"{firm}.pdf"}, "True") for firm in FIRMS],
    "tests run again after each edit": between(
        lambda i: Step("edit", {"path": f"m{i}.py", "text": f"def f{i}():\n    return {i}\n"}, f"edited m{i}.py"),
        Step("run_tests", {}, "collected 31 items, 31 passed"),
    ),
    "tests that fail on, after short edits": between(
        lambda i: Step("replace", {"old": f"x = {i}", "new": f"x = {i + 1}"}, "ok"),
        Step("shell", {"command": "pytest -q"}, "1 failed, 30 passed"),
        times=4,
    ),
    "the state of a checkout between writings": between(
        lambda i: Step("write", {"path": f"{TOWNS[i]}.md", "text": f"# {TOWNS[i]}\nA town.\n"}, f"wrote {TOWNS[i]}"),
        Step("shell", {"command": "git status --short"}, " M docs"),
    ),
    "a list kept while working": [
        step
        for i in range(6)
        for step in (todo(i), Step("work", {"task": TASKS[i]}, f"{TASKS[i]}: {FIRMS[i]} agreed"))
    ],
    "the host's own to-do list, written in a row": [
        Step("write_todos", {"todos": ["a"] * i}, "Updated") for i in range(5)
    ],
    "a job polled with pauses": between(
        lambda i: Step("sleep", {"seconds": 30}, "slept"), Step("job", {"id": 7}, "no result so far"), times=9
    ),
    "a job polled by a command with a pause in it": [Step("shell", {"command": "sleep 9; cat log"}, "nothing yet")] * 9,
    "a job that says it is under way": [Step("job", {"id": 7}, '{"state": "RUNNING"}')] * 9,
    "hand-offs to one worker that answers": [
        step
        for town in TOWNS
        for step in (Step("transfer_to_worker", {}, "Transferred to worker"), Step("worker", {}, f"{town} is done"))
    ],
    "hand-offs of a kind nobody has heard of, and work between": [
        step
        for i, town in enumerate(TOWNS)
        for step in (Step("assign", {}, "Assigned"), Step("look_up", {"town": town}, f"{town} has {i * 77} wells"))
    ],
}  # fmt: skip

STUCK: dict[str, list[Step]] = {
    "one town in other words, and nothing is found": asked(
        "search",
        "query",
        [(q, "No results found.") for q in ("rain in Gent", "Gent rain", "the rain in Gent", "rain fall in Gent")],
    ),
    "one question in other words, and the same pages": asked(
        "search",
        "query",
        [
            (q, "1. Home of Acorn. 2. About Acorn.")
            for q in ("acorn return policy", "return policy acorn", "acorn policy for returns", "the acorn policy")
        ],
    ),
    "a query that fails the same way whatever is changed": [
        Step("query", {"query": f"SELECT a FROM staffs WHERE {column} > 3"}, "Error: no such table: staffs")
        for column in ("age", "years", "born", "size", "height", "shoe", "hat")
    ],
    "the same query again and again": [Step("query", {"query": "SELECT 1 FROM a"}, "[]")] * 3,
    "the same edit and the same failure": between(
        lambda i: Step("edit", {"path": "m.py", "text": "def f():\n  return 1\n"}, "error: the edit does not apply"),
        Step("run_tests", {}, "1 failed"),
        times=3,
    ),
    "two agents that hand on to each other": [
        step
        for _ in range(3)
        for step in (Step("transfer_to_ada", {}, "Transferred to ada"), Step("transfer_to_bo", {}, "Transferred to bo"))
    ],
    "a worker that answers the same each time": [
        step
        for _ in range(4)
        for step in (Step("transfer_to_worker", {}, "Transferred"), Step("worker", {}, "I found nothing."))
    ],
}  # fmt: skip


def flagged(steps: list[Step], detector: LoopDetector | None = None) -> int | None:
    """After how many steps a loop was found."""
    detector = detector or LoopDetector()
    return next((made for made in range(1, len(steps) + 1) if detector.check(steps[:made])), None)


@pytest.mark.parametrize("kind", EVERYDAY)
def test_everyday_work_is_left_alone(kind: str) -> None:
    assert flagged(EVERYDAY[kind]) is None


@pytest.mark.parametrize("kind", STUCK)
def test_a_loop_that_looks_like_work_is_found(kind: str) -> None:
    assert flagged(STUCK[kind]) is not None


def run(steps: list[Step], **metadata: dict[str, str]) -> tuple[int, str]:
    """The same calls by an agent that is steered: how many were made, and what it said at last."""
    results = iter(steps)

    def tool(name: str) -> StructuredTool:
        keys = sorted({key for step in steps if step.name == name for key in step.arguments})
        schema = {"type": "object", "properties": {key: {} for key in keys}}
        func = lambda **_: next(results).result  # noqa: E731
        return StructuredTool(name=name, description=name, args_schema=schema, func=func, metadata=metadata.get(name))

    def reply(request: Any) -> Any:
        made = sum(message["role"] == "assistant" for message in request.messages)
        return Reply(tool_calls=[(steps[made].name, steps[made].arguments)]) if made < len(steps) else "All done."

    with FakeProvider(reply) as provider:
        tools = [tool(name) for name in dict.fromkeys(step.name for step in steps)]
        agent = create_agent(provider.openai("gpt-4o"), tools=tools, middleware=steer(CostGuard()))
        out = agent.invoke({"messages": [("user", "Go on.")]}, config={"recursion_limit": 100})
    return len(steps) - len(list(results)), out["messages"][-1].text


@pytest.mark.parametrize("kind", ["a figure of ten towns, one after another", "tests run again after each edit"])
def test_an_agent_does_its_everyday_work_to_the_end(kind: str) -> None:
    assert run(EVERYDAY[kind]) == (len(EVERYDAY[kind]), "All done.")


@pytest.mark.parametrize("mark", ["poll", "handoff", "note"])
def test_a_tool_may_say_what_it_is(mark: str) -> None:
    def steps(of: str) -> list[Step]:
        return between(lambda i: Step("look", {"at": TOWNS[i]}, FIRMS[i]), Step(of, {"at": "the door"}, "nobody"))

    made, said = run(steps("ask"))
    assert made < 16
    assert said != "All done."
    assert run(steps("ask"), ask={"costguard": mark}) == (16, "All done.")


def test_tools_are_exempt_by_name_or_pattern() -> None:
    polls = [Step("door_bell", {}, "nobody is there")] * 20
    assert flagged(polls) == 3
    assert flagged(polls, LoopDetector(exempt=("door_*",))) is None
    with pytest.raises(ValueError, match=r"exempt: 'door' must be a list of names"):
        LoopDetector(exempt="door")  # type: ignore[arg-type]


def test_only_marks_that_are_known_count() -> None:
    def tool(name: str, metadata: Any) -> StructuredTool:
        return StructuredTool.from_function(lambda: "", name=name, description=name, metadata=metadata)

    given = [tool("a", {"costguard": "poll"}), tool("b", {"costguard": "what"}), tool("c", None), {"name": "d"}]
    assert marked(given) == {"a": "poll"}


def test_what_another_agent_said_between_two_hand_offs_is_a_step() -> None:
    messages: list[BaseMessage] = [HumanMessage("go")]
    for i, town in enumerate(TOWNS):
        call = {"name": "transfer_to_worker", "args": {}, "id": f"c{i}", "type": "tool_call"}
        messages += [AIMessage("", name="boss", tool_calls=[call]), ToolMessage("Transferred", tool_call_id=f"c{i}")]
        messages.append(AIMessage(f"{town} is done.", name="worker"))
    steps = recent(messages, 12)
    assert steps[-1] == Step("worker", {}, f"{TOWNS[-1]} is done.")
    assert flagged(steps) is None
