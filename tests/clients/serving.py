"""A provider on this machine: what it answers is written from its documented wire format."""

from __future__ import annotations

import binascii
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Body = dict[str, Any]
Answer = tuple[str, str | bytes]
"""Content type and body."""
Wire = Callable[[Body], Answer]
"""Of a request's body the answer. What the path says is in it: ``stream``, and the ``path`` itself."""


@contextmanager
def serving(wire: Wire) -> Iterator[str]:
    """The address of a server that answers every request so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            body["path"] = self.path
            if "stream" in self.path.lower():
                body["stream"] = True
            kind, text = wire(body)
            data = text.encode() if isinstance(text, str) else text
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


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
