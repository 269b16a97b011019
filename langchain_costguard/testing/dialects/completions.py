"""POST /v1/completions: text models, several prompts in one request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langchain_costguard.testing.dialects.base import Answer, Part, openai_error, sse
from langchain_costguard.testing.dialects.chat import ChatCompletions
from langchain_costguard.testing.requests import Request
from langchain_costguard.vocabulary.usage import Usage


class Completions:
    """OpenAI's text completions: one choice a prompt, and one usage block for all of them."""

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        """The usage block for these counts; the output is one prompt's, and is billed for each."""
        return {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        }

    def billed(self, block: Mapping[str, Any]) -> Usage:
        """What a usage block bills."""
        return ChatCompletions().billed(block)

    def tells_usage(self, request: Request) -> bool:
        """A stream tells none."""
        return not request.streamed

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer in one JSON body, the same to each prompt."""
        choices = [
            {"index": index, "text": answer.output.text, "finish_reason": "stop", "logprobs": None}
            for index in range(_prompts(answer.request))
        ]
        return {**_head(answer), "choices": choices, "usage": answer.usage}

    def parts(self, answer: Answer) -> Iterator[Part]:
        """The answer as a stream."""
        for piece in answer.output.pieces:
            choice = {"index": 0, "text": piece.text, "finish_reason": None, "logprobs": None}
            yield Part(sse({**_head(answer), "choices": [choice]}), piece=True)
        yield Part(b"data: [DONE]\n\n")

    def error(self, status: int, message: str) -> dict[str, Any]:
        """The body of an error answer."""
        return openai_error(status, message)


def _prompts(request: Request) -> int:
    prompt = request.body.get("prompt")
    return len(prompt) if isinstance(prompt, list) else 1


def _head(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"cmpl-{answer.id}",
        "object": "text_completion",
        "created": answer.created,
        "model": answer.model,
        **answer.output.reply.extra,
    }
