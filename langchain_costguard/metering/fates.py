"""What a failed model call has cost: nothing, what was seen of it, or (nobody can say) the whole hold."""

from __future__ import annotations

from enum import Enum


class Fate(Enum):
    """How a call that ended in an error is settled."""

    UNBILLED = "unbilled"
    """No provider bills it: refused, never connected, or answered with an error status."""
    PARTLY = "partly"
    """The reply broke off, or was thrown away: the input and what was seen of the output."""
    UNSENT = "unsent"
    """It failed in this process, before anything was sent."""
    UNKNOWN = "unknown"
    """The request went out and no answer came back in time: it may have been worked on to the end."""


def fate(error: BaseException) -> Fate:
    """Judge by the error and its causes.

    Providers bill completed and interrupted generations, not error statuses
    (https://help.openai.com/en/articles/6614457, https://docs.anthropic.com/en/api/errors). Classes are told by name,
    so that no provider's client has to be imported: openai, anthropic, httpx and botocore share these words.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        names = {cls.__name__ for cls in type(cause).__mro__}
        if "CostGuardError" in names:
            return Fate.UNSENT
        if _status(cause) is not None:
            return Fate.UNBILLED
        if isinstance(cause, TimeoutError) or any("Timeout" in name for name in names):
            return Fate.UNBILLED if "ConnectTimeout" in names else Fate.UNKNOWN
        if isinstance(cause, ConnectionRefusedError) or names & _NEVER_CONNECTED:
            return Fate.UNBILLED
        cause = cause.__cause__
    return Fate.UNSENT if _unsent(error) else Fate.PARTLY


_SENDING = frozenset(
    {"send", "urlopen", "_request", "_send_request", "handle_request", "handle_async_request", "_blocking"}
)
"""The functions in which httpx, requests, urllib3, aiohttp, botocore and grpc put a request on the wire."""
_ANSWERS = frozenset({
    "response", "raw_response", "resp", "reply", "result", "completion", "completions", "data", "chunk"
})  # fmt: skip
"""What clients call, in the frames that an error passed, what they have received."""

_OURS = "langchain_costguard.metering."


def _unsent(error: BaseException) -> bool:
    """Whether an error of a client's own (an argument it does not know, a message it cannot convert) came before
    anything was sent: nothing it passed was sending, and nobody held an answer."""
    if isinstance(error, OSError) or not isinstance(error, Exception):
        return False
    trace, within = error.__traceback__, False
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        name = frame.f_code.co_name
        if frame.f_globals.get("__name__", "").startswith(_OURS):
            continue
        within = within or name in ("_generate", "_agenerate", "_stream", "_astream")
        if name in _SENDING or (within and any(frame.f_locals.get(each) is not None for each in _ANSWERS)):
            return False
    return within


def status_of(error: BaseException) -> int | None:
    """The HTTP status in an error or what caused it; None where there is none."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            break
        if (status := _status(cause)) is not None:
            return status
        cause = cause.__cause__
    return None


_NEVER_CONNECTED = {"ConnectError", "EndpointConnectionError", "UnsupportedProtocol", "InvalidURL"}


def _status(error: BaseException) -> int | None:
    for owner in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(owner, name, None)
            if isinstance(value, int) and 400 <= value < 600:
                return value
    return None
