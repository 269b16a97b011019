"""Hours, days, weeks and months as a calendar has them, in a time zone; and spans of time as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Window = Literal["hour", "day", "week", "month"]
WINDOWS = ("hour", "day", "week", "month")
_HOUR = 3600
_UNITS = {"s": 1, "m": 60, "h": _HOUR, "d": 86_400, "w": 7 * 86_400}


def zone(tz: str) -> tzinfo:
    """The time zone of an IANA name.

    Raises:
        ValueError: there is no such zone.
    """
    if tz == "UTC":
        return UTC  # needs no table: not every image has one
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        if not _has_zones():
            raise ValueError(
                f"tz: {tz!r} is no time zone here, where there is no table of them: pip install tzdata"
            ) from None
        raise ValueError(f"tz: {tz!r} is no time zone; give an IANA name such as Europe/Berlin") from None


def _has_zones() -> bool:
    """Whether the system, or the package ``tzdata``, knows time zones; Windows and small images do not."""
    try:
        ZoneInfo("Etc/UTC")
    except (ZoneInfoNotFoundError, OSError):
        return False
    return True


def window_at(window: Window, tz: str, now: float) -> tuple[str, float]:
    """The label of the calendar window that ``now`` (epoch seconds) lies in, and when it ends."""
    local = datetime.fromtimestamp(now, zone(tz))
    if window == "hour":
        # By the offset in force: in the night the clocks go back, one wall-clock hour comes twice.
        offset = local.strftime("%z")
        start = local.replace(minute=0, second=0, microsecond=0, tzinfo=None) - (local.utcoffset() or timedelta())
        return local.strftime("%Y-%m-%dT%H") + offset, start.replace(tzinfo=UTC).timestamp() + _HOUR
    day = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if window == "day":
        return day.strftime("%Y-%m-%d"), (day + timedelta(days=1)).timestamp()
    if window == "week":
        monday = day - timedelta(days=day.weekday())
        return monday.strftime("%G-W%V"), (monday + timedelta(days=7)).timestamp()
    first = day.replace(day=1)
    return first.strftime("%Y-%m"), (first + timedelta(days=32)).replace(day=1).timestamp()


def span(text: str, field: str) -> float:
    """The seconds of ``30m``, ``12h``, ``7d`` or ``2w``.

    Raises:
        ValueError: names ``field`` and the value.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if not found or not float(found[1]):
        raise ValueError(f"{field}: {text!r} is no time such as 30m, 12h or 7d")
    return float(found[1]) * _UNITS[found[2]]


_END = 253_402_300_800
"""Where Python's calendar ends, in seconds since the epoch."""


def moment(value: Any, field: str, *, now: float, tz: str = "UTC") -> float:
    """A moment (epoch seconds): a ``datetime``, a number, a date (``2026-11-01``, with a time or not), or how long ago
    (``7d``).

    Raises:
        ValueError: names ``field`` and the value.
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=zone(tz))).timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _END:
        return float(value)
    if isinstance(value, str):
        try:
            read = datetime.fromisoformat(value.strip())
        except ValueError:
            try:
                return now - span(value, field)
            except ValueError:
                raise ValueError(
                    f"{field}: {value!r} is no date such as 2026-11-01, nor a time ago such as 7d"
                ) from None
        return (read if read.tzinfo else read.replace(tzinfo=zone(tz))).timestamp()
    raise ValueError(f"{field}: {value!r} is no date such as 2026-11-01, nor a time ago such as 7d")
