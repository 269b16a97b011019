"""``--scope``: tags for everything a program does, in its bare threads, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

from langchain_costguard.metering.seams.watching import watching
from langchain_costguard.vocabulary import scope as scopes


def parsed(given: Sequence[str]) -> dict[str, str]:
    """The tags of ``user=u1`` and the like.

    Raises:
        ValueError: names what is no tag.
    """
    tags = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise ValueError(f"--scope: {text!r} is not NAME=VALUE, such as user=u1")
        tags[name] = value
    return scopes.checked(tags)


@contextmanager
def tagged(tags: Mapping[str, str]) -> Iterator[None]:
    """Tag everything in the block. Enter it before the guard watches, so that threads are tagged before it looks."""
    if not tags:
        yield
        return
    with scopes.Within(tags), watching(_Tagger(tags)):
        yield


class _Tagger(BaseCallbackHandler):
    """A new thread starts without its parent's context variables: sets the tags at the first event there."""

    run_inline = True

    def __init__(self, tags: Mapping[str, str]) -> None:
        self._tags = tags

    def _tag(self, *args: Any, **kwargs: Any) -> None:
        if not scopes.said():
            scopes.Within(self._tags).__enter__()

    on_chain_start = on_chat_model_start = on_llm_start = on_tool_start = _tag
