"""A small HTTP/1.1 server on loopback: one thread, one asyncio loop, keep-alive, streams, and news of hang-ups.

One loop rather than a thread a connection: a thousand connections at once stay cheap on two cores, and a client that
goes away is an event that cancels its handler, instead of a write that may fail much later. h11 speaks the protocol; an
ASGI server would tell of a hang-up only to those who ask.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, cast

import h11

Handler = Callable[["Exchange"], Awaitable[None]]

_BACKLOG = 4096  # connections that may wait to be accepted; the kernel's own limit (somaxconn) still applies
_LONGEST_HEAD = 1 << 20


class Exchange:
    """One HTTP request, and the means to answer it: whole (``send_json``) or in parts (``stream``, ``send``, ``end``).

    A client that hangs up cancels the handler: every ``await`` in it may raise ``CancelledError``.
    """

    def __init__(self, connection: _Connection, head: h11.Request, body: bytes, *, keep_alive: bool) -> None:
        self.method = head.method.decode()
        self.path = head.target.decode("latin-1").partition("?")[0]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        """Header names are in lower case."""
        self.body = body
        # An asyncio client's pool outlives the loop that its connections belong to (langchain keeps one client for
        # each base URL), so a second asyncio.run() in a test would find dead connections: those are not kept alive.
        self._keep = keep_alive and self.headers.get("x-stainless-async", "false") == "false"
        self._connection = connection

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; ValueError when it is not one."""
        value = json.loads(self.body)
        if not isinstance(value, dict):
            raise ValueError("the request body is not a JSON object")
        return value

    def send_json(self, status: int, payload: object, headers: Mapping[str, str] | None = None) -> None:
        """Answer at once with a JSON body."""
        data = json.dumps(payload, separators=(",", ":")).encode()
        extra = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        self._connection.send(self._head(status, extra), h11.Data(data), h11.EndOfMessage())

    def stream(self) -> None:
        """Begin a stream of server-sent events."""
        self._connection.send(self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}))

    async def send(self, data: bytes) -> None:
        """Let the loop see whether the client is still there and reads, then send one part of a stream."""
        await self._connection.drained()
        self._connection.send(h11.Data(data))

    def end(self) -> None:
        """End a stream."""
        self._connection.send(h11.EndOfMessage())

    def _head(self, status: int, headers: Mapping[str, str]) -> h11.Response:
        fields = {**headers, "Connection": "keep-alive" if self._keep else "close"}
        return h11.Response(status_code=status, headers=list(fields.items()), reason=_phrase(status))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


class _Connection(asyncio.Protocol):
    """One client connection: runs one handler at a time, and cancels it when the client hangs up."""

    def __init__(self, handler: Handler, open_connections: set[_Connection], *, keep_alive: bool) -> None:
        self._handler = handler
        self._open = open_connections
        self._keep_alive = keep_alive
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._transport: asyncio.Transport | None = None
        self._running: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._transport = None
        if self._running is not None:
            self._running.cancel()

    def eof_received(self) -> None:
        self.abort()  # clients of a JSON API do not half-close: the end of what they send is their hang-up

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        if self._running is None:
            self._next()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def send(self, *events: h11.Event) -> None:
        """Write the events of an answer, as one piece; close after the last, where the client was told so."""
        data = b"".join(self._http.send(event) or b"" for event in events)
        if self._transport is None:
            return
        self._transport.write(data)
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()  # after what is still to be written

    async def drained(self) -> None:
        await asyncio.sleep(0)
        await self._writable.wait()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        try:
            exchange = self._exchange()
        except h11.RemoteProtocolError:
            self.abort()
            return
        if exchange is not None:
            self._running = asyncio.ensure_future(self._run(exchange))

    async def _run(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
        except Exception:
            self.abort()  # a bug of ours, which the loop reports: the client must not wait for ever
            raise
        finally:
            self._running = None
        if self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self._http.start_next_cycle()
            self._next()  # a request that came meanwhile

    def _exchange(self) -> Exchange | None:
        """One whole request; None while part of it is still to come."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._head, self._body = event, bytearray()
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage) and self._head is not None:
                return Exchange(self, self._head, bytes(self._body), keep_alive=self._keep_alive)
            else:  # more is to come, or nothing will
                return None


class LoopbackServer:
    """Runs ``handler`` for every request on 127.0.0.1, in a daemon thread of its own, between start and stop."""

    def __init__(self, handler: Handler, *, port: int = 0, keep_alive: bool = True) -> None:
        self._handler = handler
        self._keep_alive = keep_alive
        self._connections: set[_Connection] = set()
        self._stopping: asyncio.Event | None = None
        self._socket = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="costguard-fake-provider", daemon=True)

    def start(self) -> None:
        """Start to answer; returns when connections are accepted."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Hang up on every client and end the thread."""
        stopping = self._stopping
        if stopping is not None and self._thread.is_alive():
            self.loop.call_soon_threadsafe(stopping.set)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.close()

    def _connected(self) -> _Connection:
        return _Connection(self._handler, self._connections, keep_alive=self._keep_alive)

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        server = await self.loop.create_server(self._connected, sock=self._socket, backlog=_BACKLOG)
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # connection_lost cancels the handlers …
        if handlers := asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())}:
            await asyncio.wait(handlers)  # … and they record what became of their requests
