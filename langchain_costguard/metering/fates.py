"""What a failed model call has cost: nothing, what was seen of it, or (nobody can say) the whole hold."""

from __future__ import annotations

from enum import Enum


class Fate(Enum):
    """How a call that ended in an error is settled."""

    UNBILLED = "unbilled"
    """No provider bills it: refused, never connected, or answered with an error status."""
    PARTLY = "partly"
    """The reply broke off, or was thrown away: the input and what was seen of the output."""
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
        if "CostGuardError" in names or _status(cause) is not None:
            return Fate.UNBILLED
        if isinstance(cause, TimeoutError) or any("Timeout" in name for name in names):
            return Fate.UNBILLED if "ConnectTimeout" in names else Fate.UNKNOWN
        if isinstance(cause, ConnectionRefusedError) or names & _NEVER_CONNECTED:
            return Fate.UNBILLED
        cause = cause.__cause__
    return Fate.PARTLY


_NEVER_CONNECTED = {"ConnectError", "EndpointConnectionError", "UnsupportedProtocol", "InvalidURL"}


def _status(error: BaseException) -> int | None:
    for owner in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(owner, name, None)
            if isinstance(value, int) and 400 <= value < 600:
                return value
    return None
