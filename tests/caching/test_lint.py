"""The linter finds what breaks a shared prefix, says where and what it costs, and leaves alone what costs nothing."""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, messages_to_dict

from langchain_costguard import Price
from langchain_costguard.caching.prompt import lint_prompts
from langchain_costguard.caching.prompt.differences import stretches
from langchain_costguard.caching.prompt.findings import Finding, Findings
from langchain_costguard.caching.prompt.prompt import Schemas, prompt_of
from langchain_costguard.caching.prompt.records import Record, read_lines
from langchain_costguard.caching.prompt.watching import Watching
from langchain_costguard.metering.pricing.prices import PriceBook

START = 1_767_225_600
HANDBOOK = "\n".join(
    f"{number}. {rule}"
    for number, rule in enumerate(
        [
            "Greet whoever writes, and ask what they need before you look anything up.",
            "Never promise a refund; say that a colleague will look at the order.",
            "Quote prices in the currency of the order, with the tax included.",
            "Where an order is late, look up the carrier first and tell what it says.",
            "If somebody is angry, apologise once and go on to what can be done.",
        ]
        * 20,
        1,
    )
)
QUESTIONS = [
    "Where is my order?",
    "Can I return a lamp that I bought last month and never unpacked?",
    "Why was I charged twice?",
    "How do I change the address of a parcel that is on its way already?",
    "Do you ship to Norway, and what would that cost for a desk?",
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name.replace('_', ' ')}. "
            + "Takes the number of an order, as it is on the invoice. " * 6,
            "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
        },
    }
    for name in ("find_order", "track_parcel", "open_ticket", "list_invoices")
]
BOOK = PriceBook({"gpt-4o": Price(input="2.50", output="10", cache_read="1.25")})


def records(
    system: Callable[[int], str] = lambda number: HANDBOOK,
    question: Callable[[int], str] = lambda number: QUESTIONS[number % 5],
    *,
    count: int = 20,
    tools: Callable[[int], list[Any]] | None = None,
    feature: str = "support",
    model: str = "gpt-4o",
) -> list[dict[str, Any]]:
    """A request a minute."""
    made = []
    for number in range(count):
        messages = [
            {"role": "system", "content": system(number)},
            {"role": "user", "content": question(number)},
        ]
        row: dict[str, Any] = {"at": START + 60 * number, "feature": feature, "model": model, "messages": messages}
        if tools is not None:
            row["tools"] = tools(number)
        made.append(row)
    return made


def lint(rows: list[dict[str, Any]]) -> Findings:
    return lint_prompts(rows, prices=BOOK)


def only(rows: list[dict[str, Any]]) -> Finding:
    (finding,) = lint(rows)
    return finding


def clock(number: int) -> str:
    return f"2026-01-31T{12 + number // 60}:{number % 60:02}:07Z"


def uuid(number: int) -> str:
    return str(UUID(int=random.Random(number).getrandbits(128), version=4))


# What is a problem


@pytest.mark.parametrize(
    ("top", "kind"),
    [
        (lambda n: f"Current time: {clock(n)}", "timestamp"),
        (lambda n: f"Today is Monday, January {n + 1}, 2026, {n % 12 + 1}:{n:02} pm.", "timestamp"),
        (lambda n: f"now={START + n}", "timestamp"),
        (lambda n: f"Trace {uuid(n)}.", "UUID"),
        (lambda n: f"request_id: {random.Random(n).randrange(10**7)}", "id"),
        (lambda n: f"[run-{random.Random(n).getrandbits(40):010x}]", "id"),
        (lambda n: f"You are helping {['Ann', 'Bo Berg', 'Chris', 'Dora', 'Eve'][n % 5]} today.", "name"),
        (lambda n: f"The user's name is {['Ann', 'Bo', 'Chris', 'Dora', 'Eve'][n % 5]}", "name"),
        (lambda n: f"Account: {['ann', 'bo', 'chris'][n % 3]}{n}@example.com", "e-mail address"),
        (lambda n: f"There are {n * 3 + 7} open tickets.", "number"),
        (
            lambda n: f"Tip: {random.Random(n).choice(['be swift', 'stay calm', 'smile'])} {QUESTIONS[n % 5]}",
            "changing text",
        ),
    ],
)
def test_what_changes_at_the_top_of_the_system_prompt_is_named(top: Callable[[int], str], kind: str) -> None:
    rows = records(lambda number: f"{top(number)}\n{HANDBOOK}")
    found = lint(rows)

    assert [each.kind for each in found] == [kind]
    (finding,) = found
    assert (finding.feature, finding.model, finding.where) == ("support", "gpt-4o", "system message")
    text = rows[-1]["messages"][0]["content"]
    assert 0 <= finding.start < finding.end <= text.index("\n")
    assert text[finding.start : finding.end].strip()
    assert finding.tokens > 1_000
    assert finding.since == START + 60 if kind != "name" else finding.since is not None


def test_the_characters_are_those_of_the_whole_timestamp() -> None:
    finding = only(records(lambda number: f"Now: {clock(number)}. Be brief.\n{HANDBOOK}"))
    assert (finding.start, finding.end) == (5, 25)
    assert "2026-01-31T12:19:07Z" in finding.excerpt
    assert finding.times == finding.calls == 19


def test_what_it_costs_a_day_is_the_lost_tokens_at_the_observed_rate() -> None:
    found = lint(records(lambda number: f"Now: {clock(number)}.\n{HANDBOOK}"))
    (finding,) = found
    calls_a_day = 24 * 60 * 19 / 20  # of twenty, one had none before it
    dollars = Decimal(finding.tokens) * Decimal("1.25") / 10**6 * Decimal(calls_a_day)
    assert found.to_dicts()[0]["usd_per_day"] == pytest.approx(dollars, rel=Decimal("0.02"))
    assert found.per_day == finding.per_day


def test_all_of_several_are_found_and_their_sum_counts_nothing_twice() -> None:
    half = len(HANDBOOK) // 2
    found = lint(
        records(lambda n: f"Now {clock(n)}, trace {uuid(n)}.\n{HANDBOOK[:half]}\nVisit {n * 7 + 3}\n{HANDBOOK[half:]}")
    )
    assert {each.kind for each in found} == {"timestamp", "UUID", "number"}
    first, second, third = sorted(found, key=lambda each: each.start)
    assert (first.kind, second.kind, third.kind) == ("timestamp", "UUID", "number")
    assert found.per_day == first.per_day == found[0].per_day
    assert third.per_day < first.per_day
    assert third.tokens == pytest.approx(first.tokens / 2, rel=0.1)


def test_tools_in_another_order_each_time() -> None:
    rows = records(tools=lambda n: random.Random(n).sample(TOOLS, 4))
    (finding,) = lint(rows)
    assert finding.kind == "tool order"
    assert (finding.where, finding.since) == ("tools", START + 60)
    assert finding.times >= 14  # of 19: sometimes one of the last eight had the same order
    assert "find_order" in finding.excerpt
    assert finding.tokens > 1_000


def test_keys_of_a_schema_in_another_order() -> None:
    def turned(number: int) -> list[Any]:
        function = TOOLS[1]["function"]
        items = list(function.items())  # type: ignore[attr-defined]
        return [TOOLS[0], {"type": "function", "function": dict(items[:: 1 if number % 2 else -1])}, *TOOLS[2:]]

    rows = records(tools=turned)
    for row in rows[1::2]:  # with the last eight to choose from, every other is the same again
        row["feature"] = "support"
    found = lint_prompts([rows[0], rows[1]], prices=BOOK)
    assert [(each.kind, each.where) for each in found] == [("key order", "tool 2 (track_parcel)")]


def test_json_in_the_system_prompt_with_its_keys_in_another_order() -> None:
    settings = {f"setting_{number}": number for number in range(12)}

    def system(number: int) -> str:
        items = list(settings.items())
        random.Random(number).shuffle(items)
        return f"Settings: {json.dumps(dict(items))}\n{HANDBOOK}"

    finding = only(records(system))
    assert (finding.kind, finding.where, finding.start) == ("key order", "system message", 10)


def test_a_timestamp_before_the_documents_in_the_users_message() -> None:
    finding = only(records(question=lambda n: f"({clock(n)})\n{HANDBOOK.upper()}\nQuestion: {QUESTIONS[n % 5]}"))
    assert (finding.kind, finding.where) == ("timestamp", "message 2 (user)")


def test_a_question_before_the_documents_is_in_the_wrong_place() -> None:
    words = [word.strip(".,;:") for word in HANDBOOK.split() if word[0].isalpha()]
    asked = [" ".join(random.Random(number).sample(words, 9)) for number in range(20)]
    finding = only(records(question=lambda n: f"{asked[n]}?\nUse this:\n{HANDBOOK.upper()}"))
    assert finding.kind == "changing text"
    assert finding.where == "message 2 (user)"


def test_a_conversation_whose_first_messages_are_dropped() -> None:
    rows, turns = [], [{"role": "system", "content": HANDBOOK}]
    for number in range(24):
        turns += [{"role": "user", "content": QUESTIONS[number % 5] + str(number)}]
        kept = [turns[0], *turns[1:][-9:]]
        rows.append({"at": START + 20 * number, "model": "gpt-4o", "messages": kept})
        turns += [{"role": "assistant", "content": f"Answer {number}: " + HANDBOOK[number * 40 : number * 40 + 400]}]
    found = lint(rows)
    assert "shortened history" in {each.kind for each in found}


# What is none


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(records(), id="the question at the end differs"),
        pytest.param(records(tools=lambda n: TOOLS), id="with tools"),
        pytest.param(records(question=lambda n: f"It is {clock(n)}. {QUESTIONS[n % 5]}"), id="the time at the end"),
        pytest.param(records(lambda n: f"{HANDBOOK}\nNow: {clock(n)}"), id="the time at the end of the system prompt"),
        pytest.param(records(lambda n: HANDBOOK if n < 10 else f"New: be kind.\n{HANDBOOK}"), id="a new version"),
        pytest.param(records(lambda n: [HANDBOOK, HANDBOOK[::-1]][n % 2]), id="two prompts in turn"),
        pytest.param(records(lambda n: f"Now: {clock(n)}. Be brief."), id="too short to be kept"),
        pytest.param(records(lambda n: f"{clock(n)}\n{HANDBOOK}", count=1), id="a single request"),
        pytest.param([], id="none at all"),
        pytest.param(
            [
                {**row, "at": START + 7_200 * number}
                for number, row in enumerate(records(lambda n: f"{clock(n)}\n{HANDBOOK}"))
            ],
            id="so rare that nothing would be kept",
        ),
    ],
)
def test_what_costs_nothing_is_no_finding(rows: list[dict[str, Any]]) -> None:
    found = lint(rows)
    assert list(found) == []
    assert found.per_day == 0
    assert str(found).startswith("Nothing breaks the prefix")


def test_conversations_that_grow_side_by_side_are_no_finding() -> None:
    rows = []
    talks: dict[int, list[dict[str, str]]] = {who: [{"role": "system", "content": HANDBOOK}] for who in range(4)}
    draw = random.Random(1)
    for number in range(40):
        talk = talks[draw.randrange(4)]
        talk.append({"role": "user", "content": f"{draw.choice(QUESTIONS)} {draw.random()}"})
        rows.append({"at": START + number, "feature": "chat", "model": "gpt-4o", "messages": list(talk)})
        talk.append({"role": "assistant", "content": " ".join(draw.sample(HANDBOOK.split(), 80))})
    assert list(lint(rows)) == []


def test_a_name_is_no_break_for_the_user_who_comes_back() -> None:
    rows = records(lambda n: f"You help {'Ann' if n < 10 else 'Bo'}.\n{HANDBOOK}")
    assert list(lint(rows)) == []  # one change of user in twenty calls


# Shapes


SHAPES: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "OpenAI": lambda s, u: {"messages": [{"role": "system", "content": s}, {"role": "user", "content": u}]},
    "OpenAI parts": lambda s, u: {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": s}]},
            {"role": "user", "content": [{"type": "text", "text": u}]},
        ]
    },
    "Responses": lambda s, u: {"instructions": s, "input": u},
    "Anthropic": lambda s, u: {
        "system": [{"type": "text", "text": s, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": u}],
    },
    "in a body": lambda s, u: {"body": {"system": s, "messages": [{"role": "user", "content": u}], "model": "gpt-4o"}},
    "LangChain dicts": lambda s, u: {"messages": messages_to_dict([SystemMessage(s), HumanMessage(u)])},
    "LangChain dumps": lambda s, u: {"messages": [[dumpd(SystemMessage(s)), dumpd(HumanMessage(u))]]},
    "LangChain short": lambda s, u: {"messages": [{"type": "system", "content": s}, {"type": "human", "content": u}]},
    "pairs": lambda s, u: {"messages": [["system", s], ["human", u]]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_common_shape_is_read(shape: str) -> None:
    lines = []
    for number in range(6):
        row = SHAPES[shape](f"Now: {clock(number)}\n{HANDBOOK}", QUESTIONS[number % 5])
        lines.append(json.dumps({"timestamp": clock(number), "metadata": {"feature": "f"}, "model": "gpt-4o", **row}))
    read, skipped = read_lines(lines)
    assert skipped == []
    (finding,) = lint_prompts(read, prices=BOOK)
    assert (finding.kind, finding.where, finding.start, finding.feature) == ("timestamp", "system message", 5, "f")


def test_messages_with_tool_calls_are_read() -> None:
    call = {"name": "search", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}
    rows = [{"model": "gpt-4o", "messages": [dumpd(HumanMessage(HANDBOOK)), dumpd(AIMessage("", tool_calls=[call]))]}]
    assert lint(rows).calls == 1


def test_times_that_are_missing_leave_the_cost_open() -> None:
    rows = [{k: v for k, v in row.items() if k != "at"} for row in records(lambda n: f"{uuid(n)}\n{HANDBOOK}")]
    found = lint(rows)
    assert [each.per_day for each in found] == [None]
    assert found.per_day is None
    assert "is not known" in str(found)


def test_a_model_nobody_has_a_price_for_leaves_the_cost_open() -> None:
    found = lint(records(lambda n: f"{uuid(n)}\n{HANDBOOK}", model="my-own"))
    assert [each.per_day for each in found] == [None]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{oops", "no JSON"),
        ("[1]", "must be an object"),
        ("{}", "messages: missing"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "model: None must be a name"),
        ('{"model": "m", "messages": 5}', "messages: '5' must be a list or a text"),
        ('{"model": "m", "messages": [5]}', "messages: '5' is no message"),
        ('{"model": "m", "messages": [{"content": "x"}]}', "has no role"),
        ('{"model": "m", "messages": "x", "tools": 5}', "tools: '5' must be a list"),
        ('{"model": "m", "messages": "x", "at": "yesterday"}', "at: 'yesterday' is no time"),
    ],
)
def test_a_line_that_is_no_record_is_told_by_its_number(line: str, said: str) -> None:
    read, skipped = read_lines(["", json.dumps(records()[0]), line])
    assert len(read) == 1
    assert len(skipped) == 1
    assert skipped[0].startswith("line 3: ")
    assert said in skipped[0]


def test_records_that_cannot_be_read_are_kept_count_of_in_a_notebook() -> None:
    found = lint([*records(), {"model": "m"}])
    assert found.skipped == [
        "record 21: messages: missing; a record has 'model' and 'messages' (or 'input', or 'prompt')"
    ]


def test_the_table_is_a_table_in_jupyter_too_and_runs_nothing() -> None:
    found = lint(records(lambda n: f"<b>{uuid(n)}</b>\n{HANDBOOK}"))
    assert "<table>" in found._repr_html_()
    assert "<b>" not in found._repr_html_()
    assert "a day" in str(found)


def test_texts_of_any_script_and_size_are_compared() -> None:
    long = "港は六時に開きます。" * 3_000
    (finding,) = lint(records(lambda n: f"時刻 {clock(n)}\n{long}", count=4))
    assert finding.kind == "timestamp"
    noise = [" ".join(str(random.Random(n * 7 + i).random()) for i in range(4_000)) for n in range(3)]
    assert list(lint(records(lambda n: noise[n], count=3))) == []


def test_spaces_alone_are_not_what_two_texts_share() -> None:
    shared = [each for each in stretches("one two three four", "five six seven eight") if each.same]
    assert shared == []
    (same,) = [each for each in stretches("one and the same, two", "five and the same, six") if each.same]
    assert (same.start, same.end) == (4, 19)


def records_alive() -> list[Record]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, Record)]


def test_of_a_running_program_only_so_much_is_remembered() -> None:
    watching, schemas = Watching(BOOK), Schemas()
    kept = len(records_alive())
    for number in range(80):
        messages = [SystemMessage(HANDBOOK), HumanMessage(f"{number}?")]
        request = SimpleNamespace(model=None, messages=messages)
        watching.see(prompt_of(request, schemas), model="gpt-4o", feature=f"tenant {number}", now=START + number)
    assert len(records_alive()) - kept <= 50
