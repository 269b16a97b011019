"""``costguard tokens``: what each counter that can be had makes of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import rich_click as click
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.messages.utils import count_tokens_approximately

from langchain_costguard.cli.recordings import read
from langchain_costguard.cli.screen import show, table
from langchain_costguard.metering.pricing.estimate import Estimator
from langchain_costguard.metering.pricing.families import family_of
from langchain_costguard.metering.pricing.tokenizers import (
    AnthropicCounter,
    gemini_counter,
    huggingface_counter,
    mistral_counter,
)
from langchain_costguard.vocabulary.urls import reason
from langchain_costguard.vocabulary.usage import ModelRef

Counter = Callable[[Sequence[BaseMessage]], int]
_PACKAGES = {"mistral_common": "mistral-common", "google": "google-genai"}
"""By what is imported, the package that has it."""
_VOCABULARY = 10.0
"""Seconds that the vocabulary may take to load."""


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--model", "models", multiple=True, default=("gpt-4o", "claude-sonnet-4-6"), show_default=True)
@click.option("--tokenizer", metavar="PATH", help="a tokenizer.json of the models")
@click.option("--online", is_flag=True, help="ask what needs the network, too: count_tokens, Gemini's vocabulary")
def command(file: str, models: tuple[str, ...], tokenizer: str | None, online: bool) -> None:
    """Count the tokens of a prompt by each counter at hand, each with its error.

    FILE is a text, JSON lines of messages, or a checkpointer's SQLite file: of several conversations, all together.
    """
    conversations = _prompts(file)
    rows = []
    for model in models:
        for name, make, error in _counters(model.rpartition(":")[2], tokenizer, online):
            rows.append([model, name, *_counted(make, conversations, error)])
    show(table(["model", "counter", "tokens", "error"], rows, left=2))


def _counted(make: Callable[[], Counter], prompts: list[Sequence[BaseMessage]], error: str) -> list[str]:
    """The tokens and the error; of a counter that cannot be had here, why not."""
    try:
        return [f"{sum(map(make(), prompts)):,}", error]
    except ImportError as problem:
        return ["-", f"pip install {_PACKAGES.get(problem.name or '', problem.name)}"]
    except ValueError:
        raise
    except Exception as problem:  # of whatever library it is: the others are still worth knowing
        return ["-", f"{type(problem).__name__}: {str(problem)[:60]}"]


def _prompts(file: str) -> list[Sequence[BaseMessage]]:
    try:
        return [each.messages for each in read(file)]
    except ValueError:
        try:
            return [[HumanMessage(Path(file).read_text("utf-8"))]]
        except (OSError, UnicodeError) as error:
            raise ValueError(f"{file}: {reason(error)}") from None


def _counters(model: str, tokenizer: str | None, online: bool) -> list[tuple[str, Callable[[], Counter], str]]:
    """The name of each counter, what makes it, and its error."""
    estimator, family = Estimator(), family_of(model)
    ref = ModelRef("", model)
    exact = estimator.warm(_VOCABULARY)
    own = f"estimate ({family.name}, {'tiktoken' if exact else 'by shape'})"
    error = f"+{family.margin + (0 if exact else 0.35):.0%} at the most"
    found: list[tuple[str, Callable[[], Counter], str]] = [
        (own, lambda: lambda messages: estimator.estimate(ref, messages).tokens, error)
    ]
    if tokenizer is not None:
        found.append(("tokenizers", lambda: huggingface_counter(tokenizer, model), "3%"))
    if family.name == "mistral":
        found.append(("mistral-common", lambda: mistral_counter(model), "3%"))
    if family.name == "gemini" and online:
        found.append(("google-genai", lambda: gemini_counter(model), "3%"))
    if family.name.startswith("claude") and online:
        found.append(("count_tokens", lambda: _endpoint(model), "1%"))
    found.append(("LangChain, approximately", lambda: count_tokens_approximately, "not stated"))
    return found


def _endpoint(model: str) -> Counter:
    from langchain.chat_models import init_chat_model

    return AnthropicCounter(init_chat_model(f"anthropic:{model}")).count
