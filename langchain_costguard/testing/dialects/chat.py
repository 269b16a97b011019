"""POST /v1/chat/completions, as OpenAI and the many that follow it write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_costguard.testing.dialects.base import Answer, Part, count, openai_error, sse
from langchain_costguard.testing.replies import Output, Piece
from langchain_costguard.testing.requests import Request
from langchain_costguard.vocabulary.usage import Usage


class ChatCompletions:
    """OpenAI's chat completions: n choices, tool calls, ``stream_options.include_usage``."""

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        """The usage block for these counts."""
        return {
            "prompt_tokens": input_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens": output_tokens,
            "completion_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + output_tokens,
        }

    def billed(self, block: Mapping[str, Any]) -> Usage:
        """What a usage block bills."""
        return Usage(
            input_tokens=count(block, "prompt_tokens"),
            output_tokens=count(block, "completion_tokens"),
            cache_read=count(block, "prompt_tokens_details", "cached_tokens"),
            cache_write=count(block, "prompt_tokens_details", "cache_write_tokens"),
            input_audio=count(block, "prompt_tokens_details", "audio_tokens"),
            reasoning=count(block, "completion_tokens_details", "reasoning_tokens"),
            output_audio=count(block, "completion_tokens_details", "audio_tokens"),
        )

    def tells_usage(self, request: Request) -> bool:
        """A stream tells it only when the request asks for it."""
        asked = (request.body.get("stream_options") or {}).get("include_usage")
        return bool(asked) or not request.streamed

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer in one JSON body."""
        choices = [
            {
                "index": index,
                "message": _message(answer, index),
                "finish_reason": _reason(answer.output),
                "logprobs": _logprobs(answer, [piece for piece in answer.output.pieces if piece.call is None]),
            }
            for index in range(answer.request.n)
        ]
        return {**_head(answer, "chat.completion"), "choices": choices, "usage": answer.usage}

    def parts(self, answer: Answer) -> Iterator[Part]:
        """The answer as a stream: openings, the pieces of all choices in turn, endings, usage."""
        asked = self.tells_usage(answer.request)
        head = {**_head(answer, "chat.completion.chunk"), **({"usage": None} if asked else {})}
        choices = range(answer.request.n)

        def chunk(index: int, delta: Mapping[str, Any], reason: str | None = None, odds: Any = None) -> bytes:
            choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": odds}
            return sse({**head, "choices": [choice]})

        for index in choices:
            yield Part(chunk(index, {"role": "assistant", "content": ""}))
        for number, piece in enumerate(answer.output.pieces, 1):
            if asked and answer.output.reply.cumulative:
                head["usage"] = _so_far(answer.usage, number, len(answer.output.pieces))
            for index in choices:
                odds = _logprobs(answer, [piece]) if piece.call is None else None
                yield Part(chunk(index, _delta(answer, index, piece), odds=odds), piece=True)
        for index in choices:
            yield Part(chunk(index, {}, _reason(answer.output)))
        if asked:
            yield Part(sse({**head, "choices": [], "usage": answer.usage}))
        yield Part(b"data: [DONE]\n\n")

    def error(self, status: int, message: str) -> dict[str, Any]:
        """The body of an error answer."""
        return openai_error(status, message)


def _so_far(usage: Mapping[str, Any], sent: int, of: int) -> dict[str, Any]:
    made = usage["completion_tokens"] * sent // of
    return {**usage, "completion_tokens": made, "total_tokens": usage["prompt_tokens"] + made}


def _head(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": "fp_fake",
        **answer.output.reply.extra,
    }


def _reason(output: Output) -> str:
    if output.reply.finish_reason is not None:
        return output.reply.finish_reason
    return "length" if output.cut else "tool_calls" if output.calls else "stop"


def _logprobs(answer: Answer, pieces: Sequence[Piece]) -> dict[str, Any] | None:
    value = answer.output.reply.logprobs
    if value is None or not answer.request.body.get("logprobs"):
        return None
    return {"content": [{"token": piece.text, "logprob": value, "bytes": None, "top_logprobs": []} for piece in pieces]}


def _message(answer: Answer, index: int) -> dict[str, Any]:
    calls = [
        {
            "id": answer.call_id(position, index),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for position, (name, arguments) in enumerate(answer.output.calls)
    ]
    message = {"role": "assistant", "content": answer.output.text or (None if calls else ""), "refusal": None}
    return {**message, "tool_calls": calls} if calls else message


def _delta(answer: Answer, index: int, piece: Piece) -> dict[str, Any]:
    if piece.call is None:
        return {"content": piece.text}
    if not piece.opens:
        return {"tool_calls": [{"index": piece.call, "function": {"arguments": piece.text}}]}
    function = {"name": answer.output.name_of(piece.call), "arguments": ""}
    opened = {"index": piece.call, "id": answer.call_id(piece.call, index), "type": "function"}
    return {"tool_calls": [{**opened, "function": function}]}
