"""Anthropic's cache of prompts, as its documentation describes it: for tests of what is sent to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

from langchain_costguard.testing.replies import Reply
from langchain_costguard.testing.requests import Request

_MARK = "cache_control"
_SECONDS = {"5m": 300.0, "1h": 3_600.0}
_LOOKBACK = 20
_NOT_PROMPT = ("type", "id", "tool_use_id", "url", "data")
_MOST = 4


class _Block(NamedTuple):
    """A block of the prompt, in the provider's order."""

    text: str
    words: int
    ttl: str | None
    run: str


class _Entry(NamedTuple):
    until: float
    seconds: float


class PrefixCache:
    """Replies that bill what a cache of prompts would: ``FakeProvider(PrefixCache("ok"))``.

    Writes happen at ``cache_control`` breakpoints, reads at the longest prefix that was written and is found from one
    of them within 20 blocks; a run of tool calls, or of their results, is one block. What a read or write keeps lives
    on for its five minutes or hour. A token is a word. A request with more than four breakpoints, a longer lifetime
    after a shorter one, or a breakpoint on an empty text is refused with status 400.
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching

    Args:
        reply: What is answered: a text, a ``Reply``, or a function of the ``Request``.
        least: The shortest prefix that is kept, in words.
        clock: Epoch seconds.
    """

    def __init__(
        self,
        reply: Reply | str | Callable[[Request], Reply | str] = "ok",
        *,
        least: int = 1_024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reply = reply
        self._least = least
        self._clock = clock
        self._kept: dict[str, _Entry] = {}

    def __call__(self, request: Request) -> Reply:
        """The reply to a request, with its usage."""
        given = self._reply(request) if callable(self._reply) else self._reply
        reply = Reply(given) if isinstance(given, str) else given
        if reply.status >= 400:
            return reply
        blocks = list(_blocks(request.body))
        wrong = _refused(blocks)
        if wrong:
            return Reply(status=400, error=wrong)
        changes = {name: getattr(reply, name) for name in ("text", "tool_calls", "chunks", "output_tokens")}
        return Reply(**changes, usage=self._billed(blocks, reply))

    def _billed(self, blocks: list[_Block], reply: Reply) -> Mapping[str, Any]:
        now, digests, sums = self._clock(), _digests(blocks), _sums(blocks)
        marks = [at for at, block in enumerate(blocks) if block.ttl and sums[at] >= self._least]
        read = max((found for mark in marks for found in self._found(blocks, digests, mark, now)), default=-1)
        if read >= 0:
            entry = self._kept[digests[read]]
            self._kept[digests[read]] = _Entry(now + entry.seconds, entry.seconds)
        hour = max((at for at in marks if at > read and blocks[at].ttl == "1h"), default=read)
        last = max([*marks, read])
        for at in marks:
            if at > read:
                seconds = _SECONDS[blocks[at].ttl or "5m"]
                self._kept[digests[at]] = _Entry(now + seconds, seconds)
            elif (kept := self._alive(digests[at], now)) is not None:
                self._kept[digests[at]] = _Entry(now + kept.seconds, kept.seconds)
        a, b, c = (sums[at] if at >= 0 else 0 for at in (read, hour, last))
        made = len(list(reply.pieces())) if reply.output_tokens is None else reply.output_tokens
        return {
            "input_tokens": max(0, (sums[-1] if sums else 0) - c),
            "cache_read_input_tokens": a,
            "cache_creation_input_tokens": c - a,
            "cache_creation": {"ephemeral_5m_input_tokens": c - b, "ephemeral_1h_input_tokens": b - a},
            "output_tokens": made,
            "service_tier": "standard",
        }

    def _found(self, blocks: list[_Block], digests: list[str], mark: int, now: float) -> Iterator[int]:
        """The prefixes that a breakpoint finds: the longest, within its lookback."""
        seen, at = 0, mark
        while at >= 0 and seen < _LOOKBACK:
            if self._alive(digests[at], now) is not None:
                yield at
                return
            if not at or not blocks[at].run or blocks[at - 1].run != blocks[at].run:
                seen += 1
            at -= 1

    def _alive(self, digest: str, now: float) -> _Entry | None:
        entry = self._kept.get(digest)
        return entry if entry is not None and now < entry.until else None


def _refused(blocks: list[_Block]) -> str:
    marks = [block for block in blocks if block.ttl]
    if len(marks) > _MOST:
        return f"A maximum of 4 blocks with cache_control may be provided. Found {len(marks)}."
    if any(one.ttl == "5m" and other.ttl == "1h" for one, other in pairwise(marks)):
        return "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block."
    if any(not block.words for block in marks):
        return "cache_control cannot be set for empty text blocks"
    return ""


def _blocks(body: Mapping[str, Any]) -> Iterator[_Block]:
    found = [_block("tool", tool) for tool in body.get("tools") or []]
    found += [_block("system", block) for block in _listed(body.get("system"))]
    for message in body.get("messages") or []:
        found += [_block(message["role"], block) for block in _listed(message.get("content"))]
    if found and body.get(_MARK) and found[-1].ttl is None:
        found[-1] = found[-1]._replace(ttl=body[_MARK].get("ttl", "5m"))
    return iter(found)


def _listed(content: Any) -> list[Any]:
    """A text is short for one block of text."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])


def _block(role: str, block: Mapping[str, Any]) -> _Block:
    mark = block.get(_MARK)
    plain = {key: value for key, value in block.items() if key != _MARK}
    ttl = None if not mark else mark.get("ttl", "5m")
    run = block.get("type", "") if block.get("type") in ("tool_use", "tool_result") else ""
    return _Block(f"{role} {json.dumps(plain)}", _words(plain), ttl, run)


def _words(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, Mapping):
        return sum(_words(inner) for name, inner in value.items() if name not in _NOT_PROMPT)
    return sum(map(_words, value)) if isinstance(value, list) else 0


def _digests(blocks: list[_Block]) -> list[str]:
    so_far, digests = sha256(), []
    for block in blocks:
        so_far.update(f"{len(block.text)} {block.text}".encode())
        digests.append(so_far.hexdigest())
    return digests


def _sums(blocks: list[_Block]) -> list[int]:
    total, sums = 0, []
    for block in blocks:
        total += block.words
        sums.append(total)
    return sums


class AutomaticPrefixCache:
    """Replies that bill a cache as OpenAI's: what begins as the request before did is read, from ``least`` tokens on.

    A token is four characters. https://platform.openai.com/docs/guides/prompt-caching

    Args:
        reply: What is answered: a text, a ``Reply``, or a function of the ``Request``.
        least: The shortest prefix that is kept, in tokens.
    """

    def __init__(self, reply: Reply | str | Callable[[Request], Reply | str] = "ok", *, least: int = 1_024) -> None:
        self._reply = reply
        self._least = least
        self._before = ""

    def __call__(self, request: Request) -> Reply:
        """The answer, with its bill."""
        answer = self._reply(request) if callable(self._reply) else self._reply
        said = Reply(answer) if isinstance(answer, str) else answer
        prompt, before = json.dumps(request.messages), self._before
        self._before = prompt
        same = next((n for n, (a, b) in enumerate(zip(prompt, before, strict=False)) if a != b), len(before)) // 4
        given, made = len(prompt) // 4, said.output_tokens or 40
        cached = {"cached_tokens": same if same >= self._least else 0}
        usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
        return replace(said, usage={**usage, "prompt_tokens_details": cached})
