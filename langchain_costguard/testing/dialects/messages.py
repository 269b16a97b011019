"""POST /v1/messages, as Anthropic writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from langchain_costguard.testing.dialects.base import Answer, Part, count, sse
from langchain_costguard.testing.replies import Output
from langchain_costguard.testing.requests import Request
from langchain_costguard.vocabulary.usage import Usage

# A stream's closing usage has no split of cache writes by lifetime, no tier and no region; its opening one has.
_ONLY_AT_START = {"cache_creation", "service_tier", "inference_geo", "speed"}


class Messages:
    """Anthropic's messages: text and tool use."""

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        """The usage block for these counts, nothing cached."""
        return {
            "input_tokens": input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }

    def billed(self, block: Mapping[str, Any]) -> Usage:
        """What a usage block bills; on this wire ``input_tokens`` leaves cached tokens out."""
        read = count(block, "cache_read_input_tokens")
        longer = count(block, "cache_creation", "ephemeral_1h_input_tokens")
        split = longer + count(block, "cache_creation", "ephemeral_5m_input_tokens")
        write = split or count(block, "cache_creation_input_tokens")
        return Usage(
            input_tokens=count(block, "input_tokens") + read + write,
            output_tokens=count(block, "output_tokens"),
            cache_read=read,
            cache_write=write,
            cache_write_1h=longer,
            reasoning=count(block, "output_tokens_details", "thinking_tokens"),
            web_searches=count(block, "server_tool_use", "web_search_requests"),
        )

    def tells_usage(self, request: Request) -> bool:
        """Always: a stream carries it in its opening and its closing."""
        return True

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer in one JSON body."""
        text, calls = answer.output.text, answer.output.calls
        content: list[dict[str, Any]] = [dict(item) for item in answer.output.reply.items]
        content += [{"type": "text", "text": text}] if text or not calls else []
        content += [
            {**_tool_use(answer, position), "input": _arguments(written)} for position, (_, written) in enumerate(calls)
        ]
        return {
            **_head(answer),
            "content": content,
            "stop_reason": _reason(answer.output),
            "usage": answer.usage,
        }

    def parts(self, answer: Answer) -> Iterator[Part]:
        """The answer as a stream."""
        opening = {**_head(answer), "content": [], "usage": {**answer.usage, "output_tokens": 1}}
        yield _event("message_start", message=opening)
        items = answer.output.reply.items
        for index, item in enumerate(items):
            yield from _item(index, item)
        groups = groupby(answer.output.pieces, key=lambda piece: piece.call)
        for index, (call, pieces) in enumerate(groups, len(items)):
            if call is None:
                block = {"type": "text", "text": ""}
                yield _event("content_block_start", index=index, content_block=block)
            for piece in pieces:
                if piece.call is None:
                    delta = {"type": "text_delta", "text": piece.text}
                elif not piece.opens:
                    delta = {"type": "input_json_delta", "partial_json": piece.text}
                else:
                    block = _tool_use(answer, piece.call)
                    yield _event("content_block_start", piece=True, index=index, content_block=block)
                    continue
                yield _event("content_block_delta", piece=True, index=index, delta=delta)
            yield _event("content_block_stop", index=index)
        usage = {name: value for name, value in answer.usage.items() if name not in _ONLY_AT_START}
        ending = {"stop_reason": _reason(answer.output), "stop_sequence": None}
        yield _event("message_delta", delta=ending, usage=usage)
        yield _event("message_stop")

    def error(self, status: int, message: str) -> dict[str, Any]:
        """The body of an error answer."""
        kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
        kind = "overloaded_error" if status == 529 else kinds.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}


def _item(index: int, item: Mapping[str, Any]) -> Iterator[Part]:
    """A block that is sent as it is; the input of a tool comes bit by bit."""
    bare = {**item, "input": {}} if "input" in item else item
    if item.get("type") == "compaction":
        bare = {**item, "content": None}
    yield _event("content_block_start", index=index, content_block=bare)
    if "input" in item:
        delta = {"type": "input_json_delta", "partial_json": json.dumps(item["input"])}
        yield _event("content_block_delta", index=index, delta=delta)
    if item.get("type") == "compaction":
        summary = {"type": "compaction_delta", "content": item.get("content")}
        yield _event("content_block_delta", index=index, delta=summary)
    yield _event("content_block_stop", index=index)


def _event(kind: str, *, piece: bool = False, **fields: Any) -> Part:
    return Part(sse({"type": kind, **fields}, kind), piece)


def _head(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "stop_reason": None,
        "stop_sequence": None,
        **answer.output.reply.extra,
    }


def _reason(output: Output) -> str:
    if output.reply.finish_reason is not None:
        return output.reply.finish_reason
    return "max_tokens" if output.cut else "tool_use" if output.calls else "end_turn"


def _tool_use(answer: Answer, call: int) -> dict[str, Any]:
    name = answer.output.name_of(call)
    return {"type": "tool_use", "id": f"toolu_{answer.call_id(call)}", "name": name, "input": {}}


def _arguments(written: str) -> Any:
    """A tool's input is JSON, not text, on this wire: arguments that were cut off arrive as none."""
    try:
        return json.loads(written)
    except ValueError:
        return {}
