"""Labels of metrics, bounded: what has too many values is ``other``."""

from __future__ import annotations

import threading

MOST = 100
"""Values a label may have. SDKs cap series at 2,000 an instrument since 1.31 only, and drop the rest together."""
OTHER = "other"


class Labels:
    """The values seen of each label, first come first kept."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._seen: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, value: str) -> str:
        """The value, or ``other`` where a label has as many as it may."""
        seen = self._seen.get(name)
        if seen is not None and value in seen:
            return value
        with self._lock:
            seen = self._seen.setdefault(name, set())
            if len(seen) >= self._most and value not in seen:
                return OTHER
            seen.add(value)
            return value
