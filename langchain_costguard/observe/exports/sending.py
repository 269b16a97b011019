"""Batches of rows to somebody's API: behind the calls, again until they are through, each row once by its id."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from langchain_costguard.observe.background import Writer

log = logging.getLogger("langchain_costguard")
_FOR_GOOD = frozenset({400, 401, 403, 404, 405, 410, 413, 415, 422})
TIMEOUT = 2.0


class Sender:
    """Posts rows as JSON. What the receiver will never take is dropped, counted and said once."""

    def __init__(self, name: str, url: str, headers: Mapping[str, str], *, batch: int = 100) -> None:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise ValueError(f"url: {name} needs one that begins with http:// or https://")
        self.rejected = 0
        self._name, self._url, self._headers = name, url, dict(headers)
        self._writer: Writer[dict[str, Any]] = Writer(self._deliver, name=name, batch=batch, gather=0.5)

    def __repr__(self) -> str:
        return f"Sender({self._name!r})"

    @property
    def dropped(self) -> int:
        """Rows that found the queue full."""
        return self._writer.dropped

    def put(self, row: dict[str, Any]) -> None:
        """Send a row, soon."""
        self._writer.put(row)

    def close(self, timeout: float = TIMEOUT) -> bool:
        """Send what is left; whether all was."""
        return self._writer.close(timeout)

    def _deliver(self, rows: list[dict[str, Any]]) -> None:
        try:
            import httpx
        except ImportError:
            raise ImportError("exports are sent by httpx: pip install 'langchain-costguard[alerts]'") from None
        timeout = max(0.1, min(TIMEOUT, self._writer.seconds_left))
        answer = httpx.post(self._url, content=json.dumps(rows), headers=self._headers, timeout=timeout)
        if answer.status_code in _FOR_GOOD:
            if not self.rejected:
                log.warning("costguard: %s does not take rows (HTTP %d) (said once)", self._name, answer.status_code)
            self.rejected += len(rows)
        elif not answer.is_success:
            raise RuntimeError(f"HTTP {answer.status_code}")
