"""What the URLs of stores and caches name."""

from __future__ import annotations

import os
import re
from typing import Any, Literal

Place = Literal["memory", "sqlite", "redis", "postgres"]
_SECRET = re.compile(r"(?i)([?&#;\s][^=&]*(?:pass|pwd|secret|token|auth|key)[^=&]*=)[^&\s]*")


def place_of(url: Any) -> tuple[Place, str] | None:
    """Where a URL points, and of a file its path: ``memory:``, ``sqlite:PATH``, ``redis://…``, ``rediss://…``,
    ``unix://…`` or ``postgresql://…``. None where it is no such URL.

    ``sqlite:///PATH`` is understood as SQLAlchemy does: three slashes and a relative path, four for an absolute one.
    """
    scheme, _, rest = url.partition(":") if isinstance(url, str) else ("", "", "")
    if isinstance(url, str) and url == "memory:":
        return "memory", ""
    if scheme == "sqlite" and rest and (not rest.startswith("//") or rest.startswith("///")):
        return "sqlite", os.path.expanduser(rest.removeprefix("///"))
    if scheme in ("postgresql", "postgres") and rest.startswith("//"):
        return "postgres", ""
    return ("redis", "") if scheme in ("redis", "rediss", "unix") else None


def worded(error: BaseException) -> str:
    """What an error says; its name, where it says nothing."""
    return str(error).strip() or type(error).__name__


def reason(error: BaseException) -> str:
    """What the system says is wrong, without its number and its file, which whoever tells of it names."""
    return getattr(error, "strerror", None) or worded(error)


def without_password(url: Any) -> Any:
    """A URL as it may be shown: what may be a user's name or password is left out, also where the URL is malformed."""
    if not isinstance(url, str):
        return url
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, mark, rest = url.partition(":")
    _, at, rest = rest.rpartition("@")
    end = min((found for each in "/?#" if (found := rest.find(each)) >= 0), default=len(rest))
    host, tail = rest[:end], rest[end:]
    if host.startswith(":") or (host.count(":") > 1 and "[" not in host):
        host = "***"
    user = "***@" if at else ""
    return f"{scheme}{mark}{user}{host}" + _SECRET.sub(r"\1***", tail)


def told(error: Exception | str, url: str) -> str:
    """What is wrong with a URL, without what is not to be shown of it."""
    text, shown = str(error), without_password(url)
    for part in dict.fromkeys(re.split(r"[:@/?&=#]+", url)):
        if len(part) > 2 and part not in shown:
            text = text.replace(part, "***")
    return text
