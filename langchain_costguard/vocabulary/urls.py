"""What the URLs of stores and caches name."""

from __future__ import annotations

import os
from typing import Any, Literal

Place = Literal["memory", "sqlite", "redis", "postgresql"]


def place_of(url: Any) -> tuple[Place, str] | None:
    """Where a URL points, and of a file its path: ``memory:``, ``sqlite:PATH``, ``redis://…``, ``rediss://…``,
    ``unix://…`` or ``postgresql://…``. None where it is no such URL.

    ``sqlite:///PATH`` is understood as SQLAlchemy does: three slashes and a relative path, four for an absolute one.
    """
    scheme, _, rest = url.partition(":") if isinstance(url, str) else ("", "", "")
    if url == "memory:":
        return "memory", ""
    if scheme == "sqlite" and rest and (not rest.startswith("//") or rest.startswith("///")):
        return "sqlite", os.path.expanduser(rest.removeprefix("///"))
    if scheme in ("postgresql", "postgres"):
        return "postgresql", ""
    return ("redis", "") if scheme in ("redis", "rediss", "unix") else None


def shown(url: Any) -> Any:
    """The value, without a password it may carry."""
    if not isinstance(url, str) or "@" not in url:
        return url
    return url.partition("//")[0] + "//***@" + url.rpartition("@")[2]
