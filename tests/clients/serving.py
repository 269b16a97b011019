"""A provider on this machine: what it answers is written from its documented wire format."""

from __future__ import annotations

import binascii
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.loopback import Answering, Listener

Body = dict[str, Any]
Answer = tuple[str, str | bytes]
"""Content type and body."""
Wire = Callable[[Body], Answer]
"""Of a request's body the answer. What the path says is in it: ``stream``, and the ``path`` itself."""


@contextmanager
def serving(wire: Wire) -> Iterator[str]:
    """The address of a server that answers every request so."""

    class Handler(Answering):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.body() or b"{}")
            body["path"] = self.path
            if "stream" in self.path.lower():
                body["stream"] = True
            kind, text = wire(body)
            self.answer(text, headers={"content-type": kind})

    with Listener(Handler) as server:
        yield server.url


def whole(body: Any) -> Answer:
    """An answer in one piece."""
    return "application/json", json.dumps(body)


def events(*items: Any) -> Answer:
    """Server-sent events; a pair has a name."""
    lines = []
    for item in items:
        name = f"event: {item[0]}\n" if isinstance(item, tuple) else ""
        data = item[1] if isinstance(item, tuple) else item
        lines.append(f"{name}data: {data if isinstance(data, str) else json.dumps(data)}\n\n")
    return "text/event-stream", "".join(lines)


def frames(*items: tuple[str, Any]) -> Answer:
    """Amazon's event stream: https://smithy.io/2.0/aws/amazon-eventstream.html."""
    return "application/vnd.amazon.eventstream", b"".join(_frame(kind, body) for kind, body in items)


def _frame(kind: str, body: Any) -> bytes:
    head = b""
    for name, value in ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event")):
        head += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    data = json.dumps(body).encode()
    start = struct.pack(">II", 16 + len(head) + len(data), len(head))
    message = start + struct.pack(">I", binascii.crc32(start)) + head + data
    return message + struct.pack(">I", binascii.crc32(message))
