"""What a share that was observed says of the true one."""

from __future__ import annotations

import math
from statistics import NormalDist

CONFIDENCE = 0.95


def z_of(confidence: float) -> float:
    """How many standard errors a two-sided interval reaches to each side.

    Raises:
        ValueError: names the field and the value.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: {confidence!r} must be between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(successes: float, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """What a share lies between; everything from 0 to 1 where nothing was counted.

    Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212; it holds for shares of 0 and 1, too.

    Raises:
        ValueError: names the field and the value.
    """
    if total < 0 or not 0 <= successes <= total * (1 + 1e-12):
        raise ValueError(f"successes: {successes!r} of {total!r} is no share")
    z = z_of(confidence)
    if not total:
        return 0.0, 1.0
    share, scale = min(1.0, successes / total), 1 + z * z / total
    middle, half = (share + z * z / (2 * total)) / scale, half_width(share * (1 - share), total, confidence) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def half_width(variance: float, total: int, confidence: float = CONFIDENCE) -> float:
    """Half of an interval of a mean, as Wilson's: not nothing even where all that were seen are alike."""
    z = z_of(confidence)
    return z * math.sqrt(variance / total + z * z / (4 * total * total))
