"""A model provider on loopback that says what it is told to and remembers what it was asked."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_costguard.testing import clients
from langchain_costguard.testing.dialects import ENDPOINTS, Answer, Dialect, so_far
from langchain_costguard.testing.gate import Gate
from langchain_costguard.testing.http import Exchange, LoopbackServer
from langchain_costguard.testing.replies import Output, Reply
from langchain_costguard.testing.requests import Request

if TYPE_CHECKING:
    from langchain_anthropic import ChatAnthropic
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

Replies = Reply | str | Sequence[Reply | str] | Callable[[Request], Reply | str]
"""One answer for every request, answers in order (the last repeats), or a function that sees the request."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What a provider has billed."""

    calls: int
    """Requests billed: all but errors and those still in flight."""
    input_tokens: int
    output_tokens: int


class FakeProvider:
    """A small OpenAI- and Anthropic-compatible server on 127.0.0.1, for tests and demonstrations.

    >>> with FakeProvider("Hello there") as provider:
    ...     provider.openai().invoke("Hi").content
    'Hello there'

    ``reply`` says what it answers: a ``Reply`` or a text, a sequence of them (the last repeats), or a function of the
    ``Request``; the function runs on the server's thread, one request at a time, and must not block. ``embedding``
    says the same for embeddings, of which only status, delay and token counts matter. With ``gate=True`` every answer
    waits until ``provider.gate.set()``. With ``keep_alive=False`` every request is a connection of its own.
    """

    def __init__(
        self,
        reply: Replies = "Hello from the fake provider.",
        *,
        embedding: Replies = "",
        gate: bool = False,
        keep_alive: bool = True,
        port: int = 0,
    ) -> None:
        self.gate = Gate()
        """Holds all answers (``gate=True``) and streams at ``Reply(hold_after=...)`` until it is set."""
        self.requests: list[Request] = []
        """Every model request that reached the server, in order."""
        self._gated = gate
        self._next_reply = {False: _script("reply", reply), True: _script("embedding", embedding)}
        self._port = port
        self._keep_alive = keep_alive
        self._server: LoopbackServer | None = None
        self._changed = threading.Condition()
        self._id = secrets.token_hex(4)

    def __enter__(self) -> FakeProvider:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> FakeProvider:
        """Begin to listen; returns itself."""
        if self._server is None:
            self._server = LoopbackServer(self._handle, port=self._port, keep_alive=self._keep_alive)
            self.gate.attach(self._server.loop)
            self._server.start()
        return self

    def stop(self) -> None:
        """Hang up on every client and stop to listen."""
        if self._server is not None:
            self.gate.attach(None)
            self._server.stop()
            self._server = None

    @property
    def url(self) -> str:
        """Base URL for OpenAI clients: ``ChatOpenAI(base_url=provider.url)``."""
        return f"{self.anthropic_url}/v1"

    @property
    def anthropic_url(self) -> str:
        """Base URL for Anthropic clients: ``ChatAnthropic(base_url=provider.anthropic_url)``."""
        if self._server is None:
            raise RuntimeError("The fake provider is not running: use it in a with block, or call start().")
        return f"http://127.0.0.1:{self._server.port}"

    def openai(self, model: str = "gpt-4o", **kwargs: Any) -> ChatOpenAI:
        """A real ``ChatOpenAI`` that talks to this provider; no retries, and usage in streams, unless given."""
        return clients.openai(self.url, model, kwargs)

    def anthropic(self, model: str = "claude-sonnet-4-6", **kwargs: Any) -> ChatAnthropic:
        """A real ``ChatAnthropic`` that talks to this provider; no retries unless given."""
        return clients.anthropic(self.anthropic_url, model, kwargs)

    def embeddings(self, model: str = "text-embedding-3-small", **kwargs: Any) -> OpenAIEmbeddings:
        """Real ``OpenAIEmbeddings`` that talk to this provider; no retries, and texts sent as text, unless given."""
        return clients.embeddings(self.url, model, kwargs)

    def usage(self) -> Totals:
        """The truth: what was billed so far, in tokens and calls."""
        billed = [request.usage for request in list(self.requests) if request.usage is not None]
        return Totals(
            calls=len(billed),
            input_tokens=sum(usage.input_tokens for usage in billed),
            output_tokens=sum(usage.output_tokens for usage in billed),
        )

    def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until ``condition`` of ``requests`` holds; TimeoutError after ``timeout`` seconds.

        In a coroutine: ``await asyncio.to_thread(provider.wait_until, lambda: provider.requests[0].aborted)``.
        """
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"not so after {timeout} s; requests: {self.requests}")

    def wait_for_requests(self, count: int, timeout: float = 10.0) -> None:
        """Wait until ``count`` requests have reached the server, answered or not."""
        self.wait_until(lambda: len(self.requests) >= count, timeout)

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """Wait until every request that came is answered or given up."""
        self.wait_until(lambda: all(r.finished or r.aborted for r in self.requests), timeout)

    async def _handle(self, exchange: Exchange) -> None:
        dialect = ENDPOINTS.get(exchange.path)
        if dialect is None or exchange.method != "POST":
            _answer_other(exchange)
            return
        try:
            body = exchange.json()
        except ValueError as error:
            exchange.send_json(400, dialect.error(400, str(error)))
            return
        request = Request(len(self.requests) + 1, exchange.path, body, exchange.headers, time.time())
        reply = self._reply_to(request)
        answer = self._write(request, reply, dialect)
        self._note(request, arrived=True)
        try:
            await self._send(exchange, answer, dialect)
        except asyncio.CancelledError:
            usage = dialect.billed(answer.usage)
            billed = so_far(usage, request.chunks_sent, len(answer.output.pieces) * request.n)
            self._note(request, aborted=True, usage=billed if reply.status < 400 else None)
            raise

    def _reply_to(self, request: Request) -> Reply:
        try:
            reply = self._next_reply[request.path.endswith("/embeddings")](request)
        except Exception as error:  # it belongs to the test: let the client see it
            return Reply(status=500, error=f"The reply function raised {error!r}.")
        return Reply(reply) if isinstance(reply, str) else reply

    def _write(self, request: Request, reply: Reply, dialect: Dialect) -> Answer:
        output = Output.of(reply, request.max_tokens)
        input_tokens = request.count_input() if reply.input_tokens is None else reply.input_tokens
        usage = reply.usage or dialect.usage(input_tokens, output.tokens * request.n)
        return Answer(request, output, f"{self._id}-{request.number}", int(request.at), usage)

    async def _send(self, exchange: Exchange, answer: Answer, dialect: Dialect) -> None:
        request, reply = answer.request, answer.output.reply
        if self._gated:
            await self._hold(request)
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.status >= 400:
            retry = {} if reply.retry_after is None else {"Retry-After": f"{reply.retry_after:g}"}
            self._note(request, status=reply.status, finished=True)
            body = dialect.error(reply.status, reply.error)
            if reply.code is not None:
                body["error"]["code"] = reply.code
            exchange.send_json(reply.status, body, retry)
            return
        self._note(request, status=reply.status)
        if request.streamed:
            await self._stream(exchange, answer, dialect)
            exchange.end()
        else:
            self._finish(answer, dialect)
            exchange.send_json(reply.status, dialect.whole(answer), reply.headers)

    def _finish(self, answer: Answer, dialect: Dialect) -> None:
        """Bill the answer, before the client has the last of it and can ask what was billed."""
        served = answer.usage if dialect.tells_usage(answer.request) else None
        self._note(answer.request, finished=True, usage=dialect.billed(answer.usage), served=served)

    async def _stream(self, exchange: Exchange, answer: Answer, dialect: Dialect) -> None:
        request, reply = answer.request, answer.output.reply
        exchange.stream()
        *parts, last = dialect.parts(answer)
        for part in parts:
            if part.piece:
                if request.chunks_sent and reply.pace:
                    await asyncio.sleep(reply.pace)
                if request.chunks_sent == reply.hold_after:
                    await self._hold(request)
            await exchange.send(part.data)
            if part.piece:
                self._note(request, chunks_sent=request.chunks_sent + 1)
        self._finish(answer, dialect)
        await exchange.send(last.data)

    async def _hold(self, request: Request) -> None:
        self._note(request, holding=True)
        try:
            await self.gate.passed()
        finally:
            self._note(request, holding=False)

    def _note(self, request: Request, *, arrived: bool = False, **facts: object) -> None:
        with self._changed:
            for name, value in facts.items():
                setattr(request, name, value)
            if arrived:
                self.requests.append(request)
            self._changed.notify_all()


def _answer_other(exchange: Exchange) -> None:
    if (exchange.method, exchange.path) == ("GET", "/v1/models"):
        exchange.send_json(200, {"object": "list", "data": []})
        return
    message = f"The fake provider has no {exchange.method} {exchange.path}; it has POST {', '.join(ENDPOINTS)}."
    exchange.send_json(404, {"type": "error", "error": {"type": "not_found_error", "message": message}})


def _script(name: str, given: Replies) -> Callable[[Request], Reply | str]:
    """The function that says what to answer."""
    if isinstance(given, Reply | str):
        return lambda request: given
    if callable(given):
        return given
    if not given:
        raise ValueError(f"FakeProvider({name}={given!r}): needs at least one reply")
    queue = itertools.chain(given, itertools.repeat(given[-1]))
    return lambda request: next(queue)
