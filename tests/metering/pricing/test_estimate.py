"""Estimates of what a call will take in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_costguard.metering.pricing import encodings, tokens
from langchain_costguard.metering.pricing.estimate import HOSTED_TOOL, Estimate, Estimator, output_limit
from langchain_costguard.metering.pricing.families import UNKNOWN, family_of
from langchain_costguard.metering.pricing.schemas import Function, as_typescript, functions_of
from langchain_costguard.vocabulary.usage import ModelRef

GPT = ModelRef("openai", "gpt-4o")


@pytest.fixture(autouse=True)
def a_word_is_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary of our own, in which every run of non-blanks is one token: sums can be worked out by hand."""
    monkeypatch.setattr(encodings, "_ready", dict.fromkeys(("o200k_base", "cl100k_base"), str.split))
    monkeypatch.setattr(tokens, "_counters", {})


@tool
def look_up(key: str, limit: int = 5) -> str:
    """Looks a key up."""
    return key * limit


PARAMETERS = {
    "type": "object",
    "properties": {
        "key": {"type": "string", "description": "What to look for."},
        "limit": {"type": "integer"},
    },
    "required": ["key"],
}
FORMATS: dict[str, Any] = {
    "OpenAI": {
        "type": "function",
        "function": {"name": "look_up", "description": "Looks.", "parameters": PARAMETERS},
    },
    "OpenAI responses": {
        "type": "function",
        "name": "look_up",
        "description": "Looks.",
        "parameters": PARAMETERS,
    },
    "Anthropic": {"name": "look_up", "description": "Looks.", "input_schema": PARAMETERS},
    "Bedrock": {"toolSpec": {"name": "look_up", "description": "Looks.", "inputSchema": {"json": PARAMETERS}}},
    "Gemini": {
        "functionDeclarations": [{"name": "look_up", "description": "Looks.", "parametersJsonSchema": PARAMETERS}]
    },
}


def test_openais_overhead_is_three_a_message_one_for_the_role_and_three_for_the_reply() -> None:
    estimate = Estimator().estimate(GPT, [SystemMessage("be brief"), HumanMessage("one two three")])
    assert estimate.tokens == 2 * 4 + 3 + 5
    assert estimate.upper >= estimate.tokens


def test_the_bound_is_never_below_the_guess() -> None:
    for name in ("gpt-4o", "gpt-4", "claude-opus-4-8", "gemini-2.5-flash", "mistral-large", "who-knows"):
        estimate = Estimator().estimate(ModelRef("", name), [HumanMessage("word " * 100)])
        assert estimate.upper >= estimate.tokens * (1 + family_of(name).margin)


def test_another_family_makes_more_tokens_of_the_same_text() -> None:
    words = [HumanMessage("word " * 1_000)]
    guesses = [
        Estimator().estimate(ModelRef("", n), words).tokens for n in ("gpt-4o", "claude-sonnet-4-6", "claude-opus-4-8")
    ]
    assert guesses[0] < guesses[1] < guesses[2]


@pytest.mark.parametrize("schema", FORMATS.values(), ids=FORMATS.keys())
def test_a_tools_schema_counts_the_same_in_every_providers_format(schema: dict[str, Any]) -> None:
    functions, hosted = functions_of([schema])
    assert functions == [Function("look_up", "Looks.", PARAMETERS)]
    assert hosted == 0
    plain = Estimator().estimate(GPT, [HumanMessage("hi")])
    with_tool = Estimator().estimate(GPT, [HumanMessage("hi")], tools=[schema])
    assert with_tool.tokens - plain.tokens == 9 + len(as_typescript(functions).split())


def test_tools_that_are_no_mappings_count_too() -> None:
    class Query(BaseModel):
        """Asks the base."""

        sql: str

    functions, hosted = functions_of([look_up, Query, object()])
    assert [f.name for f in functions[:2]] == ["look_up", "Query"]
    assert "key" in functions[0].parameters["properties"]
    assert len(functions) + hosted == 3


def test_a_tool_of_the_providers_own_adds_its_hidden_instructions() -> None:
    plain = Estimator().estimate(GPT, [HumanMessage("hi")])
    hosted = Estimator().estimate(GPT, [HumanMessage("hi")], tools=[{"type": "web_search_preview"}])
    assert hosted.tokens - plain.tokens == HOSTED_TOOL
    assert hosted.upper - plain.upper >= 3 * HOSTED_TOOL


def test_a_schema_is_rendered_as_openai_renders_it() -> None:
    function = Function(
        "book",
        "Books a table.",
        {
            "type": "object",
            "properties": {
                "when": {"type": "string", "description": "ISO date.", "default": "today"},
                "seats": {"type": "array", "items": {"type": "integer"}},
                "kind": {"enum": ["in", "out"]},
                "guest": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["when"],
        },
    )
    assert as_typescript([function, Function("now", "", {})]) == "\n".join(
        [
            "namespace functions {", "", "// Books a table.", "type book = (_: {", "// ISO date.",
            'when: string, // default: "today"', "seats?: number[],", 'kind?: "in" | "out",', "guest?: {",
            "  name: string,", "},", "note?: string | null,", "}) => any;", "", "type now = () => any;", "",
            "} // namespace functions",
        ]
    )  # fmt: skip


def test_a_schema_that_refers_to_itself_ends() -> None:
    node: dict[str, Any] = {"type": "object", "properties": {}}
    node["properties"]["child"] = node
    assert "child" in as_typescript([Function("tree", "", node)])


def test_tool_calls_and_their_results_are_counted_once() -> None:
    call = {"name": "look_up", "args": {"key": "a b c"}, "id": "1", "type": "tool_call"}
    asking = AIMessage("", tool_calls=[call])
    also_in_blocks = AIMessage(
        [{"type": "tool_use", "id": "1", "name": "look_up", "input": {"key": "a b c"}}], tool_calls=[call]
    )
    history = [HumanMessage("go"), asking, ToolMessage("found it", tool_call_id="1")]
    counted = Estimator().estimate(GPT, history).tokens
    assert counted == 3 * 4 + 3 + 1 + 2 + (1 + 4) + 10
    history[1] = also_in_blocks
    assert Estimator().estimate(GPT, history).tokens == counted


def test_a_new_call_in_the_same_list_is_seen() -> None:
    message = AIMessage("", tool_calls=[{"name": "a", "args": {}, "id": "1", "type": "tool_call"}])
    estimator = Estimator()
    before = estimator.estimate(GPT, [message]).tokens
    message.tool_calls.append({"name": "b", "args": {"x": "1 2 3"}, "id": "2", "type": "tool_call"})
    assert estimator.estimate(GPT, [message]).tokens > before


def test_a_new_tool_in_the_same_list_is_seen() -> None:
    tools = [FORMATS["OpenAI"]]
    estimator = Estimator()
    before = estimator.estimate(GPT, [HumanMessage("hi")], tools=tools).tokens
    tools.append(FORMATS["Anthropic"])
    after = estimator.estimate(GPT, [HumanMessage("hi")], tools=tools).tokens
    assert after > before
    assert estimator.estimate(GPT, [HumanMessage("hi")], tools=list(tools)).tokens == after


def test_a_seen_history_gives_the_same_again() -> None:
    estimator = Estimator()
    history = [HumanMessage("a b c"), AIMessage("d e"), HumanMessage("f")]
    first = estimator.estimate(GPT, history)
    assert estimator.estimate(GPT, history) == first
    assert estimator.estimate(GPT, [*history, HumanMessage("g h")]).tokens == first.tokens + 4 + 2


BLOCKS: dict[str, tuple[dict[str, Any], int]] = {
    "text": ({"type": "text", "text": "one two"}, 2),
    "an image": ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000}}, 1105),
    "LangChain's image": ({"type": "image", "base64": "A" * 50_000, "mime_type": "image/png"}, 1105),
    "Anthropic's image": ({"type": "image", "source": {"type": "base64", "data": "A" * 9_000}}, 1105),
    "a PDF of 96 KB": ({"type": "file", "base64": "A" * 128_000, "mime_type": "application/pdf"}, 12_000),
    "OpenAI's file": ({"type": "file", "file": {"file_data": "A" * 128_000, "filename": "x.pdf"}}, 12_000),
    "a text file": ({"type": "file", "data": "one two three", "mime_type": "text/plain"}, 3),
    "a file elsewhere": ({"type": "file", "file_id": "file-1"}, 3_000),
    "audio of 90 KB": ({"type": "audio", "base64": "A" * 120_000, "mime_type": "audio/mp3"}, 1_000),
    "OpenAI's audio": ({"type": "input_audio", "input_audio": {"data": "A" * 120_000, "format": "wav"}}, 1_000),
    "thinking": ({"type": "thinking", "thinking": "a b c", "signature": "S" * 4_000}, 3),
    "a summary of reasoning": ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "a b"}]}, 2),
    "hidden reasoning": ({"type": "reasoning", "encrypted_content": "S" * 1_400}, 100),
    "a nested result": ({"type": "tool_result", "content": [{"type": "text", "text": "a b c d"}]}, 4),
    "anything else": ({"type": "odd", "value": "a b"}, 5),
}  # fmt: skip


@pytest.mark.parametrize(("block", "expected"), BLOCKS.values(), ids=BLOCKS.keys())
def test_a_content_block_counts_by_its_kind(block: dict[str, Any], expected: int) -> None:
    empty = Estimator().estimate(GPT, [HumanMessage([])]).tokens
    assert Estimator().estimate(GPT, [HumanMessage([block])]).tokens - empty == expected


def test_geminis_thought_signatures_are_billed_when_sent_back() -> None:
    call = {"name": "f", "args": {}, "id": "1", "type": "tool_call"}
    kept = {"__gemini_function_call_thought_signatures__": {"1": "S" * 500}}
    ref = ModelRef("google_genai", "gemini-3-flash-preview")
    plain = Estimator().estimate(ref, [AIMessage("", tool_calls=[call])]).tokens
    signed = Estimator().estimate(ref, [AIMessage("", tool_calls=[call], additional_kwargs=kept)]).tokens
    assert signed - plain == 100


def test_a_demanded_format_counts() -> None:
    class Answer(BaseModel):
        text: str

    plain = Estimator().estimate(GPT, [HumanMessage("hi")]).tokens
    for wanted in (Answer, {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}):
        assert Estimator().estimate(GPT, [HumanMessage("hi")], response_format=wanted).tokens > plain


def test_the_users_own_counter_is_believed() -> None:
    estimator = Estimator(counter=lambda messages: 17 * len(messages))
    assert estimator.estimate(GPT, [HumanMessage("x")] * 2) == Estimate(34, 34)


def test_texts_and_broken_off_outputs_are_counted() -> None:
    assert Estimator().estimate_text(GPT, "one two three").tokens == 3
    assert Estimator().count_output("one two three", GPT) == 3
    assert Estimator().count_output("one two three", ModelRef("anthropic", "claude-opus-4-8")) == 5


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpt-4o-2024-08-06", "openai"), ("gpt-4.1-mini", "openai"), ("gpt-4o-mini", "openai-4o-mini"),
        ("gpt-4-turbo", "openai-cl100k"), ("gpt-3.5-turbo", "openai-cl100k"), ("gpt-35-turbo", "openai-cl100k"),
        ("gpt-5-mini", "openai-reasoning"), ("o3", "openai-reasoning"), ("openai/o4-mini", "openai-reasoning"),
        ("openai/gpt-oss-120b", "gpt-oss"), ("claude-3-5-haiku-20241022", "claude-3"), ("claude-2.1", "claude-3"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-4"), ("claude-opus-4-20250514", "claude-4"),
        ("anthropic/claude-4.5-sonnet", "claude-4"), ("claude-opus-4-6", "claude-4"), ("claude-opus-4-8", "claude-new"),
        ("anthropic/claude-opus-4.7", "claude-new"), ("claude-sonnet-5", "claude-new"),
        ("models/gemini-2.5-pro", "gemini"),
        ("meta-llama/llama-4-scout-17b-16e-instruct", "llama-4"), ("llama-3.3-70b-versatile", "llama"),
        ("mistral-large-latest", "mistral"), ("deepseek-chat", "deepseek"), ("qwen/qwen3-32b", "qwen"),
        ("command-r-plus", "cohere"), ("us.amazon.nova-2-lite-v1:0", "nova-2"), ("grok-4", "grok"),
        ("my-own-model", "unknown"),
    ],
)  # fmt: skip
def test_a_models_family_is_told_from_its_name(name: str, family: str) -> None:
    assert family_of(name).name == family


def test_an_unknown_family_gets_the_widest_margin() -> None:
    assert family_of("my-own-model") is UNKNOWN
    assert max(family_of(n).margin for n in ("gpt-4o", "claude-opus-4-8", "llama-3", "grok-4")) < UNKNOWN.margin


@pytest.mark.usefixtures("a_word_is_a_token")
def test_without_a_vocabulary_the_bound_is_wider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    messages = [HumanMessage("The quick brown fox jumps over the lazy dog. " * 40)]
    with_it = Estimator().estimate(GPT, messages)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("COSTGUARD_TIKTOKEN_DOWNLOAD", "0")
    for name in ("_ready", "_threads"):
        monkeypatch.setattr(encodings, name, {})
    monkeypatch.setattr(encodings, "_loaded", lambda name: None)
    monkeypatch.setattr(tokens, "_counters", {})
    without = Estimator().estimate(GPT, messages)
    assert without.upper / without.tokens > with_it.upper / with_it.tokens + 0.3
    assert without.upper >= 40 * 10


def test_the_output_limit_is_langchains_where_its_package_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = {
        "big-1": {"max_output_tokens": 16_384},
        "claude-big": {"max_output_tokens": 64_000},
        "odd": {},
        "bad": 3,
    }
    module = SimpleNamespace(_PROFILES=profiles)
    monkeypatch.setitem(__import__("sys").modules, "langchain_groq.data._profiles", module)
    found = {
        name: output_limit(ModelRef("", name))
        for name in (
            "big-1",
            "big-1-2026-01-31",
            "maker/big-1",
            "us.anthropic.claude-big-20260131-v1:0",
            "odd",
            "bad",
            "no",
        )
    }
    assert list(found.values()) == [16_384, 16_384, 16_384, 64_000, None, None, None]
