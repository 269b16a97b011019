"""A provider whose first stream breaks off: with an error in it, or as if it had ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

from tests.loopback import Answering, Listener


def _event(kind: str, **said: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **said})}\n\n"


def anthropic(texts: list[str], end: str) -> str:
    """A stream of the Messages API; ``end`` is whole, cut or error."""
    usage = {"input_tokens": 20, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "content": []}
    out = [_event("message_start", message={**message, "stop_reason": None, "usage": usage})]
    out += [_event("content_block_start", index=0, content_block={"type": "text", "text": ""})]
    out += [_event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}) for text in texts]
    if end == "error":
        return "".join([*out, _event("error", error={"type": "overloaded_error", "message": "Overloaded"})])
    if end == "cut":
        return "".join(out)
    out += [_event("content_block_stop", index=0)]
    out += [_event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)]
    return "".join([*out, _event("message_stop")])


def openai(texts: list[str], end: str) -> str:
    """A stream of chat completions."""
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
        return f"data: {json.dumps({**base, 'choices': [{'index': 0, 'delta': delta, 'finish_reason': reason}]})}\n\n"

    out = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": text}) for text in texts)]
    if end == "error":
        return "".join([*out, f"data: {json.dumps({'error': {'message': 'down', 'type': 'server_error'}})}\n\n"])
    if end == "cut":
        return "".join(out)
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    return "".join([*out, chunk({}, "stop"), f"data: {json.dumps({**base, 'choices': [], 'usage': usage})}\n\n"])


@contextmanager
def breaking(kind: str, end: str) -> Iterator[tuple[Any, list[str]]]:
    """A streaming model whose first reply is half an answer, and the later ones a whole; and the requests' paths."""
    asked: list[str] = []

    class Handler(Answering):
        def do_POST(self) -> None:
            self.body()
            asked.append(self.path)
            make = anthropic if kind == "anthropic" else openai
            said = make(["half ", "an "], end) if len(asked) == 1 else make(["a whole ", "answer"], "whole")
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(said.encode())
            self.close_connection = True

    given: dict[str, Any] = {"api_key": "x", "max_retries": 0, "max_tokens": 50, "streaming": True, "temperature": 0}
    model: Any
    with Listener(Handler) as server:
        if kind == "anthropic":
            model = ChatAnthropic(model="claude-sonnet-4-6", base_url=server.url, **given)
        else:
            model = ChatOpenAI(model="gpt-4o", base_url=f"{server.url}/v1", stream_usage=True, **given)
        yield model, asked
