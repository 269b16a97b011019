"""What a shorter prompt saved at one call, and what its rewriting took: against the same call with the whole thread."""

from __future__ import annotations

from typing import NamedTuple

from langchain_costguard.context.timing import Prices


class Prompted(NamedTuple):
    """A prompt in tokens: all of it, and what of it the call before had sent."""

    total: int
    old: int


def price(prompt: Prompted, prices: Prices, least: int) -> float:
    """What the prompt costs, in pico-USD: what is old is read from the provider's cache while that is warm, and where
    it is long enough to be kept (``least`` tokens); the rest is written."""
    old = prompt.old if prompt.old >= least else 0
    return prices.write * prompt.total - prices.warm * (prices.write - prices.read) * old


class Balance(NamedTuple):
    """Nano-USD of one call: what it took less, all told, and what of the rest was for rewriting."""

    saved: int
    paid: int


def balance(whole: Prompted, sent: Prompted, unbroken: int, prices: Prices, least: int) -> Balance:
    """The balance of a call whose whole thread would have been ``whole``; ``unbroken`` tokens of what was sent would
    have been old, had the prompt not been changed."""
    took = price(sent, prices, least)
    saved = price(whole, prices, least) - took
    paid = max(0.0, took - price(Prompted(sent.total, unbroken), prices, least))
    return Balance(round(saved / 1_000), round(paid / 1_000))
