"""Embeddings, metered: LangChain tells no callback of them, so they are wrapped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.embeddings import Embeddings

from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.reckoning import Reckoning
from langchain_costguard.metering.seams.waiting import adrive, drive
from langchain_costguard.vocabulary.usage import Usage

if TYPE_CHECKING:
    from langchain_costguard.metering.seams.host import Host


class GuardedEmbeddings(Embeddings):
    """Embeddings whose calls are admitted and metered by a guard.

    Providers report usage, but LangChain drops it: a call is settled at the input estimate and marked ``estimated``.
    Attributes that are not its own are the wrapped object's.
    """

    def __init__(self, guard: Host, inner: Embeddings) -> None:
        self.guard = guard
        self.inner = inner

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts, admitted as one call."""
        if not texts:
            return self.inner.embed_documents(texts)
        call = self._call(texts)
        drive(self.guard.waiting.admit(call))
        with self._metered(call):
            return self.inner.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """Embed one text."""
        call = self._call([text])
        drive(self.guard.waiting.admit(call))
        with self._metered(call):
            return self.inner.embed_query(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts, admitted as one call."""
        if not texts:
            return await self.inner.aembed_documents(texts)
        call = await self.guard.aside.run(self._call, texts)
        await adrive(self.guard.waiting.admit(call), self.guard.aside)
        async with self._ametered(call):
            return await self.inner.aembed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Embed one text."""
        call = await self.guard.aside.run(self._call, [text])
        await adrive(self.guard.waiting.admit(call), self.guard.aside)
        async with self._ametered(call):
            return await self.inner.aembed_query(text)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def _call(self, texts: list[str]) -> Call:
        metadata = {"ls_provider": _provider(self.inner), "ls_model_name": _model(self.inner), "ls_max_tokens": 1}
        call = self.guard.admission.prepare(uuid4(), None, metadata, None, {}, "\n".join(texts))
        call.kind = "embedding"
        call.ceiling = 0
        return call

    @contextmanager
    def _metered(self, call: Call) -> Iterator[None]:
        self.guard.admission.begin(call)
        try:
            yield
        except BaseException as error:
            self._broke(call, error)
            raise
        self._done(call)

    @asynccontextmanager
    async def _ametered(self, call: Call) -> AsyncIterator[None]:
        self.guard.admission.begin(call)
        try:
            yield
        except BaseException as error:
            self.guard.aside.later(self._broke, call, error)
            raise
        await self.guard.aside.run(self._done, call)

    def _broke(self, call: Call, error: BaseException) -> None:
        self.guard.meter.books.take(call.run_id)
        self.guard.voice.safely(self.guard.settlement.fail_model, call, error, None)

    def _done(self, call: Call) -> None:
        self.guard.meter.books.take(call.run_id)
        usage = Usage(input_tokens=call.tokens)
        self.guard.voice.safely(self.guard.meter.settle, call, usage, None, Reckoning(usage, estimated=True))


def _model(inner: Embeddings) -> str:
    for name in ("model", "model_name", "model_id", "deployment"):
        value = getattr(inner, name, None)
        if isinstance(value, str) and value:
            return value
    return type(inner).__name__


def _provider(inner: Embeddings) -> str:
    """``langchain_openai`` is ``openai``: the integration's package names its provider."""
    package = type(inner).__module__.split(".", 1)[0]
    return package.removeprefix("langchain_") if package.startswith("langchain_") else ""
