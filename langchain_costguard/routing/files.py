"""Files that routers are kept in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_costguard.vocabulary.urls import reason


@contextmanager
def saved(path: str | Path, kind: str, version: int) -> Iterator[Any]:
    """What a file of this kind says; whatever is wrong with it, or with what is read of it in the block, is told by its
    name.

    Raises:
        ValueError: it cannot be read, or is something else.
    """
    try:
        told = json.loads(Path(path).read_text("utf-8"))
        if told[kind] != version:
            raise ValueError(f"version {told[kind]!r} is not {version}; train again")
        yield told
    except OSError as error:
        raise ValueError(f"{path}: {reason(error)}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: no router that can be read ({type(error).__name__}: {error})") from None
