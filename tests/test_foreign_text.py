"""Texts that others write, and that cost nobody's time: a reply, a prompt, a refusal may be as odd as it likes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from langchain_costguard.caching.prompt.differences import stretches
from langchain_costguard.caching.semantic.quantities import quantities
from langchain_costguard.routing.agreement import normal
from langchain_costguard.routing.features import look
from langchain_costguard.steering.policies.likeness import words
from langchain_costguard.vocabulary.urls import without_password

SIZE = 100_000
TEXTS = {
    "a fence that does not end": "```" + " " * SIZE + "x",
    "fences": "```" * (SIZE // 3),
    "blanks": " " * SIZE + "x",
    "no spaces": "a" * SIZE,
    "no letters": ".,;" * (SIZE // 3),
    "letters and dots": "A.B." * (SIZE // 4),
    "digits": "1" * SIZE,
    "dates": "2024-01-" * (SIZE // 8),
    "numbers": "111," * (SIZE // 4) + "x",
    "lines": "\n   " * (SIZE // 4),
    "one word": "no " * (SIZE // 3),
}
READERS: dict[str, Callable[[str], object]] = {
    "votes": normal,
    "prompt breaks": lambda text: stretches(text, text[: SIZE // 2] + "!" + text[SIZE // 2 :] + "x"),
    "prompt breaks, backwards": lambda text: stretches(text[:3_000], text[:3_000][::-1]),
    "quantities": quantities,
    "loops": words,
    "routing": look,
    "urls": lambda text: without_password("redis://" + text),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("reader", READERS)
def test_a_hundred_kilobytes_of_anything_are_read_at_once(reader: str, text: str) -> None:
    READERS[reader](TEXTS[text][:100])  # what is made once is made
    began = time.process_time()
    READERS[reader](TEXTS[text])
    assert time.process_time() - began < 0.5
