"""Servers that can look up vectors: a real Redis 8 where there is one, and an imitation of Redis Search.

``COSTGUARD_TEST_REDIS8`` is a URL, or a command that starts Redis 8 or later; without it, a ``redis-server`` of that
version on the PATH is used. ``COSTGUARD_TEST_REDIS_SEARCH_URL`` is the URL of a server with Redis Search. Servers given
by a URL keep what else they hold: each test has a prefix of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import socketserver
import subprocess
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from operator import mul
from typing import Any

import redis

from tests.servers import Server, redis_server

REDIS8 = os.environ.get("COSTGUARD_TEST_REDIS8", "")
SEARCH_URL = os.environ.get("COSTGUARD_TEST_REDIS_SEARCH_URL", "")
NO_REDIS8 = "no Redis 8: COSTGUARD_TEST_REDIS8 names none (a command or a URL), nor is one on the PATH"
NO_SEARCH = "COSTGUARD_TEST_REDIS_SEARCH_URL names no server with Redis Search"


def redis8_program() -> str | None:
    """A command that starts Redis 8 or later."""
    program = shutil.which(REDIS8 or "redis-server") if "://" not in REDIS8 else None
    if program is None:
        return None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"Redis server v=(\d+)", told)
    return program if version and int(version[1]) >= 8 else None


@contextmanager
def redis8() -> Iterator[str | None]:
    """The URL of a Redis 8 or later, or None."""
    program = redis8_program()
    if "://" in REDIS8:
        yield REDIS8
    elif program is None:
        yield None
    else:
        with redis_server(program) as server:
            yield server.url


@contextmanager
def imitated_search(server: Server) -> Iterator[str]:
    """The URL of a real server in front of which the two commands of Redis Search that we use are imitated.

    By what its documentation says of them. That the module takes our commands so, only the module can prove.
    """
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Imitation) as listening:
        listening.daemon_threads = True
        listening.behind = server  # type: ignore[attr-defined]
        listening.indexes = {}  # type: ignore[attr-defined]
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"redis://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()


class _Imitation(socketserver.StreamRequestHandler):
    """One client's connection: commands that begin with ``FT.`` are answered here, all others by the server."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.server: Any
        behind: Server = self.server.behind
        with (
            socket.create_connection(("127.0.0.1", behind.port)) as upstream,
            upstream.makefile("rb") as replies,
            redis.Redis(port=behind.port) as self.redis,
        ):
            while command := _read(self.rfile):
                raw, parts = command
                if not parts[0].upper().startswith(b"FT."):
                    upstream.sendall(raw)
                    self.wfile.write((_read(replies) or (b"", []))[0])
                    continue
                try:
                    answer = _encoded(self.answer(parts))
                except _Objection as objection:
                    answer = f"-{objection}\r\n".encode()
                self.wfile.write(answer)

    def answer(self, parts: list[bytes]) -> Any:
        name = parts[0].upper().decode()
        if name == "FT._LIST":
            return list(self.server.indexes)
        if not self.redis.exists("there are indexes"):  # FLUSHALL drops them, too
            self.server.indexes.clear()
        if name == "FT.CREATE":
            return self.create([part.decode() for part in parts[1:]])
        assert name == "FT.SEARCH", f"{name} is not imitated"
        return self.search(parts[1].decode(), parts[2].decode(), parts[3:])

    def create(self, words: list[str]) -> str:
        name = words.pop(0)
        if name in self.server.indexes:
            raise _Objection("Index already exists")
        assert words[:4] == ["ON", "HASH", "PREFIX", "1"], words
        prefix, words = words[4], words[words.index("SCHEMA") + 1 :]
        assert words[:5] == ["setting", "TAG", "SEPARATOR", ",", "CASESENSITIVE"], words
        assert words[5:11] == ["expires", "NUMERIC", "vector", "VECTOR", "FLAT", "6"], words
        shape = dict(zip(words[11::2], words[12::2], strict=True))
        size = int(shape.pop("DIM"))
        assert shape == {"TYPE": "FLOAT32", "DISTANCE_METRIC": "COSINE"}, words
        self.redis.set("there are indexes", 1)
        self.server.indexes[name] = prefix, size
        return "OK"

    def search(self, name: str, query: str, words: list[bytes]) -> list[Any]:
        if name not in self.server.indexes:
            raise _Objection(f"{name}: no such index")
        prefix, size = self.server.indexes[name]
        matched = re.fullmatch(
            r"\(@setting:\{(.+)\} @expires:\[\(([\d.]+) \+inf\]\)=>\[KNN (\d+) @vector \$(\w+) AS (\w+)\]", query
        )
        assert matched is not None, query
        tag, now, most, parameter, score = matched.groups()
        upper = [word.upper() for word in words]  # redis-py before 8 writes "params"
        given, limit, returned, dialect = map(upper.index, (b"PARAMS", b"LIMIT", b"RETURN", b"DIALECT"))
        assert words[dialect + 1] == b"2", words
        assert words[given + 1 : given + 3] == [b"2", parameter.encode()], words
        fields = words[returned + 2 : returned + 2 + int(words[returned + 1])]
        vector = array("f", words[given + 3])
        if len(vector) != size:
            raise _Objection("Error parsing vector similarity query: query vector blob size does not match")
        setting = re.sub(r"\\(.)", r"\1", tag)
        near = sorted(self.distances(prefix, setting, float(now), vector, size))[: int(most)]
        near = near[int(words[limit + 1]) :][: int(words[limit + 2])]
        answer: list[Any] = [len(near)]
        for distance, key, entry in sorted(near, key=lambda row: row[1]):  # in no order but of the keys
            values = {b"entry": entry, score.encode(): repr(distance).encode()}
            answer += [key, [cell for field in fields for cell in (field, values[field])]]
        return answer

    def distances(self, prefix: str, setting: str, now: float, vector: array[float], size: int) -> Iterator[Any]:
        keys = list(self.redis.scan_iter(match=f"{prefix}*", count=1_000))
        pipe = self.redis.pipeline(transaction=False)
        for key in keys:
            pipe.hmget(key, "setting", "expires", "vector", "entry")
        for key, (tag, expires, blob, entry) in zip(keys, pipe.execute(), strict=True):
            if tag == setting.encode() and float(expires) > now and len(blob) == 4 * size:
                yield 1 - sum(map(mul, array("f", blob), vector)), key, entry


class _Objection(Exception):
    pass


def _read(file: Any) -> tuple[bytes, list[Any]] | None:
    """One command or reply (RESP2) as it came, and its parts."""
    line: bytes = file.readline()
    if not line:
        return None
    kind, number = line[:1], line[1:-2]
    if kind == b"$" and number != b"-1":
        body: bytes = file.read(int(number) + 2)
        return line + body, [body[:-2]]
    if kind != b"*":
        return line, [number]
    inner = [_read(file) or (b"", []) for _ in range(int(number))]
    return line + b"".join(raw for raw, _ in inner), [part for _, parts in inner for part in parts]


def _encoded(value: Any) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_encoded, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    data = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%s\r\n" % (len(data), data)
