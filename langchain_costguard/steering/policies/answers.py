"""Errors of tools of which only the words are left: what class they are of, as far as those tell.

A ``ToolNode`` that handles errors and a tool with ``handle_tool_error`` turn an exception into a message with the
status ``error``; the MCP adapters, as LangChain advises all tools to, raise a ``ToolException`` of what a server said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from langchain_core.messages import ToolMessage

from langchain_costguard.steering.policies.kinds import ErrorKind

_OURS = "costguard"
_TELLING = frozenset({"ToolException", "McpError"})
_STATUS = re.compile(
    r"(?:error code|status code|status|http(?:/\d\.\d)?|code)\W{0,3}([1-5]\d\d)\b"
    r"|\b([45]\d\d)\b(?=\W{1,3}(?:client|server|bad|un|too|for|not|internal|gateway|service|request|payment|conflict))",
    re.IGNORECASE,
)
_WORDS: list[tuple[ErrorKind, re.Pattern[str]]] = [
    (kind, re.compile(words, re.IGNORECASE))
    for kind, words in (
        # What the host says of arguments that do not fit, pydantic, and JSON-RPC's "invalid params" of MCP servers.
        # https://github.com/langchain-ai/langgraph/blob/main/libs/prebuilt/langgraph/prebuilt/tool_node.py
        (
            ErrorKind.VALIDATION,
            r"error invoking tool .* with kwargs|is not a valid tool|validation errors? for|-32602"
            r"|invalid (?:params|argu)|input should be|field required"
            r"|missing \d+ required|unexpected keyword argument|jsondecodeerror",
        ),
        (ErrorKind.REFUSAL, r"content.?(?:filter|policy|management)|responsible.?ai|flagged|safety system|budget"),
        (ErrorKind.QUOTA, r"insufficient.?quota|quota (?:exceeded|used up)|exceeded your current quota|billing"),
        (ErrorKind.CONTEXT, r"context.?length|maximum context|prompt is too long|too large"),
        (ErrorKind.RATE_LIMIT, r"rate.?limit|too many requests|throttl|resource.?exhausted"),
        (ErrorKind.TIMEOUT, r"tim(?:ed|e) ?out|deadline exceeded"),
        (ErrorKind.AUTH, r"unauthori[sz]ed|forbidden|access.?denied|invalid api key|permission denied"),
        (
            ErrorKind.SERVER,
            r"connection\W?(?:reset|refused|aborted|closed|error|broken)|broken pipe|connecterror|server disconnected"
            r"|(?:temporarily|service) unavailable|internal server error|bad gateway|overloaded|name resolution",
        ),
    )
]


def kind_of(status: int) -> ErrorKind:
    """The class of an HTTP status; ``validation`` of one that is the request's own making."""
    named = {401: ErrorKind.AUTH, 402: ErrorKind.QUOTA, 403: ErrorKind.AUTH, 408: ErrorKind.TIMEOUT}
    named |= {409: ErrorKind.TIMEOUT, 413: ErrorKind.CONTEXT, 429: ErrorKind.RATE_LIMIT, 504: ErrorKind.TIMEOUT}
    return named.get(status) or (ErrorKind.SERVER if status >= 500 else ErrorKind.VALIDATION)


def answered_with(outcome: Any) -> ErrorKind | None:
    """The class of the error that a tool's answer tells of; None where it is no error."""
    if not isinstance(outcome, ToolMessage) or outcome.status != "error":
        return None
    return ErrorKind.REFUSAL if _OURS in outcome.additional_kwargs else _said(str(outcome.text))


def raised_by_tool(how: Callable[[BaseException], ErrorKind], error: BaseException) -> ErrorKind:
    """The class of an error that a tool raised: ``how`` errors are told apart, or else what it says."""
    kind = how(error)
    told = kind is ErrorKind.UNKNOWN and any(cls.__name__ in _TELLING for cls in type(error).__mro__)
    return _said(str(error)) if told else kind


def _said(text: str) -> ErrorKind:
    text = text[:2_000]
    words = {kind: found.start() for kind, pattern in _WORDS if (found := pattern.search(text))}
    if ErrorKind.VALIDATION in words or ErrorKind.REFUSAL in words:
        return ErrorKind.VALIDATION if ErrorKind.VALIDATION in words else ErrorKind.REFUSAL
    if status := _STATUS.search(text):
        named = kind_of(int(status.group(1) or status.group(2)))
        return named if named is not ErrorKind.RATE_LIMIT or ErrorKind.QUOTA not in words else ErrorKind.QUOTA
    return next(iter(words), ErrorKind.UNKNOWN)
