"""What the URLs of stores and caches name."""

from __future__ import annotations

import os
from typing import Any, Literal

Place = Literal["memory", "sqlite", "redis"]


def place_of(url: Any) -> tuple[Place, str] | None:
    """Where a URL points, and of a file its path: ``memory:``, ``sqlite:PATH``, ``redis://…``, ``rediss://…`` or
    ``unix://…``. None where it is no such URL.

    ``sqlite:///PATH`` is understood as SQLAlchemy does: three slashes and a relative path, four for an absolute one.
    """
    scheme, _, rest = url.partition(":") if isinstance(url, str) else ("", "", "")
    if url == "memory:":
        return "memory", ""
    if scheme == "sqlite" and rest and (not rest.startswith("//") or rest.startswith("///")):
        return "sqlite", os.path.expanduser(rest.removeprefix("///"))
    return ("redis", "") if scheme in ("redis", "rediss", "unix") else None
