"""Texts that others write, and that cost nobody's time: a reply, a prompt, a refusal may be as odd as it likes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from langchain_core.messages import AIMessage

from langchain_costguard.caching import lint_prompts
from langchain_costguard.caching.exact.told import told
from langchain_costguard.caching.prompt.differences import stretches
from langchain_costguard.caching.semantic.conflicts import conflicts
from langchain_costguard.caching.semantic.quantities import quantities
from langchain_costguard.caching.semantic.reading import read
from langchain_costguard.context.facts import identifiers
from langchain_costguard.metering.config.places import line_of
from langchain_costguard.metering.pricing.bills import told_cost
from langchain_costguard.observe.telemetry.content import redacted
from langchain_costguard.routing.agreement import normal
from langchain_costguard.routing.features import look
from langchain_costguard.steering import LoopDetector, valid_json
from langchain_costguard.steering.policies import likeness
from langchain_costguard.steering.policies.kinds import classify
from langchain_costguard.steering.policies.loops import Step
from langchain_costguard.vocabulary.urls import told as told_url
from langchain_costguard.vocabulary.urls import without_password

SIZE = 100_000
MOST = 0.5
"""Seconds of the processor; what is not linear takes 6 and more. On a calm machine all take less than a tenth of it."""
TEXTS = {
    "a fence that does not end": "```" + " " * SIZE + "x",
    "fences": "```" * (SIZE // 3),
    "blanks": " " * SIZE + "x",
    "no spaces": "a" * SIZE,
    "no letters": ".,;" * (SIZE // 3),
    "letters and dots": "A.B." * (SIZE // 4),
    "digits": "1" * SIZE,
    "digits and a letter": "1" * SIZE + "x",
    "dates": "2024-01-" * (SIZE // 8),
    "numbers": "111," * (SIZE // 4) + "x",
    "lines": "\n   " * (SIZE // 4),
    "one word": "no " * (SIZE // 3),
    "capitals": "Aa " * (SIZE // 3),
    "many words": " ".join(f"w{i}" for i in range(SIZE // 6)),
    "addresses": "a@" * (SIZE // 2),
    "dashes": "eyJ-" * (SIZE // 4),
    "paths": "a/" + "/" * SIZE,
    "brackets": "[" * SIZE,
    "objects": '{"a":' * (SIZE // 5),
    "logins": "a://x:" * (SIZE // 6),
    "shares": "1%" * (SIZE // 2),
}
JSON = valid_json({"type": "object"})


def _linted(text: str) -> object:
    systems = [f"{text}{i}{text[: SIZE // 2]}" for i in range(2)]
    return lint_prompts(
        [{"model": "claude-sonnet-4-6", "messages": [{"role": "system", "content": s}]} for s in systems]
    )


def _looped(text: str) -> object:
    calls = [{"command": text}, {"command": f"{text}x"}, {"q": text}]
    return LoopDetector().check([Step("bash", arguments, f"error: {text}") for arguments in calls])


READERS: dict[str, Callable[[str], object]] = {
    "votes": normal,
    "prompt breaks": lambda text: stretches(text, text[: SIZE // 2] + "!" + text[SIZE // 2 :] + "x"),
    "prompt breaks, backwards": lambda text: stretches(text[:3_000], text[:3_000][::-1]),
    "prompt linter": lambda text: _linted(text[: SIZE // 2]),
    "quantities": quantities,
    "conflicts": lambda text: conflicts(read(text[: SIZE // 2]), read(text[SIZE // 2 :])),
    "conflicts of one text": lambda text: conflicts(read(text), read(f"{text}!")),
    "loops": likeness.words,
    "calls": _looped,
    "routing": look,
    "urls": lambda text: without_password("redis://" + text),
    "errors of urls": lambda text: told_url(text, f"redis://{text}@h"),
    "identifiers": identifiers,
    "redaction": redacted,
    "places in a file": lambda text: line_of(text, ("a",)),
    "guardrails": lambda text: JSON(AIMessage(text)),
    "failures": lambda text: classify(RuntimeError(text)),
    "bills": lambda text: told_cost(AIMessage("", response_metadata={"cost": text})),
    "told to a cache": told,
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("reader", READERS)
def test_a_hundred_kilobytes_of_anything_are_read_at_once(reader: str, text: str) -> None:
    READERS[reader](TEXTS[text][:100])  # what is made once is made
    began = time.process_time()
    READERS[reader](TEXTS[text])
    assert time.process_time() - began < MOST
