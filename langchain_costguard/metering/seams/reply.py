"""A reply of a wrapped model as it streams: what it said of its usage, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, merge_content
from langchain_core.messages.ai import add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_costguard.metering.calls import Call, Stream, pieces

if TYPE_CHECKING:
    from langchain_costguard.metering.seams.host import Host


class Reply:
    """A streamed reply as it comes: counted chunk by chunk, its usage added up."""

    def __init__(self, guard: Host, call: Call) -> None:
        self.guard = guard
        self.call = call
        self.usage: Any = None
        self.metadata: dict[str, Any] = {}
        self.blocks: list[str | dict[Any, Any]] = []
        self.heard: dict[str, Any] = {}
        call.stream = Stream(guard.voice.now(), 1)

    def add(self, chunk: ChatGenerationChunk) -> None:
        """Take the next piece."""
        message = chunk.message
        stream = self.call.stream
        assert stream is not None
        usage = getattr(message, "usage_metadata", None)
        if usage:
            self.usage = add_usage(self.usage, usage)
            stream.tell(usage)
        for facts in (chunk.generation_info, message.response_metadata):
            if facts:
                self.metadata.update(facts)
        if message.content.__class__ is list:
            self.blocks += [block for block in message.content if isinstance(block, dict) and _telling(block)]
        self.blocks += message.additional_kwargs.get("tool_outputs") or ()  # ChatOpenAI's output_version="v0"
        text = pieces(message.content, chunk)
        if text:
            if not stream.chunks:
                stream.first_at = self.guard.voice.now()
            self.guard.settlement.feed(self.call, stream, text)

    async def aadd(self, chunk: ChatGenerationChunk) -> None:
        """The same, beside the event loop where it takes long."""
        if self.guard.settlement.looks(self.call.stream, len(str(chunk.message.content))):
            await self.guard.aside.run(self.add, chunk)
        else:
            self.add(chunk)

    def result(self) -> ChatResult:
        """All of it, as a reply that came whole."""
        text = self.call.stream.text() if self.call.stream else ""
        content: Any = text
        if self.blocks:
            content = [{"type": "text", "text": text}, *merge_content([], *([block] for block in self.blocks))]
        facts = {**self.metadata, "usage": self.heard} if self.heard else self.metadata
        message = AIMessage(content=content, usage_metadata=self.usage, response_metadata=facts)
        return ChatResult(generations=[ChatGeneration(message=message)])


def _telling(block: dict[str, Any]) -> bool:
    """Whether a block says something about the price: what the provider's own tools did, pictures, a compaction."""
    return block.get("type") not in ("text", "text_delta", "thinking", "reasoning", "input_json_delta", "tool_use")
