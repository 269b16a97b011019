"""A request to a server that is on trial: ``POST /ask {"question": "hi"}``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a request: the status of its answer, or why there was none."""

    request: Asked
    answer: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    body: str

    @classmethod
    def parse(cls, text: str) -> Asked:
        """From ``METHOD /path [body]``.

        Raises:
            ValueError: it is no such text.
        """
        method, _, rest = text.strip().partition(" ")
        path, _, body = rest.strip().partition(" ")
        if method.upper() not in _METHODS or not path.startswith("/"):
            raise ValueError(
                f'--request: {text!r} is not METHOD /path [body], such as \'POST /ask {{"question": "hi"}}\''
            )
        return cls(method.upper(), path, body.strip())

    def send(self, ports: Sequence[int], until: float) -> Sent:
        """Send it to the first of these ports that speaks HTTP, and wait for the whole answer."""
        words = "no answer"
        while time.monotonic() < until:
            taken = False
            for port in ports:
                connection = HTTPConnection("127.0.0.1", port, timeout=max(0.1, until - time.monotonic()))
                try:
                    connection.request(self.method, self.path, self.body or None, {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    answer.read()
                    return Sent(self, f"{answer.status} {answer.reason}")
                except (OSError, HTTPException) as error:
                    words = type(error).__name__
                    taken = taken or not isinstance(error, ConnectionRefusedError)
                finally:
                    connection.close()
            if taken:  # hung up on: whoever was asked has worked on it, and would again
                break
            time.sleep(_EVERY)
        return Sent(self, words)
