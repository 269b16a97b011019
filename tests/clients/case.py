"""One dialect: a provider's client, what the provider answers it, and what it bills for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.clients.serving import Wire


class Case(NamedTuple):
    """One dialect of a provider.

    ``make`` makes the client that asks at an address. ``usage`` are the counts above zero, ``charge`` the provider's
    bill in nano-USD; None is the counts at the provider's price.
    """

    make: Callable[[str], Any]
    wire: Wire
    usage: dict[str, Any]
    charge: int | None = None
    unheard: frozenset[str] = frozenset()
    """Roads on which the client drops what is billed, so that it is charged by an estimate, and flagged."""


def client(module: str, name: str, **fields: Any) -> Callable[[str], Any]:
    """Makes a client of this class; ``{url}`` in its fields is the server's address."""

    def make(url: str) -> Any:
        given = {key: value.format(url=url) if isinstance(value, str) else value for key, value in fields.items()}
        return getattr(pytest.importorskip(module), name)(**given)

    return make
