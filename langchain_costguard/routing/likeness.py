"""The index of a ``SemanticRouter``: where its routes are, how far is too far, and how near a vector is to each.

Distance counts less in directions in which the utterances of one route differ among themselves (the pooled covariance
of all routes, shrunk towards the identity), for that is what does not matter to them. How far is too far is learnt by
leaving each utterance out in turn, in closed form, and its nearest sibling with it, and asking how near the others
would have found it: people write down alike utterances side by side, and a prompt to come has no such twin. Each
route's threshold is its own mean, drawn towards that of all routes, less what lets through all but ``reject`` of the
utterances. No utterance out of scope is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

_SHRINK = 0.7
"""The identity's weight in the covariance. From 0.5 to 0.9, the accuracy on CLINC150 differs by 0.1 points."""

_DIRECTIONS = 256
"""Directions of the covariance kept; more of them make large embeddings slow, and tell no better."""

_LEAD = 0.2
"""The weight of the lead over the runner-up beside the nearness itself."""

_PULL = 30
"""A route's own mean weighs as much as that of all routes when it has so many utterances."""

_TWINS = 4
"""Utterances of a route from which on one can be left out together with the one most like it."""

_ROUNDING = 1e-4
"""The share of a score that may be lost by computing in single precision."""


def unit(vectors: Any, texts: Sequence[str]) -> Array:
    """The vectors as rows of length one.

    Raises:
        ValueError: they are not as many as the texts, not of one size, or one has no direction.
    """
    import numpy as np

    try:
        rows = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError("embeddings: the vectors are not numbers, or not of one size") from None
    if rows.ndim != 2 or len(rows) != len(texts) or not rows.shape[1]:
        raise ValueError(f"embeddings: {len(texts)} texts brought vectors of the shape {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if bad.size:
        raise ValueError(f"embeddings: the vector of {texts[int(bad[0])]!r} is zero or not finite")
    made: Array = rows / lengths
    return made


def fit(rows: Array, owners: Sequence[int], reject: float) -> dict[str, Any]:
    """The index: means, what distances are computed from, and thresholds."""
    import numpy as np

    of = np.asarray(owners)
    count = np.bincount(of)
    means = np.stack([rows[of == route].mean(axis=0) for route in range(len(count))])
    residuals = rows - means[of]
    freedom = max(1, len(rows) - len(count))
    _, strength, directions = np.linalg.svd(residuals, full_matrices=False)
    strength, directions = strength[:_DIRECTIONS], directions[:_DIRECTIONS]
    floor = max(1e-6, float(_SHRINK * (residuals**2).sum() / freedom / rows.shape[1]))
    variance = (1 - _SHRINK) * strength**2 / freedom + floor
    # The inverse covariance is the identity / floor, less these directions' outer products.
    # A direction without variance comes to less than nothing in single precision, by rounding.
    damped = (directions * np.sqrt(np.maximum(0, 1 / floor - 1 / variance))[:, None]).astype(np.float32)
    whitened = means / floor - means @ damped.T @ damped
    index = {
        "means": whitened.astype(np.float32),
        "offsets": (means * whitened).sum(axis=1).astype(np.float32),
        "damped": damped,
        "floor": np.float32(floor),
    }
    left_out = _left_out(index, rows, means, of, (1 - _SHRINK) / freedom)
    own = np.array([left_out[of == route].mean() for route in range(len(count))])
    weight = count / (count + _PULL)
    drawn = weight * own + (1 - weight) * left_out.mean()
    index["thresholds"] = drawn + np.quantile(left_out - drawn[of], reject) - _ROUNDING * np.abs(drawn)
    index["spread"] = np.float64(max(1e-6, float(left_out.std())))
    return index


def _left_out(index: Mapping[str, Any], rows: Array, means: Array, of: Any, share: float) -> Array:
    """Each utterance's score for its own route, had it not been one of its utterances.

    Leaving it out takes its residual out of the covariance (Sherman and Morrison) and itself out of its route's mean.
    """
    import numpy as np

    every = np.arange(len(rows))
    count = np.bincount(of)[of]
    distances = squares(index, rows)
    apart = squares(index, means)
    own = distances[every, of]
    taken = share * count / (count - 1)
    grown = 1 / np.maximum(0.05, 1 - taken * own)
    inner = (own[:, None] + distances - apart[of]) / 2
    others = distances + (taken * grown)[:, None] * inner**2
    others[every, of] = grown * _without_twins(index, rows, means, of)
    return scores(others, of)


def _without_twins(index: Mapping[str, Any], rows: Array, means: Array, of: Any) -> Array:
    """Each utterance's squared distance to its route's mean without it and, of four or more, its nearest sibling.

    A mean of so few is further from a new utterance than that of all will be: the squared distances are as 1 + 1 / k.
    """
    import numpy as np

    found = np.empty(len(rows))
    for route, mean in enumerate(means):
        at = np.flatnonzero(of == route)
        count, own = len(at), rows[at]
        gone, less = own, 1
        if count >= _TWINS:
            alike = own @ own.T
            np.fill_diagonal(alike, -2)
            gone, less = own + own[alike.argmax(axis=1)], 2
        apart = own - (count * mean - gone) / (count - less)
        squared = (apart**2).sum(axis=1) / index["floor"] - ((apart @ index["damped"].T) ** 2).sum(axis=1)
        found[at] = squared * (1 + 1 / count) / (1 + 1 / (count - less))
    return found


def squares(index: Mapping[str, Any], rows: Array) -> Array:
    """The squared distances of the rows (or of one vector) to the routes' means."""
    within = (rows**2).sum(axis=-1) / index["floor"] - ((rows @ index["damped"].T) ** 2).sum(axis=-1)
    found: Array = within[..., None] - 2 * (rows @ index["means"].T) + index["offsets"]
    return found


def scores(distances: Array, routes: Any) -> Array:
    """How well each row's route suits it: near, and nearer than the next one."""
    import numpy as np

    every = np.arange(len(distances))
    own = distances[every, routes]
    rest = distances.copy()
    rest[every, routes] = np.inf
    lead = rest.min(axis=1) - own if distances.shape[1] > 1 else 0.0
    found: Array = -own + _LEAD * lead
    return found
