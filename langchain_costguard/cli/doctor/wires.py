"""Watches the process's connections: what a model's client or an SDK opens is noted, and stopped before it is made."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from langchain_costguard.cli.doctor import addresses, records, sites
from langchain_costguard.cli.doctor.records import Log
from langchain_costguard.cli.inside.children import unguarded

_SDKS = {"openai", "anthropic", "mistralai", "cohere", "groq", "litellm", "ollama", "together", "replicate"}
_GOOGLE = ("google.genai", "google.generativeai", "google.ai.generativelanguage", "vertexai")
_HOSTS = (
    "api.openai.com", "openai.azure.com", "api.anthropic.com", "generativelanguage.googleapis.com", "openrouter.ai",
    "aiplatform.googleapis.com", "api.mistral.ai", "api.cohere.com", "api.groq.com", "api.together.xyz",
    "api.deepseek.com", "api.x.ai", "api.fireworks.ai", "bedrock-runtime",
)  # fmt: skip
_ASYNC = {"anyio", "httpcore", "aiohttp", "asyncio", "concurrent"}


class Wires:
    """An audit hook. ``allowed`` is the port of the fake provider: what gets there is noted, and let through."""

    def __init__(self, log: Log, own: str, *, allowed: int) -> None:
        self._log = log
        self._own = own
        self._allowed = allowed

    def install(self) -> None:
        """Watch from now on: an audit hook cannot be taken back, so it belongs to a process of its own."""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            address = args[1]
            if isinstance(address, tuple) and len(address) >= 2:
                self._judge(str(address[0]), address[1])
        elif event == "socket.getaddrinfo":
            self._judge(_text(args[0]), args[1])
        elif event == "socket.bind":
            address = args[1]
            if isinstance(address, tuple) and len(address) >= 2 and address[1]:
                self._log.write(records.LISTEN, facts={"port": address[1]})
        else:
            for words in unguarded(event, args):
                self._log.write(records.CHILD, site=sites.here(self._own), name=words)

    def _judge(self, host: str, port: Any) -> None:
        fake = port == self._allowed and host in ("127.0.0.1", "localhost")
        frames = list(sites.stack())
        tops = {_module(frame).partition(".")[0] for frame in frames}
        if "tiktoken" in tops:
            return
        kind, frames = self._kind(frames, host, waiting=bool(tops & _ASYNC))
        if not kind or (fake and kind == "model"):
            return
        name = ""
        if kind == "model" and (found := sites.model_in(frames)):
            name = str(
                getattr(found[0], "model_name", None) or getattr(found[0], "model", None) or type(found[0]).__name__
            )
        elif kind == "embeddings":
            name = type(sites.embeddings_in(frames)[0]).__name__
        elif kind == "sdk":
            name = next((m.partition(".")[0] for frame in frames if _is_sdk(m := _module(frame))), host)
        site = sites.site_in(frames, self._own)
        to = "its provider" if fake else f"{addresses.meant(host)}:{port}"
        self._log.write(records.WIRE, kind=kind, site=site, name=name, facts={"to": to})
        if fake:
            return
        raise ConnectionRefusedError(f"costguard doctor: the connection to {host}:{port} was not made")

    def _kind(self, frames: list[FrameType], host: str, *, waiting: bool) -> tuple[str, list[FrameType]]:
        """Who opens the connection: a ``model``, ``embeddings``, an ``sdk``, or nobody we look for."""
        kind = _of(frames)
        if not kind and waiting:  # an async client connects in a task, and resolves in a thread, of its own
            for others, _ in sites.suspended():
                if kind := _of(others):
                    return kind, others
        if not kind and any(
            addresses.meant(host) == known or host.endswith("." + known) or known in host for known in _HOSTS
        ):
            return "sdk", frames
        return kind, frames


def _of(frames: list[FrameType]) -> str:
    embedders = sites.embeddings_in(frames)
    if any(type(found).__name__ == "GuardedEmbeddings" for found in embedders):
        return "guarded"
    if embedders:
        return "embeddings"
    if sites.model_in(frames) is not None:
        return "model"
    return "sdk" if any(_is_sdk(_module(frame)) for frame in frames) else ""


def _is_sdk(module: str) -> bool:
    return module.partition(".")[0] in _SDKS or module.startswith(_GOOGLE)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
