"""When a run counts as stuck, and when the same tool over and over is work."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_costguard.steering.policies.likeness import words
from langchain_costguard.steering.policies.loops import NUDGE, Loop, LoopDetector, Step, nudges, recent

PAGE = (
    "Orchards of the northern valley were replanted after the frost with hardier rootstock",
    "Ferries crossed twice daily until the bridge opened and their crews found other employment",
    "Glass kilns along the canal burned birch because coal barges seldom reached that far upstream",
    "Every autumn a fair brought cloth merchants whose ledgers survive inside the parish archive",
    "Schoolmasters kept weather diaries noting hail, drought, comets and the first swallow",
    "Quarry owners dug tunnels beneath pasture, leaving sinkholes nobody mapped for decades",
    "Millers petitioned against new weirs since water rarely turned both wheels at once",
)
NOTHING = "No document in the archive matches this request, please try another one"


def first(steps: list[Step], detector: LoopDetector | None = None) -> tuple[str, int] | None:
    """What kind of loop is found, and after how many steps."""
    detector = detector or LoopDetector()
    for made in range(1, len(steps) + 1):
        loop = detector.check(steps[:made])
        if loop:
            return loop.kind, made
    return None


def searches(*queries: str, result: str = NOTHING) -> list[Step]:
    return [Step("search", {"query": query}, result) for query in queries]


STUCK = {
    "the same call with the same result, three times": (
        [Step("status", {"job": 7}, "as it was")] * 3,
        ("repeat", 3),
    ),
    "the same call, its arguments in another order and case": (
        [
            Step("find", {"city": "Lyon", "street": "Rue Bleue"}, "nothing"),
            Step("find", {"street": "rue  bleue", "city": "LYON"}, "nothing"),
            Step("find", '{"street": "Rue Bleue", "city": "Lyon"}', "nothing"),
        ],
        ("repeat", 3),
    ),
    "one search in other words": (
        searches("canal bridge opening year", "opening year of the canal bridge", "year canal bridge opening date"),
        ("near-repeat", 3),
    ),
    "one search in other words with answers that differ a little": (
        [
            Step("search", {"query": q}, f"Nothing found for {q}; see {hint}")
            for q, hint in (
                ("founder of the harbour chapel", "chapels"),
                ("harbour chapel founder name", "harbours"),
                ("who was the harbour chapel founder", "founders"),
            )
        ],
        ("near-repeat", 3),
    ),
    "one search in other words, in a script without spaces": (
        searches("京都の紅葉の見頃", "京都の紅葉の見頃はいつ", "紅葉の見頃 京都の名所"),
        ("near-repeat", 3),
    ),
    "one search in other words, in Cyrillic": (
        searches("когда построен мост", "мост когда был построен", "год когда построен мост"),
        ("near-repeat", 3),
    ),
    "names that all lead nowhere": (
        [Step("lookup", {"name": name}, NOTHING) for name in ("ash", "birch", "cedar", "dogwood", "elm")],
        ("near-repeat", 4),
    ),
    "two calls in turn": (
        [Step("open", {"path": "a.txt"}, "alpha"), Step("open", {"path": "b.txt"}, "beta")] * 2,
        ("cycle", 4),
    ),
    "three calls in turn": (
        [Step("read", {}, ""), Step("plan", {}, ""), Step("write", {}, "")] * 2,
        ("cycle", 5),
    ),
    "the same pages again": (
        [Step("page", {"n": n}, PAGE[n]) for n in (1, 2, 3, 1, 2)],
        ("cycle", 5),
    ),
    "further pages with nothing more on them": (
        [Step("page", {"n": n}, "There are no more entries in this list of results") for n in range(9)],
        ("near-repeat", 4),
    ),
    "an error that comes back whatever is sent": (
        [Step("pay", {"amount": n}, f"Card declined (request {n}77)", True) for n in (1, 2, 3)],
        ("failures", 3),
    ),
    "an edit that fails the same way four times": (
        [Step("edit", {"text": "def f():\nreturn 1"}, "syntax error: unexpected indent")] * 4,
        ("repeat", 4),
    ),
    "other edits of one file, five in a row, all told the same": (
        [Step("edit", {"text": f"def {f}():\nx"}, "The edit broke the file: it no longer compiles") for f in "abcdef"],
        ("one-tool", 5),
    ),
}  # fmt: skip

WORKING = {
    "paging": [Step("page", {"n": n}, PAGE[n]) for n in range(7)],
    "scrolling: the same call with another screen": [Step("scroll", {"by": 100}, text) for text in PAGE],
    "polling until something changes": [
        Step("status", {"job": 7}, text) for text in ("queued", "starting", "10 % done", "60 % done", "closing", "done")
    ],
    "waiting between polls that move on": [
        step
        for text in ("queued", "starting", "10 %", "60 %", "90 %", "done")
        for step in (Step("sleep", {"seconds": 5}, "slept for the whole of the time asked for"), Step("poll", {}, text))
    ],
    "a list, each item with its own answer": [
        Step("staff", {"name": name}, f'{{"name": "{name}", "room": {n}}}')
        for n, name in enumerate(("ada", "bo", "cy", "di", "ed", "flo"))
    ],
    "a list, where the answers name the item and are else alike": [
        Step("staff", {"name": name}, f'{{"name": "{name}", "department": "sales"}}')
        for name in ("ada", "bo", "cy", "di", "ed", "flo")
    ],
    "a list of deeds, each acknowledged": [
        Step("delete", {"path": f"{name}.txt"}, "deleted") for name in ("ash", "birch", "cedar", "elm", "fir", "gum")
    ],
    "commands that say nothing": [
        Step("shell", {"command": command}, "") for command in ("cd src", "mkdir out", "cp a b", "rm a", "cd ..")
    ],
    "searches in like words that find something": [
        Step("search", {"query": f"valley history of {what}"}, text)
        for what, text in zip(("orchards", "ferries", "kilns", "fairs", "schools"), PAGE, strict=False)
    ],
    "one call twice": [Step("status", {}, "queued")] * 2,
    "three identical edits": [Step("edit", {"text": "a = 1\nb = 2"}, "syntax error")] * 3,
    "editing and testing with other outcomes": [
        step
        for n in range(6)
        for step in (Step("edit", {"text": f"x = {n}\n" * 9}, "File updated"), Step("test", {}, f"{9 - n} failed"))
    ],
    "three different failures": [
        Step("pay", {}, text, True) for text in ("card declined", "card expired", "network unreachable")
    ],
    "failures with a success between": [
        Step("pay", {"to": "ada"}, "card declined", True), Step("pay", {"to": "bo"}, "paid 3"),
        Step("pay", {"to": "cy"}, "card declined", True), Step("pay", {"to": "di"}, "paid 4"),
    ],
    "nothing yet": [],
}  # fmt: skip


@pytest.mark.parametrize("case", STUCK)
def test_a_stuck_run_is_told(case: str) -> None:
    steps, expected = STUCK[case]
    assert first(steps) == expected


@pytest.mark.parametrize("case", WORKING)
def test_progress_is_not_called_a_loop(case: str) -> None:
    assert first(WORKING[case]) is None


def test_where_results_are_not_known_the_calls_decide() -> None:
    assert first([Step("search", {"query": "a"}), Step("fetch", {"id": 1}), Step("search", {"query": "b"})]) is None
    assert first([Step("search", {"query": "a"})] * 3) == ("repeat", 3)
    assert first([Step("search", {"query": name}) for name in "abcd"]) == ("near-repeat", 4)


def test_the_verdict_names_tools_and_counts_but_nothing_that_was_said() -> None:
    loop = LoopDetector().check([Step("mail", {"to": "secret@example.com"}, "secret bounced")] * 3)
    assert loop == Loop("repeat", "mail", 3, "mail was called 3 times with the same result")
    for steps, _ in STUCK.values():
        found = LoopDetector().check(steps)
        assert found is None or "archive" not in found.why


def test_the_base_rule_looks_at_names_alone() -> None:
    paging = WORKING["paging"]
    assert first(paging, LoopDetector.simple()) == ("one-tool", 5)
    mixed = [*paging[:4], Step("note", {}, "ok")]
    assert first(mixed * 2, LoopDetector.simple()) is None, "four of five are 80 %, not more"


def test_numbers_may_differ_where_a_question_is_put_in_words() -> None:
    years = [
        Step("search", {"query": f"harvest in the valley in {year}"}, PAGE[year - 1901]) for year in range(1901, 1906)
    ]
    assert first(years) is None


def test_what_an_acknowledgement_echoes_is_not_counted() -> None:
    sent = [Step("mail", {"to": f"{name}@example.com"}, f"Mail sent to {name}@example.com") for name in "abcdefg"]
    assert first(sent) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", 1), ("window", 101), ("window", True), ("window", "5"), ("repeats", 0), ("repeats", 1.5),
        ("same_tool", 1), ("same_tool", 99), ("repeats", 13), ("points", 0), ("likeness", 0), ("likeness", 1.01),
        ("news", "much"), ("news", float("nan")), ("reworded_news", -1), ("by_name", 1),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named_with_its_value(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        LoopDetector(**{field: value})
    assert repr(value) in str(caught.value)


class Sour:
    """An argument that cannot be hashed, and does not let itself be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")


def nested(depth: int) -> Any:
    inner: Any = 1
    for _ in range(depth):
        inner = {"in": inner}
    return inner


@pytest.mark.parametrize(
    "arguments",
    [
        {"rows": [{"a": [1, 2, {"b": None}]}]}, nested(5_000), {"text": "x" * 1_000_000}, {1, 2}, None, "", "{not json",
        "[" * 5_000, MappingProxyType({"a": 1}), {"é": "\ud800"}, b"bytes", 7, {"a": float("nan")},
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:12] if not isinstance(value, dict) else len(value)}",
)  # fmt: skip
def test_arguments_of_any_shape_are_compared(arguments: Any) -> None:
    assert first([Step("tool", arguments, "the same old thing")] * 4) in (("repeat", 3), ("repeat", 4))


def test_arguments_that_cannot_be_compared_are_different() -> None:
    assert first([Step("tool", {"x": Sour()}, f"{PAGE[i]}") for i in range(5)]) is None


TEXTS = st.text(alphabet="ab 1é京\n{", max_size=12)
ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
STEPS = st.lists(
    st.builds(Step, st.sampled_from("ab"), ARGUMENTS, st.none() | TEXTS | st.sampled_from(PAGE), st.booleans()),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_only_the_window_counts_and_nothing_raises(steps: list[Step]) -> None:
    detector = LoopDetector()
    assert detector.check(steps) == detector.check(steps[-detector.window :]) == detector.check(tuple(steps))


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=30), st.sampled_from(["page", "item"]))
@settings(max_examples=50, deadline=None)
def test_steps_that_differ_in_call_and_result_are_never_a_loop(ids: list[int], key: str) -> None:
    assert first([Step("fetch", {key: i}, f"record {i} weighs {i + 1} grams") for i in ids]) is None


def test_words_are_read_in_any_script() -> None:
    assert words("Straße, STRASSE! and 42") == {"strasse", "and", "42"}
    assert words("東京都 x") == {"東京", "京都", "x"}
    assert words("ไทย") == {"ไท", "ทย"}
    assert words("...") == frozenset()


def test_of_a_long_text_beginning_middle_and_end_are_read() -> None:
    text = " ".join(f"w{i}" for i in range(9_999))
    assert {"w0", "w9998"} <= words(text)
    assert len(words(text)) < 300


# From messages


def ai(
    *calls: tuple[str, Any, str | None], bad: tuple[tuple[str | None, str | None, str | None], ...] = ()
) -> AIMessage:
    invalid = [{"name": n, "args": a, "id": i, "error": "not JSON", "type": "invalid_tool_call"} for n, a, i in bad]
    made = [{"name": n, "args": a, "id": i, "type": "tool_call"} for n, a, i in calls]
    return AIMessage("", tool_calls=made, invalid_tool_calls=invalid)


def told(content: Any, call_id: str, *, failed: bool = False) -> ToolMessage:
    return ToolMessage(content, tool_call_id=call_id, status="error" if failed else "success")


def nudge(kind: type[BaseMessage] = HumanMessage) -> BaseMessage:
    return kind(content=NUDGE, additional_kwargs={"costguard": "loop"})


def turn(name: str, args: Mapping[str, Any], result: str, call_id: str = "1") -> list[BaseMessage]:
    return [ai((name, dict(args), call_id)), told(result, call_id)]


MESSAGES: dict[str, tuple[list[BaseMessage], list[Step]]] = {
    "none": ([], []),
    "calls and results, oldest first": (
        [HumanMessage("go"), *turn("a", {"x": 1}, "one"), *turn("b", {}, "two")],
        [Step("a", {"x": 1}, "one"), Step("b", {}, "two")],
    ),
    "the same id in every turn": (
        [*turn("a", {}, "one", "0"), *turn("a", {}, "two", "0")],
        [Step("a", {}, "one"), Step("a", {}, "two")],
    ),
    "parallel calls, answered in another order": (
        [ai(("a", {}, "1"), ("b", {}, "2")), told("two", "2"), told("one", "1")],
        [Step("a", {}, "one"), Step("b", {}, "two")],
    ),
    "two agents' calls before any result": (
        [ai(("a", {}, "1")), ai(("b", {}, "2")), told("one", "1"), told("two", "2")],
        [Step("a", {}, "one"), Step("b", {}, "two")],
    ),
    "calls without ids, in their order": (
        [ai(("a", {}, None), ("b", {}, "")), told("one", ""), told("two", "")],
        [Step("a", {}, "one"), Step("b", {}, "two")],
    ),
    "a failure": ([ai(("a", {}, "1")), told("boom", "1", failed=True)], [Step("a", {}, "boom", True)]),
    "a call under way is left out": ([*turn("a", {}, "one"), ai(("b", {}, "9"))], [Step("a", {}, "one")]),
    "a result without a call is left out": ([told("lost", "7"), *turn("a", {}, "one")], [Step("a", {}, "one")]),
    "an invalid call is a failure": ([ai(bad=(("a", "{oops", "1"),))], [Step("a", "{oops", "not JSON", True)]),
    "an invalid call that was answered": (
        [ai(bad=((None, None, "1"),)), told("Say that again", "1", failed=True)],
        [Step("", "", "Say that again", True)],
    ),
    "content in blocks": (
        [ai(("a", {}, "1")), told(["one", {"type": "text", "text": "two"}], "1")],
        [Step("a", {}, "one\ntwo")],
    ),
    "the user's own message ends it": (
        [*turn("a", {}, "one"), HumanMessage("and now?"), *turn("b", {}, "two")],
        [Step("b", {}, "two")],
    ),
    "other messages lie between": (
        [*turn("a", {}, "one"), AIMessage("Let me see."), SystemMessage("Be brief."), *turn("b", {}, "two")],
        [Step("a", {}, "one"), Step("b", {}, "two")],
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_steps_are_read_from_messages(case: str) -> None:
    messages, expected = MESSAGES[case]
    assert recent(messages, 12) == expected
    assert recent(tuple(messages), 12) == expected


def test_no_more_steps_are_read_than_asked_for() -> None:
    messages = [m for i in range(20) for m in turn("a", {"n": i}, f"{i}", str(i))]
    assert [step.arguments["n"] for step in recent(messages, 3)] == [17, 18, 19]
    wide = [ai(*(("a", {"n": i}, str(i)) for i in range(9))), *(told(f"{i}", str(i)) for i in range(9))]
    assert [step.arguments["n"] for step in recent(wide, 3)] == [6, 7, 8]


def test_another_image_is_another_result() -> None:
    def screens(*data: str) -> list[Step]:
        blocks = ([{"type": "image", "source": {"data": one, "type": "base64"}}] for one in data)
        return recent([m for block in blocks for m in (ai(("look", {}, "1")), told(block, "1"))], 12)

    assert first(screens("aa", "bb", "cc", "dd")) is None
    assert first(screens("aa", "aa", "aa")) == ("repeat", 3)


@pytest.mark.parametrize("kind", [HumanMessage, SystemMessage])
def test_after_a_nudge_an_agent_that_turns_to_something_else_is_left_alone(kind: type[BaseMessage]) -> None:
    stuck = turn("a", {}, "nothing there") * 3
    assert recent([*stuck, nudge(kind)], 12) == []
    assert recent([*stuck, nudge(kind), *turn("b", {}, "something")], 12) == [Step("b", {}, "something")]


def test_after_a_nudge_two_more_of_the_same_are_enough() -> None:
    same = turn("a", {}, "nothing there")
    messages = [HumanMessage("go"), *same * 3, nudge(), *same]
    assert LoopDetector().check(recent(messages, 12)) is None, "to end takes more than to nudge"
    loop = LoopDetector().check(recent([*messages, *same], 12))
    assert loop is not None
    assert (loop.kind, loop.times) == ("repeat", 5)


def test_nudges_are_counted_since_the_users_own_last_message() -> None:
    assert nudges([]) == 0
    assert (
        nudges(
            [nudge(), HumanMessage("go on"), *turn("a", {}, "x"), nudge(), *turn("a", {}, "x"), nudge(SystemMessage)]
        )
        == 2
    )
    assert nudges([HumanMessage("go"), AIMessage(NUDGE, additional_kwargs={"costguard": "loop"})]) == 0


def test_the_nudge_says_what_the_issue_says() -> None:
    assert NUDGE == "You appear to be repeating the same action without progress. Stop and reconsider your approach."
