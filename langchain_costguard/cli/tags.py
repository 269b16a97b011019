"""``--scope``: tags for everything a program does."""

from __future__ import annotations

from collections.abc import Sequence

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
