"""POST /v1/responses, OpenAI's newer endpoint: one output, items instead of choices, named stream events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count as numbers
from itertools import groupby
from typing import Any

from langchain_costguard.testing.dialects.base import Answer, Part, count, openai_error, sse
from langchain_costguard.testing.replies import Piece
from langchain_costguard.testing.requests import Request
from langchain_costguard.vocabulary.usage import Usage


class Responses:
    """OpenAI's Responses API: text and function calls."""

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        """The usage block for these counts."""
        return {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + output_tokens,
        }

    def billed(self, block: Mapping[str, Any]) -> Usage:
        """What a usage block bills."""
        return Usage(
            input_tokens=count(block, "input_tokens"),
            output_tokens=count(block, "output_tokens"),
            cache_read=count(block, "input_tokens_details", "cached_tokens"),
            cache_write=count(block, "input_tokens_details", "cache_write_tokens"),
            reasoning=count(block, "output_tokens_details", "reasoning_tokens"),
        )

    def tells_usage(self, request: Request) -> bool:
        """Always: a stream carries it in its last event."""
        return True

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer in one JSON body."""
        items = [dict(item) for item in answer.output.reply.items]
        items += [_item(answer, position, pieces) for position, pieces in enumerate(_items(answer))]
        cut = answer.output.cut
        return {
            **_head(answer),
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": items,
            "usage": answer.usage,
        }

    def parts(self, answer: Answer) -> Iterator[Part]:
        """The answer as a stream."""
        order = numbers()

        def event(kind: str, *, piece: bool = False, **fields: Any) -> Part:
            return Part(sse({"type": kind, "sequence_number": next(order), **fields}, kind), piece)

        begun = {**_head(answer), "status": "in_progress", "output": [], "usage": None}
        yield event("response.created", response=begun)
        yield event("response.in_progress", response=begun)
        given = answer.output.reply.items
        for position, item in enumerate(given):
            for kind, now in (("added", {**item, "status": "in_progress"}), ("done", item)):
                yield event(f"response.output_item.{kind}", output_index=position, item=now)
        for number, pieces in enumerate(_items(answer)):
            item, position = _item(answer, number, pieces), number + len(given)
            at = {"output_index": position, "item_id": item["id"]}
            for kind, fields, piece in _item_events(item, pieces):
                where = {"output_index": position} if "item" in fields else at
                yield event(kind, piece=piece, **where, **fields)
        last = self.whole(answer)
        yield event(f"response.{last['status']}", response=last)

    def error(self, status: int, message: str) -> dict[str, Any]:
        """The body of an error answer."""
        return openai_error(status, message)


def _head(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "model": answer.model,
        "error": None,
        "incomplete_details": None,
        "instructions": answer.request.body.get("instructions"),
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        **answer.output.reply.extra,
    }


def _items(answer: Answer) -> list[list[Piece]]:
    """The pieces of each output item: the message, then one function call each."""
    return [list(pieces) for _, pieces in groupby(answer.output.pieces, key=lambda piece: piece.call)]


def _item(answer: Answer, position: int, pieces: list[Piece]) -> dict[str, Any]:
    written, call = "".join(piece.text for piece in pieces), pieces[0].call
    status = "incomplete" if answer.output.cut and position == len(_items(answer)) - 1 else "completed"
    if call is None:
        content = [{"type": "output_text", "text": written, "annotations": []}]
        item = {"type": "message", "id": f"msg_{answer.id}", "role": "assistant", "content": content}
    else:
        item = {
            "type": "function_call",
            "id": f"fc_{answer.id}_{call}",
            "call_id": answer.call_id(call),
            "name": answer.output.name_of(call),
            "arguments": written,
        }
    return {**item, "status": status}


def _item_events(item: dict[str, Any], pieces: list[Piece]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """The events of one item as (type, fields, whether it carries a piece)."""
    if item["type"] == "message":
        part, empty = item["content"][0], {"type": "output_text", "text": "", "annotations": []}
        first = {"content_index": 0}
        yield "response.output_item.added", {"item": {**item, "content": [], "status": "in_progress"}}, False
        yield "response.content_part.added", {**first, "part": empty}, False
        for piece in pieces:
            yield "response.output_text.delta", {**first, "delta": piece.text, "logprobs": []}, True
        yield "response.output_text.done", {**first, "text": part["text"], "logprobs": []}, False
        yield "response.content_part.done", {**first, "part": part}, False
    else:
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield "response.output_item.added", {"item": begun}, True
        for piece in pieces[1:]:
            yield "response.function_call_arguments.delta", {"delta": piece.text}, True
        yield "response.function_call_arguments.done", {"arguments": item["arguments"]}, False
    yield "response.output_item.done", {"item": item}, False
