"""Prices, under the path that users of version 0.1 import."""

from langchain_costguard.metering.pricing.prices import *  # noqa: F403
