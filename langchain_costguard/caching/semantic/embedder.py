"""Which model embeds: vectors of two models cannot be compared, even where they are of the same size."""

from __future__ import annotations

from typing import Any

from langchain_core.embeddings import Embeddings

_WRAPPED = ("inner", "underlying_embeddings")
"""Where the embeddings of a guard, and those that LangChain keeps in a store, have the ones that they ask."""
_TELLING = ("model", "model_name", "model_id", "deployment", "repo_id", "dimensions", "output_dimensionality")


def identity(embeddings: Any) -> str:
    """The class and the model of embeddings, and what else tells their vectors from those of others."""
    while (inner := next((own for own in _own(embeddings) if isinstance(own, Embeddings)), None)) is not None:
        embeddings = inner
    told = {name: getattr(embeddings, name, None) for name in _TELLING}
    said = [f"{name}={value}" for name, value in told.items() if isinstance(value, (str, int)) and value]
    return ";".join([type(embeddings).__qualname__, *said])


def _own(embeddings: Any) -> list[Any]:
    held = getattr(embeddings, "__dict__", {})
    return [held.get(name) for name in _WRAPPED]
