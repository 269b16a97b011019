"""What makes two prompts different questions, however near they are; and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_costguard.caching.semantic.conflicts import VETOES, conflicts
from langchain_costguard.caching.semantic.reading import read

DIFFERENT = [
    ("What is 5 times 12?", "What is 50 times 12?", "numbers differ: 5 / 50"),
    ("the first world war", "the second world war", "numbers differ: #1 / #2"),
    ("World War I causes", "Who won World War II and World War III?", ""),
    ("the causes of World War II", "the causes of World War III", "numbers differ: 2 / 3"),
    ("Is Python 3.1 supported?", "Is Python 3.10 supported?", "numbers differ: 3.1 / 3.10"),
    ("What changed in v2.10.0?", "What changed in v2.1.0?", "numbers differ: 2.10.0 / 2.1.0"),
    ("How good is gpt-4o?", "How good is gpt-4?", "numbers differ: gpt4o / gpt4"),
    ("Send five dollars", "Send nine dollars", "numbers differ: 5 / 9"),
    ("a loan of two thousand five hundred", "a loan of 2,600", "numbers differ: 2500 / 2600"),
    ("How far is 5 km?", "How far is 5 miles?", "units differ: 5 km / 5 mile"),
    ("Is 5% much?", "Is $5 much?", "units differ: 5 % / 5 usd"),
    ("cancel within one week", "cancel within 2 weeks", "numbers differ: 1 / 2"),
    ("Are you open on Monday?", "Are you open on Sunday?", "dates differ: monday / sunday"),
    ("What happened on 2024-01-05?", "What happened on 2024-01-06?", "dates differ: 2024-01-05 / 2024-01-06"),
    ("Wake me at 6am", "Wake me at 6 pm", "dates differ: 6:00 / 18:00"),
    ("What is the capital of France?", "What is the capital of Spain?", "names differ: france / spain"),
    ("Does it run on macOS?", "Does it run on Windows?", "names differ: macos / windows"),
    ("Can I pay by card?", "Can't I pay by card?", "one is negated, and the other is not"),
    ("Is this food safe?", "Is this food not safe?", "one is negated, and the other is not"),
    ("the cheapest phone", "the most expensive phone", "opposites differ: cheapest / expensive"),
    ("How do I enable alerts?", "How do I disable alerts?", "opposites differ: enable / disable"),
    ("coffee with sugar", "coffee without sugar", "opposites differ: with / without"),
    ("Who founded the company?", "When was the company founded?", "question words differ: who / when"),
    ("How many eggs a day?", "How long do eggs keep?", "question words differ: how many / how long"),
    ("Wie ist das Wetter und wo ist es?", "What is the weather and where is it?", "languages differ: German / English"),
    ("погода в Москве", "weather in Moscow", "scripts differ: cyrillic / latin"),
    ("convert euros to dollars", "convert dollars to euros", "directions differ: euro to dollar / dollar to euro"),
]

ALIKE = [
    ("How do I get five apples?", "How do I get 5 apples?"),
    ("a fee of 1,000 dollars", "a fee of $1000"),
    ("a fee of 5k", "a fee of 5000"),
    ("a budget of $5m", "a budget of 5 million dollars"),
    ("twenty-five percent", "25%"),
    ("one hundred and five days", "105 days"),
    ("\u0665 كتب", "5 كتب"),
    ("the 3rd floor", "the third floor"),
    ("meet me at 9:30 am", "meet me at 9.30am"),
    ("Which one is better?", "Which is better?"),
    ("wait a second", "wait a moment"),
    ("What is Hugging Face?", "What is HF?"),
    ("Does HF host models?", "Does Hugging Face host models?"),
    ("Who was Henri Fayol of France?", "Who was Henry Fayol of France?"),
    ("What Is The Best Way To Learn Go?", "What is the best way to learn Rust?"),
    ("the price of the iPhone", "the price of the iPhone 6"),
    ("It does not exist here.", "It is unavailable here."),
    ("No, it does not exist.", "It does not exist."),
    ("not only cheap", "cheap, too"),
    ("What is the reason for rain?", "Why does it rain?"),
    ("watch S4E2 of it", "watch S04E02 of it"),
    ("¿Cómo puedo cancelar mi pedido?", "¿Cómo cancelo el pedido?"),
    ("我想取消订单", "取消我的订单"),
    ("Wo kaufe ich Brot und die Butter?", "Wo kaufe ich die Milch und das Brot?"),
]


@pytest.mark.parametrize(("one", "other", "why"), DIFFERENT)
def test_what_differs_is_said_whichever_prompt_comes_first(one: str, other: str, why: str) -> None:
    found = conflicts(read(one), read(other))
    if not why:
        assert found == ()
        return
    assert why in found
    assert conflicts(read(other), read(one))


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_the_same_said_otherwise_is_no_conflict(one: str, other: str) -> None:
    assert conflicts(read(one), read(other)) == ()
    assert conflicts(read(other), read(one)) == ()


def test_only_the_checks_asked_for_are_made() -> None:
    one, other = read("Send 5 to Paris, not Rome"), read("Send 50 to Oslo, to Rome")
    assert conflicts(one, other, ("numbers",)) == ("numbers differ: 5 / 50",)
    assert conflicts(one, other, ()) == ()


TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            [
                "one",
                "hundred",
                "million",
                "and",
                "5",
                "5k",
                "$",
                "1,000",
                "second",
                "-3",
                "a",
                "week",
                "3.10",
                "½",
                "\uff11\uff12",
            ]
        ),
        max_size=8,
    ).map(" ".join),
)


@given(TEXTS, TEXTS)
@settings(max_examples=150, deadline=None)
def test_any_two_texts_can_be_compared_and_none_is_in_conflict_with_itself(one: str, other: str) -> None:
    for check in VETOES.values():
        assert bool(check(read(one), read(other))) == bool(check(read(other), read(one)))
    read.cache_clear()
    again = read(one)
    read.cache_clear()
    assert conflicts(again, read(one)) == ()


def test_a_very_long_prompt_is_read_at_both_ends() -> None:
    start, end = "Sum up 5 pages. ", " Then name 7 cities."
    middle = "words and words " * 5_000
    assert read(start + middle + end).quantities.values == {"5", "7"}
