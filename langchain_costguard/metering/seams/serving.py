"""What a web server answers where the guard refuses: an exception handler for FastAPI, Starlette and their like.

    app.add_exception_handler(CostGuardError, refusal_response)

It needs no server's package: what it returns is an ASGI application of its own.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from math import ceil
from typing import Any

_PAYMENT, _FORBIDDEN, _TOO_MANY, _UNAVAILABLE = 402, 403, 429, 503
_STORE_BACK = 5
"""Seconds after which it is worth to ask again while the store of balances does not answer."""

_Message = MutableMapping[str, Any]


class RefusalResponse:
    """The answer to a refused request, as JSON.

    Attributes:
        status: 402 where a budget is used up for good; 429 with ``Retry-After`` where it starts afresh, or calls under
            way stand in the way; 503 where the store is down or an operator has halted the agent; else 403.
        retry_after: Seconds; None where waiting does not help.
        body: The class of the refusal, and a sentence that is safe to show: no amounts, no other people's scopes.
    """

    def __init__(self, error: Any) -> None:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        self.retry_after: int | None = None
        if "BudgetExceededError" in kinds:
            wait = error.retry_after
            self.status, self.retry_after = (_PAYMENT, None) if wait is None else (_TOO_MANY, max(1, ceil(wait)))
        elif "StoreUnavailableError" in kinds:
            self.status, self.retry_after = _UNAVAILABLE, _STORE_BACK
        else:
            self.status = _UNAVAILABLE if "AgentHaltedError" in kinds else _FORBIDDEN
        self.body = {"error": {"type": type(error).__name__, "message": error.for_model()}}

    async def __call__(self, scope: Any, receive: Any, send: Callable[[_Message], Awaitable[None]]) -> None:
        """Send it, as any ASGI application does."""
        data = json.dumps(self.body).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        if self.retry_after is not None:
            headers.append((b"retry-after", str(self.retry_after).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": data})


async def refusal_response(request: Any, error: Any) -> RefusalResponse:
    """The exception handler of FastAPI and Starlette: ``app.add_exception_handler(CostGuardError, refusal_response)``.

    It answers where nothing of a reply was sent yet. Of a streamed one, take the first piece before you return it.
    """
    return RefusalResponse(error)
