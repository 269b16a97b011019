"""``costguard context plan``: what each policy would have come to on recorded conversations, and what to choose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, messages_to_dict
from langchain_core.messages.utils import convert_to_openai_messages
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from langchain_costguard.cli import main

FORMS = {
    "langchain-core's dumpd": lambda run: [dumpd(message) for message in run],
    "messages_to_dict": messages_to_dict,
    "OpenAI's": convert_to_openai_messages,
}


def recorded(steps: int, boat: str = "Daisy-77") -> list[BaseMessage]:
    run: list[BaseMessage] = [HumanMessage(f"Find the berth of {boat}.")]
    for n in range(steps):
        found = f"b-{n} has {n}{n}1 bells. " + f"line {n} of the book\n" * 150
        run.append(AIMessage(f"I look at b-{n}.", tool_calls=[{"name": "look", "args": {"berth": n}, "id": f"c{n}"}]))
        run.append(ToolMessage(found, tool_call_id=f"c{n}"))
    return [*run, AIMessage("It is berth 7.")]


@pytest.mark.parametrize("form", FORMS)
def test_long_runs_are_told_to_be_cut_and_compacted(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.jsonl"
    lines = [{"agent": "research", "messages": FORMS[form](recorded(24))}, {"agent": "other", "messages": []}]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    assert main(["context", "plan", str(path), "--agent", "research", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in shown["rows"]}
    assert rows["none"]["calls"] == 25
    assert rows["Context(cap=400)"]["money"] < -0.2
    assert rows["30/25/45 at each call"]["money"] > 0
    assert shown["advice"].startswith("Context(cap=400)")


def test_short_runs_are_told_that_nothing_is_worth_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(messages_to_dict([HumanMessage("Hello"), AIMessage("Hello")])), "utf-8")
    assert main(["context", "plan", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "No policy is worth it" in shown
    assert "ClearToolUsesEdit " in shown
    assert max(map(len, shown.splitlines()[:11])) <= 80


def test_the_runs_in_a_checkpointer_s_file_are_found_by_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], complaint: Callable[..., str]
) -> None:
    path = str(tmp_path / "threads.db")
    with SqliteSaver.from_conn_string(path) as saver:
        builder = StateGraph(MessagesState).add_node("model", lambda state: {"messages": []}).add_edge(START, "model")
        graph = builder.compile(checkpointer=saver)
        for thread in ("t1", "t2"):
            graph.invoke(
                {"messages": recorded(9, thread)},
                {"configurable": {"thread_id": thread}, "metadata": {"agent": "harbour"}},
            )
    assert main(["context", "plan", path, "--agent", "harbour", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["calls"] == 20
    assert complaint("context", "plan", path, "--agent", "nobody").endswith("its agents are harbour")


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (None, [], "runs.jsonl: No such file or directory"),
        ("", [], "runs.jsonl: no conversations; a line is one: "),
        ('{"messages": 7}', [], "runs.jsonl, line 1: no conversation: "),
        ("[[]", [], "runs.jsonl, line 1: no conversation: "),
        ("RUN", ["--model", "nobody:model-x"], "--model: no price is known of 'nobody:model-x'"),
    ],
)
def test_what_cannot_be_read_or_priced_is_told_in_one_line(
    text: str | None, words: list[str], said: str, tmp_path: Path, complaint: Callable[..., str]
) -> None:
    path = tmp_path / "runs.jsonl"
    if text is not None:
        path.write_text(json.dumps(messages_to_dict(recorded(1))) if text == "RUN" else text, "utf-8")
    assert complaint("context", "plan", str(path), *words).removeprefix(f"{tmp_path}/").startswith(said)
