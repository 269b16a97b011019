"""Money at the edge and inside: ``Decimal`` or ``str`` in and out, integer nano-USD (1e-9 USD) between."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal, DecimalException, InvalidOperation

NANO = 1_000_000_000

Money = str | int | Decimal
"""An amount of USD as a user writes it: ``"0.50"``, ``1``, ``Decimal("0.02")``. Never a float."""


def nano(amount: Money, field: str, *, zero: bool = False) -> int:
    """Turn USD into integer nano-USD, rounded up.

    Raises:
        ValueError: names ``field`` and the value, for anything that is no positive (with ``zero``: or zero) amount.
    """
    if isinstance(amount, bool) or not isinstance(amount, (str, int, Decimal)):
        hint = f' (a float cannot say ten cents exactly: write "{amount}")' if isinstance(amount, float) else ""
        raise ValueError(f"{field}: {amount!r} is no amount of USD; give a str, an int or a Decimal{hint}")
    try:
        value = Decimal(amount)
    except InvalidOperation:
        raise ValueError(f'{field}: {amount!r} is no amount of USD; write it like "0.50"') from None
    if not value.is_finite() or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{field}: {amount!r} must be a finite amount above zero")
    try:
        return int((value * NANO).to_integral_value(ROUND_CEILING))
    except DecimalException:
        raise ValueError(f"{field}: {amount!r} is more money than there is") from None


def usd(amount: int) -> Decimal:
    """Turn nano-USD into USD."""
    return Decimal(amount) / NANO


def show(amount: int) -> str:
    """Format nano-USD for people: ``$0.0312``, with as many digits as small amounts need."""
    value = usd(amount)
    if value == 0:
        return "$0.00"
    if abs(value) >= Decimal("0.01"):
        return f"-${-value:.4f}" if value < 0 else f"${value:.4f}"
    return f"-${-value:.7f}" if value < 0 else f"${value:.7f}"


def show_all(amounts: Sequence[int]) -> list[str]:
    """Format a column of nano-USD: cents, or as many digits as give the smallest amount two that count."""
    smallest = min((abs(amount) for amount in amounts if amount), default=NANO)
    digits = min(9, max(2, 11 - len(str(smallest))))
    return [f"-${usd(-amount):,.{digits}f}" if amount < 0 else f"${usd(amount):,.{digits}f}" for amount in amounts]
