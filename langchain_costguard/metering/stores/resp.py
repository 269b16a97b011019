"""Redis' own protocol: commands to bytes, and bytes to replies (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_WORDS: dict[bytes, Any] = {b"_": None, b"#t": True, b"#f": False}


class ReplyError(Exception):
    """The server says that it cannot do what it was asked; ``kind`` is the first word of it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.kind = text.partition(" ")[0]


def packed(command: Sequence[Any]) -> bytes:
    """The bytes that ask for a command."""
    parts = [b"*%d\r\n" % len(command)]
    for part in command:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8")
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Replies:
    """Bytes as they come in, and the replies in them."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __bool__(self) -> bool:
        return bool(self._data)

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        self._data += data

    def next(self) -> tuple[Any] | None:
        """The next whole reply, in a tuple of its own, an error as a `ReplyError`; None where there is none yet."""
        try:
            reply, end = _reply(self._data, 0)
        except IndexError:
            return None
        del self._data[:end]
        return (reply,)


def _reply(data: bytearray, at: int) -> tuple[Any, int]:
    """The reply that begins here, and where the next one does.

    Raises:
        IndexError: not all of it has come.
        ValueError: this is no reply.
    """
    end = data.find(b"\r\n", at)
    if end < 0:
        raise IndexError(at)
    mark, line = data[at], bytes(data[at + 1 : end])
    at = end + 2
    if mark == 0x3A:  # :
        return int(line), at
    if mark in b"$=(":
        if mark == 0x28:
            return int(line), at
        size = int(line)
        if size < 0:
            return None, at
        if len(data) < at + size + 2:
            raise IndexError(at)
        return bytes(data[at : at + size]), at + size + 2
    if mark in b"*~>%":
        size = int(line) * (2 if mark == 0x25 else 1)
        if size < 0:
            return None, at
        items = []
        for _ in range(size):
            item, at = _reply(data, at)
            items.append(item)
        return _reply(data, at) if mark == 0x3E else (items, at)  # what is pushed to us is not what was asked for
    if mark == 0x2B:
        return line, at
    if mark == 0x2D:
        return ReplyError(line.decode("utf-8", "replace")), at
    if mark == 0x2C:
        return float(line), at
    try:
        return _WORDS[bytes([mark]) + line], at
    except KeyError:
        raise ValueError(f"no reply of a Redis: {bytes([mark]) + line[:20]!r}") from None
