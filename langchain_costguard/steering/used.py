"""What a reply used, as the provider says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_costguard.metering.pricing.reading import from_usage_metadata

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_costguard.vocabulary.usage import Usage


def used_in(message: AIMessage | None) -> Usage | None:
    """The tokens of a reply; None where it does not say, or there is none."""
    return from_usage_metadata(message.usage_metadata) if message is not None and message.usage_metadata else None
