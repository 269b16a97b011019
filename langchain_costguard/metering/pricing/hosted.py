"""Tools that the provider itself runs, as a reply tells of them: which of their uses are billed.

What the provider counts itself comes first, and its explicit 0 is believed. Where it counts nothing, or the client has
dropped the count, the blocks of the reply are read: those of OpenAI's Responses, of Anthropic, and LangChain's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from langchain_costguard.metering.pricing.dialects import count, from_raw, searches_said, section
from langchain_costguard.metering.pricing.images import picture_tokens
from langchain_costguard.vocabulary.usage import Usage

_SEARCH, _FILES, _CODE = "web_search", "file_search", "code_interpreter"
_ITEMS = {"web_search_call": _SEARCH, "file_search_call": _FILES, "code_interpreter_call": _CODE}
"""Output items of OpenAI's Responses, which say their status themselves."""
_CALLS = frozenset({"server_tool_use", "server_tool_call", "server_tool_call_chunk"})
_FREE_ACTIONS = frozenset({"open_page", "find_in_page", "find"})
"""What a search tool may do with a page it found costs nothing: https://platform.openai.com/docs/pricing."""


class HostedUse(NamedTuple):
    """Uses of hosted tools that are billed."""

    web_searches: int = 0
    file_searches: int = 0
    containers: int = 0
    drawn: Usage | None = None
    """Tokens of the model that draws."""


def hosted_use(message: Any, blocks: list[Mapping[str, Any]], raw: list[Mapping[str, Any]], drawing: str) -> HostedUse:
    """The billed uses in a reply. ``blocks`` are its metadata, ``raw`` the usage blocks among them, ``drawing`` is the
    model that draws for the one that answers."""
    content = getattr(message, "content", None)
    outputs = (getattr(message, "additional_kwargs", None) or {}).get(
        "tool_outputs"
    )  # ChatOpenAI's output_version="v0"
    seen = [
        block
        for source in (content, outputs)
        if isinstance(source, list)
        for block in source
        if isinstance(block, Mapping) and (block.get("type") != "text" or "args" in block)
    ]
    said, drawn = _said(blocks, raw), _drawn(blocks, seen, drawing)
    if not seen and said is not None:
        return HostedUse(said, drawn=drawn) if said or drawn else _NONE
    found = list(_billed(seen)) if seen else ()
    searches = sum(1 for kind, _ in found if kind == _SEARCH) or sum(map(_is_result, seen)) or _grounded(blocks)
    return HostedUse(
        searches if said is None else said,
        sum(1 for kind, _ in found if kind == _FILES),
        len({where for kind, where in found if kind == _CODE}),
        drawn,
    )


_NONE = HostedUse()


def _said(blocks: list[Mapping[str, Any]], raw: list[Mapping[str, Any]]) -> int | None:
    """Searches as the provider counts them: Anthropic and gateways in the usage, OpenAI beside it."""
    for block in (*raw, *blocks):
        if (searches := searches_said(block)) is not None:
            return searches
    for block in blocks:
        if (searches := count(section(section(block, "tool_usage"), _SEARCH).get("num_requests"))) is not None:
            return searches
    return None


def _drawn(blocks: list[Mapping[str, Any]], seen: list[Mapping[str, Any]], drawing: str) -> Usage | None:
    """What the tool ``image_generation`` used, as OpenAI counts it; else by the quality and size of what it drew, for
    ``ChatOpenAI`` drops the count."""
    for block in blocks:
        used = from_raw(section(section(block, "tool_usage"), "image_gen"))
        if used is not None and used.total_tokens:
            outside = section(section(section(block, "tool_usage"), "image_gen"), "output_tokens_details")
            return used._replace(output_image=count(outside.get("image_tokens")) or used.output_tokens)
    pictures = [block for block in map(_item, seen) if block.get("type") == "image_generation_call"]
    tokens = sum(
        picture_tokens(drawing, block.get("quality"), block.get("size"))
        for block in pictures
        if block.get("status") not in ("failed", "incomplete") and not block.get("error")
    )
    return Usage(output_tokens=tokens, output_image=tokens) if tokens else None


def _item(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """An output item as OpenAI writes it; LangChain's own format keeps what it has no name for beside or inside."""
    if block.get("type") == "non_standard":
        return section(block, "value")
    extras = section(block, "extras")
    if block.get("type") == "image" and ("status" in extras or "quality" in extras):
        return {**extras, "type": "image_generation_call"}
    return block


def _billed(seen: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Tool and, of a code interpreter, container of each call that was not in vain."""
    failed = {_call_id(block) for block in seen if _is_failure(block)}
    for position, block in enumerate(seen):
        kind = block.get("type")
        extras, arguments = section(block, "extras"), block.get("args", block.get("input"))
        if kind in _ITEMS:
            tool, bad = _ITEMS[kind], block.get("status") in ("failed", "incomplete")
        elif kind in _CALLS:
            tool, bad = str(block.get("name")), block.get("id") in failed
        else:
            continue
        action = block.get("action") or (arguments if tool == _SEARCH else None)
        if bad or (isinstance(action, Mapping) and action.get("type") in _FREE_ACTIONS):
            continue
        yield tool, str(block.get("container_id") or extras.get("container_id") or position)


def _call_id(block: Mapping[str, Any]) -> Any:
    return block.get("tool_use_id") or block.get("tool_call_id")


def _is_result(block: Mapping[str, Any]) -> bool:
    """Whether a block is what a search has found: in streams LangChain's own format may lose the call itself."""
    kind = section(block, "extras").get("block_type", block.get("type"))
    return kind == "web_search_tool_result" and not _is_failure(block)


def _is_failure(block: Mapping[str, Any]) -> bool:
    """Whether a result says that its call has failed: such a search is not billed."""
    kind = block.get("type")
    if kind == "server_tool_result":
        inside = block.get("output")
        return block.get("status") == "error" or (isinstance(inside, Mapping) and "error_code" in inside)
    inside = block.get("content")
    if not isinstance(kind, str) or not kind.endswith("_tool_result") or not isinstance(inside, Mapping):
        return False
    return "error_code" in inside or str(inside.get("type")).endswith("_error")


def _grounded(blocks: list[Mapping[str, Any]]) -> int:
    """Gemini's queries; whether they are billed one by one or as one, the rates know."""
    for block in blocks:
        for key in ("grounding_metadata", "groundingMetadata"):
            facts = section(block, key)
            for name in ("web_search_queries", "webSearchQueries"):
                queries = facts.get(name)
                if isinstance(queries, list | tuple) and queries:
                    return len(set(map(str, queries)))
    return 0
