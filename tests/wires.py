"""What the real APIs refuse in a request, as far as their documents say: for servers that check what clients send.

- https://platform.openai.com/docs/api-reference/chat/create, https://platform.openai.com/docs/api-reference/responses
- https://platform.claude.com/docs/en/api/messages
- https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_CHAT = {
    "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "seed", "stop", "n",
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "stream", "stream_options",
    "reasoning_effort", "verbosity", "logprobs", "top_logprobs", "user", "metadata", "store", "service_tier",
    "prompt_cache_key", "frequency_penalty", "presence_penalty", "logit_bias", "safety_identifier",
}  # fmt: skip
_RESPONSES = {
    "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning",
    "temperature", "top_p", "max_output_tokens", "stream", "include", "store", "metadata", "user",
    "service_tier", "truncation", "previous_response_id", "prompt_cache_key",
}  # fmt: skip
_MESSAGES = {
    "model", "messages", "system", "tools", "tool_choice", "max_tokens", "temperature", "top_p", "top_k",
    "stop_sequences", "stream", "thinking", "output_config", "cache_control", "metadata", "service_tier",
    "container", "context_management",
}  # fmt: skip
_GENERATION = {
    "temperature", "topP", "topK", "maxOutputTokens", "stopSequences", "candidateCount", "seed",
    "responseMimeType", "responseJsonSchema", "responseSchema", "thinkingConfig", "presencePenalty",
    "frequencyPenalty", "responseModalities",
}  # fmt: skip
_PARTS = {"text", "functionCall", "functionResponse", "inlineData", "fileData", "thought", "thoughtSignature"}


def fault(path: str, body: Mapping[str, Any]) -> str:
    """The first thing that the API at this path would refuse; empty where there is none."""
    if path.endswith("/chat/completions"):
        found = _chat(body)
    elif path.endswith("/responses"):
        found = _responses(body)
    elif path.endswith("/messages"):
        found = _messages(body)
    else:
        found = _generate(body)
    return next(found, "")


def _unknown(body: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    yield from (f"Unknown parameter: '{name}'" for name in body if name not in known)


def _choice(choice: Any, names: list[Any], tools: Any, words: tuple[str, ...], name: Any) -> Iterator[str]:
    if choice is None:
        return
    if not tools:
        yield "'tool_choice' is only allowed when 'tools' are specified"
    elif not (choice in words if isinstance(choice, str) else name in names):
        yield f"tool_choice: {choice!r}"


def _chat(body: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(body, _CHAT)
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    if any(set(tool) != {"type", "function"} or tool["type"] != "function" for tool in tools):
        yield f"tools: {tools}"
    names = [tool["function"]["name"] for tool in tools]
    name = (choice.get("function") or {}).get("name") if isinstance(choice, Mapping) else None
    yield from _choice(choice, names, tools, ("none", "auto", "required"), name)
    if "parallel_tool_calls" in body and not tools:
        yield "'parallel_tool_calls' is only allowed when 'tools' are specified"
    form = body.get("response_format") or {"type": "text"}
    if form["type"] == "json_object" and "json" not in json.dumps(body["messages"]).lower():
        yield "'messages' must contain the word 'json' in some form"
    if form["type"] == "json_schema" and set(form["json_schema"]) - {"name", "schema", "strict", "description"}:
        yield f"response_format: {form}"
    for message in body["messages"]:
        for block in message["content"] if isinstance(message.get("content"), list) else ():
            if block.get("type") == "text" and set(block) - {"type", "text", "prompt_cache_breakpoint"}:
                yield f"Unknown parameter in {block}"
            if block.get("type") not in ("text", "image_url", "input_audio", "file", "refusal"):
                yield f"Invalid value: {block.get('type')!r}"
    yield from _pairs(
        [
            ([call["id"] for call in message.get("tool_calls") or ()], message.get("tool_call_id"))
            for message in body["messages"]
        ]
    )


def _responses(body: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(body, _RESPONSES)
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    known = ("function", "web_search", "web_search_preview", "code_interpreter", "file_search", "mcp", "custom")
    if any(tool.get("type") not in known or {"function", "cache_control"} & set(tool) for tool in tools):
        yield f"tools: {tools}"
    named = [tool.get("name") for tool in tools]
    name = choice.get("name") if isinstance(choice, Mapping) else None
    yield from _choice(choice, named, tools, ("none", "auto", "required"), name)
    for item in body["input"] if isinstance(body["input"], list) else ():
        kind = item.get("type", "message")
        if kind not in ("message", "function_call", "function_call_output", "reasoning", "web_search_call"):
            yield f"Invalid value: {kind!r}"
        for block in item["content"] if kind == "message" and isinstance(item.get("content"), list) else ():
            if block.get("type") not in ("input_text", "output_text", "input_image", "input_file", "refusal"):
                yield f"Invalid value: {block.get('type')!r}"
            if "cache_control" in block:
                yield f"Unknown parameter in {block}"
    yield from _pairs(
        [
            ([item["call_id"]] if item.get("type") == "function_call" else [], item.get("call_id"))
            if item.get("type") in ("function_call", "function_call_output")
            else ([], None)
            for item in body["input"]
            if isinstance(item, Mapping)
        ],
        together=True,
    )


def _pairs(turns: list[tuple[list[str], str | None]], *, together: bool = False) -> Iterator[str]:
    """Each turn has the ids it calls, and the one it answers."""
    called: set[str] = set()
    for calls, answers in turns:
        if answers is not None and not calls and answers not in called:
            yield f"an answer to {answers!r}, which nobody called"
        called |= set(calls)
    answered = {answers for calls, answers in turns if not calls}
    if called - answered:
        yield f"calls without an answer: {sorted(called - answered)}"


def _messages(body: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{name}: Extra inputs are not permitted" for name in body if name not in _MESSAGES)
    tools, choice = body.get("tools") or [], body.get("tool_choice") or {}
    hosted = ("web_search_", "code_execution_", "bash_", "text_editor_", "memory_")
    for tool in tools:
        own = str(tool.get("type") or "custom")
        if own != "custom" and not own.startswith(hosted):
            yield f"tools: {tool}"
        if own == "custom" and not {"name", "input_schema"} <= set(tool):
            yield f"tools: {tool}: Field required"
    if choice:
        if choice.get("type") not in ("auto", "any", "tool", "none") or not tools:
            yield f"tool_choice: {choice}"
        if choice.get("type") == "tool" and choice["name"] not in [tool.get("name") for tool in tools]:
            yield f"tool_choice: {choice['name']!r} not found in tools"
        if choice.get("type") == "none" and "disable_parallel_tool_use" in choice:
            yield "tool_choice.none.disable_parallel_tool_use: Extra inputs are not permitted"
    yield from _thinking(body, choice)
    yield from _blocks(body, tools)
    form = (body.get("output_config") or {}).get("format")
    if form is not None and (form.get("type") != "json_schema" or not _closed(form.get("schema"))):
        yield f"output_config.format: {form}"


def _thinking(body: Mapping[str, Any], choice: Mapping[str, Any]) -> Iterator[str]:
    thinking = body.get("thinking") or {}
    if thinking.get("type") not in ("enabled", "adaptive"):
        return
    if choice.get("type") in ("any", "tool"):
        yield "Thinking may not be enabled when tool_choice forces tool use."
    if body.get("temperature") not in (None, 1):
        yield "`temperature` may only be set to 1 when thinking is enabled."
    if thinking["type"] == "enabled" and body["max_tokens"] <= thinking["budget_tokens"]:
        yield "`max_tokens` must be greater than `thinking.budget_tokens`."
    *_, before, last = [{"role": "user", "content": ""}, *body["messages"]]
    answers = isinstance(last["content"], list) and any(b.get("type") == "tool_result" for b in last["content"])
    if answers and thinking["type"] == "enabled" and before["content"][0]["type"] not in ("thinking",):
        yield "Expected `thinking` or `redacted_thinking`"


def _blocks(body: Mapping[str, Any], tools: list[Any]) -> Iterator[str]:
    known = ("text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result",
             "server_tool_use", "web_search_tool_result")  # fmt: skip
    system = body.get("system") or []
    blocks = list(system) if isinstance(system, list) else []
    called: list[str] = []
    for message in body["messages"]:
        content = message["content"] if isinstance(message["content"], list) else []
        if not message["content"]:
            yield "messages: text content blocks must be non-empty"
        found = [block["tool_use_id"] for block in content if block.get("type") == "tool_result"]
        if called and set(called) - set(found):
            yield f"`tool_use` ids were found without `tool_result` blocks: {called}"
        called = [block["id"] for block in content if block.get("type") == "tool_use"]
        blocks += content
    if any(block.get("type") == "tool_use" for block in blocks) and not tools:
        yield "tools: Field required"
    for block in blocks:
        if block.get("type") not in known:
            yield f"messages: unknown block {block.get('type')!r}"
        if block.get("type") == "thinking" and not block.get("signature"):
            yield "messages: thinking.signature: Field required"
        if "prompt_cache_breakpoint" in block:
            yield "prompt_cache_breakpoint: Extra inputs are not permitted"
    if sum("cache_control" in block for block in [*blocks, *tools]) > 4:
        yield "A maximum of 4 blocks with cache_control may be provided."


def _closed(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return schema is not None
    inside = [value for key, value in schema.items() if isinstance(value, Mapping)]
    return (schema.get("type") != "object" or schema.get("additionalProperties") is False) and all(map(_closed, inside))


def _generate(body: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        f"Unknown name {name!r}"
        for name in body
        if name not in ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings")
    )
    config = body.get("generationConfig") or {}
    yield from (f"Unknown name {name!r} at 'generation_config'" for name in config if name not in _GENERATION)
    tools = body.get("tools") or []
    names = [declared["name"] for tool in tools for declared in tool.get("functionDeclarations") or ()]
    if names and config.get("responseMimeType") == "application/json":
        yield "Function calling with a response mime type: 'application/json' is unsupported"
    allowed = ((body.get("toolConfig") or {}).get("functionCallingConfig") or {}).get("allowedFunctionNames") or ()
    if set(allowed) - set(names):
        yield f"allowed_function_names: {allowed}"
    before: list[str] = []
    for content in body["contents"]:
        if not content.get("parts"):
            yield "contents.parts must not be empty"
        for part in content.get("parts") or ():
            if set(part) - _PARTS or not set(part) - {"thought", "thoughtSignature"}:
                yield f"contents.parts: {part}"
        answers = [part["functionResponse"]["name"] for part in content["parts"] if "functionResponse" in part]
        if sorted(answers) != sorted(before):
            yield "the number of function response parts is not that of the function call parts"
        before = [part["functionCall"]["name"] for part in content["parts"] if "functionCall" in part]
