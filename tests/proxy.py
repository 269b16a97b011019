"""A TCP proxy that makes trouble when told to, between a real client and a real server."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes bytes on; each fault is an attribute that may be set while connections are open.

    Attributes:
        latency: Seconds that every packet takes, each way half of them.
        stall: Seconds that the next reply is late, of one connection alone.
        trickle: Seconds between two bytes of a reply.
        cut: Of the replies that follow, this one (1: the next) is not passed on: the connection is closed instead, when
            the server has done its work.
        mute: Replies are not passed on, though the server has done its work.
        refuse: New connections are closed at once.
        trips: Requests that were passed on.
        connections: Connections that were made.
    """

    def __init__(self, port: int, latency: float = 0.0) -> None:
        self._port = port
        self.latency = latency
        self.stall = 0.0
        self.trickle = 0.0
        self.cut = 0
        self.mute = False
        self.refuse = False
        self.trips = 0
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        self.closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.closed = True
        self._listening.close()

    def _accept(self) -> None:
        while not self.closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._port))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        """One connection: both ways on one thread, for a request waits for its reply."""
        with suppress(OSError), client, server:
            while not self.closed:
                ready, _, _ = select.select([client, server], [], [], 1)
                for end in ready:
                    data = end.recv(65_536)
                    if not data:
                        return
                    if self.latency:
                        time.sleep(self.latency / 2)
                    if end is client:
                        self.trips += 1
                        server.sendall(data)
                    elif not self._answer(client, data):
                        return

    def _answer(self, client: socket.socket, data: bytes) -> bool:
        if self.cut:
            self.cut -= 1
            if not self.cut:
                return False
        if self.mute:
            return True
        if self.stall:
            late, self.stall = self.stall, 0.0
            time.sleep(late)
        if not self.trickle:
            client.sendall(data)
            return True
        for position in range(len(data)):
            time.sleep(self.trickle)
            client.sendall(data[position : position + 1])
        return True


@contextmanager
def proxied(port: int, latency: float = 0.0) -> Iterator[Proxy]:
    """A proxy before a server on this port."""
    proxy = Proxy(port, latency)
    try:
        yield proxy
    finally:
        proxy.close()
