"""Tools that the provider itself runs, as a request offers them: what their use may cost, for the hold.

Where the request does not say how often one may be used, one use is held for; what they did cost is settled by the
reply (``hosted``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from langchain_costguard.metering.pricing.images import DEFAULT_MODEL, picture_tokens
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.vocabulary.usage import Usage

ADVICE_READS = 2_000
"""Tokens that an advisor reads beside the conversation: its own instructions, and what was said before it was asked."""
ADVICE = 2_048
"""Output tokens of an advice, where the request states no most.
https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool"""
LIVE_SOURCES = 20
"""Sources of xAI's live search at the most, where the request does not say: https://docs.x.ai/docs/guides/live-search."""

DRAWS, ADVISES = "image_generation", "advisor"
_SEARCH, _FILES, _CODE = "web_search", "file_search", "code_interpreter"
_KINDS = (_SEARCH, _FILES, _CODE, DRAWS, ADVISES)
_GROUNDING = frozenset({"google_search", "googleSearch", "google_search_retrieval", "googleSearchRetrieval"})


class Offer(NamedTuple):
    """One hosted tool of a request: how often it may be used and, where another model does it, which and how much it
    may write."""

    tool: str
    uses: int
    model: str = ""
    output: int = 0


class Extra(NamedTuple):
    """What hosted tools may take on top of a call: nano-USD, and tokens in and out."""

    usd: int = 0
    input: int = 0
    output: int = 0


def is_hosted(tool: Any) -> bool:
    """Whether a tool of a request is run by the provider, for a fee."""
    return isinstance(tool, Mapping) and bool(_kind(tool))


def offers(tools: Any, search: Any) -> Iterator[Offer]:
    """The hosted tools among ``tools``, and xAI's live search by its ``search_parameters``."""
    for tool in tools if isinstance(tools, list | tuple) else ():
        kind = _kind(tool) if isinstance(tool, Mapping) else ""
        uses = max(1, _whole(tool.get("max_uses"), 1)) if kind else 0
        if kind == DRAWS:
            model = str(tool.get("model") or DEFAULT_MODEL)
            yield Offer(kind, 1, model, picture_tokens(model, tool.get("quality"), tool.get("size")))
        elif kind == ADVISES:
            yield Offer(kind, uses, str(tool.get("model") or ""), _whole(tool.get("max_tokens"), ADVICE))
        elif kind:
            yield Offer(kind, uses)
    if isinstance(search, Mapping) and search.get("mode", "auto") != "off":
        yield Offer(_SEARCH, _whole(search.get("max_search_results"), LIVE_SOURCES))


def extra(offered: tuple[Offer, ...], rates: Rates, rates_of: Callable[[str], Rates], upper: int) -> Extra:
    """What these may take at the most, of a call that reads ``upper`` tokens."""
    uses = {kind: sum(offer.uses for offer in offered if offer.tool == kind) for kind in (_SEARCH, _FILES, _CODE)}
    usd = rates.fees(Usage(web_searches=uses[_SEARCH], file_searches=uses[_FILES], containers=min(1, uses[_CODE])))
    given = made = 0
    for offer in offered:
        if offer.model:
            read = upper + ADVICE_READS if offer.tool == ADVISES else upper
            usd += offer.uses * rates_of(offer.model).ceiling(read, offer.output)
            given, made = given + offer.uses * read, made + offer.uses * offer.output
    return Extra(usd, given, made)


def _kind(tool: Mapping[str, Any]) -> str:
    kind = tool.get("type")
    if isinstance(kind, str):
        return next((known for known in _KINDS if kind.startswith(known)), "")
    return _SEARCH if not _GROUNDING.isdisjoint(tool) else ""


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else otherwise
