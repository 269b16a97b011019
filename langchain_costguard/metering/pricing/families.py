"""How each family of models counts its input, relative to OpenAI's o200k vocabulary.

Fitted to what providers billed: 1,060 real calls of 60 models, 57 models of the Berkeley function-calling leaderboard
and 498 questions of RouterArena. ``tests/benchmarks/bench_prices.py`` measures every family's error anew.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple


class Family(NamedTuple):
    """One family's way of counting. Tokens are o200k tokens (``cl100k`` where ``encoding`` says so)."""

    name: str
    margin: float
    """The stated error: the share added to the estimate so that 99 % of calls are covered."""
    slack: int = 0
    """Tokens added to the bound alone: hidden prompts that only some requests get (thinking, safety)."""
    factor: float = 1.0
    """Tokens of this family for one o200k token of text."""
    per_message: float = 4
    base: int = 3
    """Tokens of a request besides its messages: reply priming, hidden system prompts."""
    tool_base: int = 9
    tool_slack: int = 0
    per_tool: float = 0
    per_call: float = 10
    """Tokens of a tool call besides its name and arguments."""
    schema_factor: float = 1.0
    """Tokens for one o200k token of a tool's schema as it is rendered."""
    rendering: Literal["typescript", "json"] = "json"
    schema_base: int = 20
    """Tokens of a demanded answer format besides its schema."""
    image: int = 1600
    """Tokens of one image as large as the provider lets it count."""
    encoding: str = "o200k_base"


_OPENAI = Family("openai", 0.03, slack=4, rendering="typescript", image=1105)

_CLAUDE = Family(
    "claude-4", 0.08, slack=34, factor=1.13, per_message=5, base=5, tool_base=490, tool_slack=120,
    per_tool=28, per_call=42, schema_factor=1.15, schema_base=125,
)  # fmt: skip
"""Claude up to 4.6. The tool prompt is 180 to 600 tokens, by model and ``tool_choice``."""

_CLAUDE_NEW = Family(
    "claude-new", 0.10, slack=40, factor=1.42, per_message=4, base=4, tool_base=420, tool_slack=260,
    per_tool=40, per_call=50, schema_factor=1.45, schema_base=160, image=4800,
)  # fmt: skip
"""Claude from opus-4-7 on has a vocabulary that makes more tokens of the same text."""

_FAMILIES: tuple[tuple[str, Family], ...] = (
    (r"gpt-oss", Family("gpt-oss", 0.10, slack=40, base=66, tool_base=40, tool_slack=90)),
    (r"gpt-4o-mini", _OPENAI._replace(name="openai-4o-mini", image=36_835)),
    (r"gpt-4o|gpt-4\.|chatgpt-4o", _OPENAI),
    (
        r"gpt-4|gpt-3|gpt-35|text-embedding|davinci|babbage",
        _OPENAI._replace(name="openai-cl100k", encoding="cl100k_base", margin=0.04),
    ),
    (
        r"gpt-|codex|(^|[/.:])o[1-9]($|-)|computer-use",
        _OPENAI._replace(name="openai-reasoning", margin=0.05, slack=12, tool_slack=90, per_call=14, image=1844),
    ),
    (r"opus-4[-.][7-9](?!\d)|claude-4\.[7-9]", _CLAUDE_NEW),
    (r"claude-(instant|v?[1-3]([.:-]|$))", _CLAUDE._replace(name="claude-3", tool_base=320, tool_slack=290)),
    (r"claude-4|(haiku|sonnet|opus)-?4", _CLAUDE),
    (r"claude|fable|mythos", _CLAUDE_NEW),
    (
        r"gemini|gemma|learnlm",
        Family(
            "gemini", 0.10, slack=6, per_message=0.5, base=1, tool_base=4, tool_slack=12, per_call=12,
            schema_factor=0.82, schema_base=5, image=1290,
        ),
    ),
    (
        r"mistral|mixtral|ministral|magistral|codestral|devstral|pixtral",
        Family(
            "mistral", 0.10, slack=18, factor=1.18, per_message=2, base=2, tool_base=14, tool_slack=20, per_tool=5,
            per_call=16, schema_factor=1.15,
        ),
    ),
    (
        r"llama-?4",
        Family("llama-4", 0.12, slack=25, factor=1.08, base=12, tool_base=640, tool_slack=70, schema_base=120),
    ),
    (
        r"llama",
        Family("llama", 0.15, slack=20, factor=1.08, base=34, tool_base=180, tool_slack=200, schema_base=120),
    ),
    (r"nova-2", Family("nova-2", 0.15, slack=10, per_message=1, base=1, tool_base=860, tool_slack=80)),
    (
        r"nova-|titan",
        Family("nova", 0.15, slack=10, per_message=1, base=1, tool_base=350, tool_slack=90, per_call=20),
    ),
    (
        r"deepseek",
        Family(
            "deepseek", 0.12, slack=84, factor=1.05, per_message=3, base=2, tool_base=295, tool_slack=60, per_call=34
        ),
    ),
    (
        r"qwen|qwq",
        Family("qwen", 0.15, slack=14, factor=1.1, base=4, tool_base=230, tool_slack=80, per_call=25, schema_base=70),
    ),
    (
        r"command|cohere|aya",
        Family("cohere", 0.15, slack=75, factor=1.12, per_message=2, base=2, tool_base=60, tool_slack=250),
    ),
    (r"grok", Family("grok", 0.15, slack=60, factor=1.1, base=680, tool_base=60, tool_slack=300, per_call=30)),
    (
        r"kimi|moonshot|muse",
        Family("kimi", 0.15, slack=12, factor=1.08, base=4, tool_base=18, tool_slack=60, per_call=30),
    ),
    (
        r"glm|zai|minimax",
        Family("glm", 0.15, slack=45, factor=1.08, base=5, tool_base=105, tool_slack=60, per_call=30, schema_base=40),
    ),
)  # fmt: skip

UNKNOWN = Family(
    "unknown", 0.30, slack=80, factor=1.2, per_message=5, base=10, tool_base=250, tool_slack=500, per_tool=15,
    per_call=30, schema_factor=1.2, schema_base=100, image=4800,
)  # fmt: skip
"""What is assumed of a model that no pattern knows: near the dearest of the known families, with a wide margin."""


def family_of(name: str) -> Family:
    """The family of a model, told from its name alone."""
    lowered = name.lower()
    for pattern, family in _FAMILIES:
        if re.search(pattern, lowered):
            return family
    return UNKNOWN
