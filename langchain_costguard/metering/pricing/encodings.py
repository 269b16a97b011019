"""tiktoken's vocabularies, got without ever making anyone wait.

A vocabulary is a file of some megabytes that tiktoken downloads at first use, under a lock, without a time-out. Here
a daemon thread prepares it instead: from tiktoken's cache directory where the file is there and right, else by one
download of our own with a time-out into that directory. Until then, and after any failure, ``encoder`` says None and
the caller counts by shape. ``COSTGUARD_TIKTOKEN_DOWNLOAD=0`` forbids the download.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from langchain_costguard.observe.forks import held_over_forks


class _Source(NamedTuple):
    url: str
    sha256: str


_BLOBS = "https://openaipublic.blob.core.windows.net/encodings/"
_SOURCES = {
    "o200k_base": _Source(
        f"{_BLOBS}o200k_base.tiktoken", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
    ),
    "cl100k_base": _Source(
        f"{_BLOBS}cl100k_base.tiktoken", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
    ),
}
"""Addresses and hashes as in ``tiktoken_ext/openai_public.py``."""

_TIMEOUT_S, _DEADLINE_S, _MAX_BYTES = 10.0, 120.0, 16_000_000

_lock = held_over_forks(threading.Lock())
_threads: dict[str, threading.Thread] = {}
_ready: dict[str, Callable[[str], list[int]]] = {}


def encoder(name: str) -> Callable[[str], list[int]] | None:
    """The encoding's ``encode_ordinary`` if it is ready; otherwise None, and its preparation is begun."""
    found = _ready.get(name)
    if found is None and name not in _threads:
        _begin(name)
    return found


def wait(name: str, seconds: float) -> bool:
    """Wait until a vocabulary is ready or known not to come; whether it is ready. For scripts and benchmarks."""
    encoder(name)
    thread = _threads.get(name)
    if thread is not None:
        thread.join(seconds)
    return name in _ready


def _begin(name: str) -> None:
    with _lock:
        if name in _threads:
            return
        thread = threading.Thread(target=_prepare, args=(name,), name=f"costguard-{name}", daemon=True)
        _threads[name] = thread
    with contextlib.suppress(RuntimeError):  # no thread to be had (shutting down, thread limit): count by shape
        thread.start()


def _prepare(name: str) -> None:
    try:
        encoding = _loaded(name) or (_load(name) if _file_ready(name) else None)
        if encoding is not None:
            _ready[name] = encoding.encode_ordinary
    except Exception:  # a count by shape is always there; a broken cache or wheel must not disturb the program
        return


def _loaded(name: str) -> Any | None:
    """The encoding, if the program has loaded it by itself."""
    registry = sys.modules.get("tiktoken.registry")
    return getattr(registry, "ENCODINGS", {}).get(name)


def _load(name: str) -> Any:
    import tiktoken

    return tiktoken.get_encoding(name)


def _file_ready(name: str) -> bool:
    """Whether tiktoken will find the right file in its cache; it would otherwise download it under its lock."""
    source = _SOURCES.get(name)
    directory = _cache_directory()
    if source is None or not directory:
        return False
    path = os.path.join(directory, hashlib.sha1(source.url.encode(), usedforsecurity=False).hexdigest())
    try:
        with open(path, "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() == source.sha256:
                return True
    except OSError:
        pass
    if os.environ.get("COSTGUARD_TIKTOKEN_DOWNLOAD", "1") == "0":
        return False
    return _download(source, directory, path)


def _cache_directory() -> str:
    """Where tiktoken looks, by its own rules; empty where its cache is switched off."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return os.environ[variable]
    return os.path.join(tempfile.gettempdir(), "data-gym-cache")


def _download(source: _Source, directory: str, path: str) -> bool:
    from urllib.request import urlopen

    end = time.monotonic() + _DEADLINE_S
    data = bytearray()
    with urlopen(source.url, timeout=_TIMEOUT_S) as response:
        while block := response.read(1 << 16):
            data += block
            if len(data) > _MAX_BYTES or time.monotonic() > end:
                return False
    if hashlib.sha256(data).hexdigest() != source.sha256:
        return False
    os.makedirs(directory, exist_ok=True)
    partial = f"{path}.{os.getpid()}.costguard"
    with open(partial, "wb") as file:
        file.write(data)
    os.replace(partial, path)
    return True
