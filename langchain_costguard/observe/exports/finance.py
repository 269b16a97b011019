"""What finance reads: FOCUS rows, and lines of an invoice; amounts to the nano-dollar, as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from langchain_costguard.vocabulary.money import usd


class Charged(NamedTuple):
    """What a day's calls of one kind cost: ``day`` is ``2026-11-29``, ``spent`` nano-USD; ``tokens`` are all."""

    day: str
    provider: str
    model: str
    feature: str
    agent: str
    user: str
    calls: int
    tokens: int
    spent: int


FOCUS = (
    "BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit",
    "ProviderName", "PublisherName", "ResourceId", "ResourceName", "ServiceCategory", "ServiceName", "SkuId", "Tags",
)  # fmt: skip
"""Columns of FOCUS 1.0 that are known here. https://focus.finops.org/focus-specification/v1-0/"""


def focus_rows(charges: Iterable[Charged], *, account: str = "costguard") -> Iterator[dict[str, Any]]:
    """One FOCUS row a day, model and owner."""
    for charge in charges:
        start = datetime.fromisoformat(charge.day).replace(tzinfo=UTC)
        month = start.replace(day=1)
        following = (month + timedelta(days=32)).replace(day=1)
        cost = f"{usd(charge.spent):f}"
        tags = {name: value for name in ("feature", "agent", "user") if (value := getattr(charge, name))}
        known = {
            "BilledCost": cost, "ListCost": cost, "EffectiveCost": cost, "ContractedCost": cost,
            "BillingAccountId": account, "BillingCurrency": "USD",
            "BillingPeriodStart": _time(month), "BillingPeriodEnd": _time(following),
            "ChargePeriodStart": _time(start), "ChargePeriodEnd": _time(start + timedelta(days=1)),
            "ChargeCategory": "Usage", "ChargeFrequency": "Usage-Based",
            "ChargeDescription": f"{charge.calls} calls of {charge.model}",
            "ConsumedQuantity": str(charge.tokens), "ConsumedUnit": "Tokens",
            "PricingQuantity": str(charge.tokens), "PricingUnit": "Tokens",
            "ProviderName": charge.provider or "unknown", "PublisherName": charge.provider or "unknown",
            "InvoiceIssuerName": charge.provider or "unknown", "ServiceCategory": "AI and Machine Learning",
            "ServiceName": charge.model, "SkuId": charge.model, "ResourceId": charge.model,
            "ResourceName": charge.model, "Tags": _tags(tags),
        }  # fmt: skip
        yield {name: known[name] for name in FOCUS}


INVOICE = ("customer", "description", "quantity", "unit_amount_decimal", "amount_decimal", "currency", "period")
"""Columns of an invoice's lines; amounts are in cents, as Stripe's ``unit_amount_decimal``."""


def invoice_lines(charges: Iterable[Charged]) -> Iterator[dict[str, Any]]:
    """One line a day, customer (the user), model and feature. https://docs.stripe.com/api/invoiceitems/create"""
    for charge in charges:
        cents = usd(charge.spent) * 100
        what = f"{charge.model}, {charge.feature}" if charge.feature else charge.model
        yield dict(
            zip(
                INVOICE,
                (charge.user or "unknown", what, "1", f"{cents:f}", f"{cents:f}", "usd", charge.day),
                strict=True,
            )
        )


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _tags(tags: dict[str, str]) -> str:
    return json.dumps(tags, ensure_ascii=False)
