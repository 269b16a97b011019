"""The served page as an ASGI application: everything on it is behind a token, and what it does behind a second one.

A page of another site cannot act through a person's browser: the cookie is not sent along (``SameSite=Strict``), the
header it would need is not its to know, and a name that only resolves to this host is refused.
https://owasp.org/www-community/attacks/csrf
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from langchain_costguard.cli.web.acts import Acts
from langchain_costguard.metering.stores.base import StoreError
from langchain_costguard.observe.log.sql import LogError
from langchain_costguard.observe.page.facts import facts
from langchain_costguard.observe.page.render import render
from langchain_costguard.observe.spend import Spend

T = TypeVar("T")
COOKIE = "costguard"
TITLE = "What is spent"
_FILTERS = ("user", "session", "agent", "step", "feature", "task", "model", "tool")
_HEADERS = {"Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"}
_NO_TOKEN = (
    "<!doctype html><title>costguard</title><p>Open the address that costguard serve has printed: it has a token."
)
_MOST = 10_000


class Page:
    """Answers requests.

    Args:
        spend: The log.
        since: What is shown where no other time is asked for: how long ago, or from when on.
        acts: What can be done; None shows only.
        token: What lets somebody in.
    """

    def __init__(self, spend: Spend, since: str, acts: Acts | None, token: str) -> None:
        self._spend = spend
        self._since = since
        self._acts = acts
        self._token = token
        self._csrf = hmac.new(token.encode(), b"acts", hashlib.sha256).hexdigest()

    async def index(self, request: Request) -> Response:
        """The page; with the token in the address, a cookie in its place."""
        if (given := request.query_params.get("token")) is not None and self._right(given):
            answer: Response = RedirectResponse(request.url.path, status_code=303, headers=_HEADERS)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        if not self._known(request):
            return HTMLResponse(_NO_TOKEN, status_code=401, headers=_HEADERS)
        shown = await self._asked(lambda: facts(self._of(request)))
        if isinstance(shown, Response):
            shown = await run_in_threadpool(facts, self._spend.between(self._since))
        words = {"CSRF": self._csrf, "BRAKE": self._acts is not None}
        script = "".join(f"const {name} = {json.dumps(value)};" for name, value in words.items())
        text = render(shown, title=TITLE, controls=_read("controls.html"), script=script + _read("live.js"))
        return HTMLResponse(text, headers=_HEADERS)

    async def facts(self, request: Request) -> Response:
        """What the page shows, as it is now."""
        if not self._known(request):
            return _refused(401, "the token is missing")
        shown = await self._asked(lambda: facts(self._of(request)))
        return shown if isinstance(shown, Response) else JSONResponse(shown, headers=_HEADERS)

    async def brake(self, request: Request) -> Response:
        """What is halted, and what every account has left."""
        if not self._known(request) or self._acts is None:
            return _refused(401, "the token is missing")
        state = await self._asked(self._acts.state)
        return state if isinstance(state, Response) else JSONResponse(state, headers=_HEADERS)

    async def act(self, request: Request) -> Response:
        """Kill, revive or grant."""
        acts = self._acts
        if acts is None or not self._known(request):
            return _refused(401, "the token is missing")
        if not hmac.compare_digest(request.headers.get("x-costguard", "").encode(), self._csrf.encode()):
            return _refused(403, "this page is not the one that was served: load it again")
        try:
            given = json.loads((await request.body())[:_MOST])
        except ValueError:
            given = None
        if not isinstance(given, Mapping):
            return _refused(400, "a JSON object is needed")
        said = await self._asked(lambda: acts.act(given))
        return said if isinstance(said, Response) else JSONResponse({"said": said}, headers=_HEADERS)

    def _of(self, request: Request) -> Spend:
        query = request.query_params
        spend = self._spend.between(query.get("since") or self._since, query.get("until") or None)
        return spend.where(**{name: query.getlist(name) for name in _FILTERS if query.get(name)})

    async def _asked(self, ask: Callable[[], T]) -> T | Response:
        """What is asked for, off the event loop; or what is wrong with it."""
        try:
            return await run_in_threadpool(ask)
        except ValueError as error:
            return _refused(400, str(error))
        except (LogError, StoreError) as error:
            return _refused(503, str(error))

    def _known(self, request: Request) -> bool:
        return self._right(request.cookies.get(COOKIE, ""))

    def _right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode())


def app(spend: Spend, acts: Acts | None, *, since: str, token: str, hosts: list[str]) -> Starlette:
    """The application; ``hosts`` are the names by which it may be asked."""
    page = Page(spend, since, acts, token)
    routes = [
        Route("/", page.index),
        Route("/facts", page.facts),
        Route("/brake", page.brake),
        Route("/act", page.act, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)])


def _refused(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=status, headers=_HEADERS)


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
