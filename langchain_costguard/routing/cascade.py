"""Cascades: a cheaper model first, and a dearer one where its answer cannot be trusted.

What tells whether it can (``confidence``) is one of: that samples agree (``Agreement``), how likely the model itself
thought its words (``LogProbs``), a function (``Verifier``), another model (``Judge``), or whether the answer can be
read at all (``Parses``). With None any answer will do, and only a failure leads on: local first, the cloud behind it.

Agreement of samples: Yue et al., Large Language Model Cascades with Mixture of Thoughts Representations, ICLR 2024,
https://arxiv.org/abs/2310.03094
"""

from __future__ import annotations

import math
import operator
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from langchain_costguard.routing.agreement import Pick, Same, answer_of
from langchain_costguard.vocabulary.checks import listed

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

MAX_SAMPLES = 40

JUDGE = (
    "You check the work of another assistant. Below are a conversation and its reply. How likely is it that the reply "
    "is correct and does all that was asked? Answer with a whole number from 0 (certainly not) to 100 (certainly), and "
    "nothing else."
)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The score is the share of ``samples`` that give the answer most of them give; by default all must.

    Samples are taken one by one, no more than it takes to decide. The reply given is the first of those that agree.

    Args:
        samples: How many are taken at the most.
        variants: Instructions, one added to each sample in turn, that lead the model on different ways to the answer
            ("Think step by step.", "Write a Python program that prints the answer."). Answers so found agree by
            mistake less often than repeated ones.
        temperature: Of the samples. None leaves it to the model; at 0 all samples say the same, which tells nothing.
        answer: Takes the answer out of a reply; what is None agrees with nothing. By default the tool calls, or else
            the whole text, which only suits short answers.
        same: Whether two answers are the same.

    Raises:
        ValueError: names the field and the value.
    """

    samples: int = 2
    variants: Sequence[str] = ()
    temperature: float | None = None
    answer: Pick = answer_of
    same: Same = operator.eq
    threshold: float = field(default=1.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or not 1 <= self.samples <= MAX_SAMPLES:
            raise ValueError(f"samples: {self.samples!r} must be a whole number from 1 to {MAX_SAMPLES}")
        listed("variants", self.variants, "instructions")
        if self.temperature is not None and not _is_within(self.temperature, 0, 2):
            raise ValueError(f"temperature: {self.temperature!r} must be a number from 0 to 2, or None")
        _check_callables(self, "answer", "same")
        object.__setattr__(self, "variants", tuple(self.variants))

    def needed(self, threshold: float) -> int:
        """How many samples must agree for a score of ``threshold``."""
        return max(1, math.ceil(threshold * self.samples - 1e-9))


@dataclass(frozen=True, kw_only=True)
class LogProbs:
    """The score is the (geometric) mean probability of the reply's tokens, as its provider tells them.

    The call asks for them where the model has a field ``logprobs``. A reply without them is not trusted.
    """

    threshold: float = field(default=0.9, init=False, repr=False)

    def score(self, reply: AIMessage) -> float | None:
        """From 0 to 1; None where the provider gave no log-probabilities."""
        told = reply.response_metadata.get("logprobs")
        tokens = told.get("content") if isinstance(told, dict) else None
        found = [token.get("logprob") for token in tokens or () if isinstance(token, dict)]
        values = [float(value) for value in found if isinstance(value, (int, float))]
        return math.exp(min(0.0, sum(values) / len(values))) if values else None


@dataclass(frozen=True)
class Verifier:
    """The score is what ``check`` says of the reply: True or False, or a number from 0 to 1."""

    check: Callable[[AIMessage], bool | float | Awaitable[bool | float]]
    threshold: float = field(default=0.5, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_callables(self, "check")


@dataclass(frozen=True)
class Parses:
    """The score is 1 where the reply can be read: ``check`` is an output parser, or a guardrail such as
    ``valid_json(Invoice)``; a tool call whose arguments do not parse never can."""

    check: Any
    threshold: float = field(default=0.5, init=False, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.check) and not callable(getattr(self.check, "invoke", None)):
            raise ValueError(f"check: {self.check!r} must be an output parser or a guardrail")


@dataclass(frozen=True)
class Judge:
    """The score is what another ``model`` says of the reply, asked with ``prompt`` for a number from 0 to 100.

    Its call is admitted and paid as any. It should cost much less than the dearer model, or there is nothing to save.
    """

    model: str | BaseChatModel
    prompt: str = JUDGE
    threshold: float = field(default=0.7, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_model("model", self.model)
        if not isinstance(self.prompt, str) or not self.prompt:
            raise ValueError(f"prompt: {self.prompt!r} must be a text")

    def question(self, messages: Sequence[BaseMessage], reply: AIMessage) -> str:
        """What the judge is asked."""
        calls = "".join(f"\n(calls {call['name']} with {call['args']})" for call in reply.tool_calls)
        said = "\n\n".join(f"[{message.type}]\n{message.text}" for message in messages)
        return f"{self.prompt}\n\n<conversation>\n{said}\n</conversation>\n\n<reply>\n{reply.text}{calls}\n</reply>"

    def score(self, verdict: AIMessage) -> float | None:
        """From 0 to 1; None where the verdict is no number from 0 to 100."""
        text = str(verdict.text).strip().rstrip("%.")
        return float(text) / 100 if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 100 else None


Confidence = Agreement | LogProbs | Verifier | Parses | Judge


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Asks the ``tiers`` in turn, until a reply can be trusted; the last one's always is.

    Args:
        tiers: Models, the cheapest first; one only means that it alone is asked.
        confidence: What gives a reply its score. None: the first that replies.
        threshold: The least score that is trusted; None is ``confidence``'s own. ``calibrate`` finds it.

    Raises:
        ValueError: names the field and the value.
    """

    tiers: Sequence[str | BaseChatModel]
    confidence: Confidence | None = field(default_factory=Agreement)
    threshold: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.tiers, str) or not isinstance(self.tiers, Sequence) or not self.tiers:
            raise ValueError(f"tiers: {self.tiers!r} must be a list of models, the cheapest first")
        for model in self.tiers:
            _check_model("tiers", model)
        if self.confidence is not None and not isinstance(self.confidence, Confidence):
            raise ValueError(f"confidence: {self.confidence!r} is no Agreement, LogProbs, Verifier, Parses or Judge")
        if self.threshold is not None and not _is_within(self.threshold, 0, 1):
            raise ValueError(f"threshold: {self.threshold!r} must be a number from 0 to 1, or None")
        object.__setattr__(self, "tiers", tuple(self.tiers))

    @property
    def models(self) -> tuple[str | BaseChatModel, ...]:
        """All models that may be called, the judge included."""
        judge = (self.confidence.model,) if isinstance(self.confidence, Judge) else ()
        return *self.tiers, *judge

    @property
    def least(self) -> float:
        """The least score that is trusted."""
        if self.threshold is not None:
            return self.threshold
        return self.confidence.threshold if self.confidence is not None else 0.0


def _check_model(name: str, model: Any) -> None:
    if not isinstance(model, BaseChatModel) and not (isinstance(model, str) and model.strip()):
        raise ValueError(f"{name}: {model!r} is no chat model, and no name of one")


def _check_callables(holder: Any, *names: str) -> None:
    for name in names:
        if not callable(getattr(holder, name)):
            raise ValueError(f"{name}: {getattr(holder, name)!r} must be a function")


def _is_within(value: Any, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
