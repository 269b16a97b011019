"""Fitting a semantic cache: weights and a threshold from pairs of prompts that people have labelled. Needs numpy.

The threshold is chosen, and its precision stated, by scores of models that had not seen the pair, nor any other pair
with a prompt of it: pairs that share a prompt are always on one side of a split.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_costguard.caching.semantic.conflicts import conflicts
from langchain_costguard.caching.semantic.fit import Fit
from langchain_costguard.caching.semantic.likeness import Likeness, Rarity, features
from langchain_costguard.caching.semantic.reading import Reading, read
from langchain_costguard.vocabulary.intervals import wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Pair = tuple[str, str, bool]

LEAST = 60
"""Pairs below which nothing is learnt."""
_LEAST_OF_EACH = 15
_HITS = 12
"""Hits below which a precision is an accident."""
FOLDS = 5
_RIDGE = 1.0
_ONE_ERROR = 0.6827
"""The confidence of an interval of one standard error to each side."""


def checked_pairs(pairs: Iterable[Any]) -> list[Pair]:
    """The pairs, each with two texts and a label, once.

    Raises:
        ValueError: one is something else, there are too few, or too few of one label.
    """
    found: dict[tuple[str, str], bool] = {}
    for i, pair in enumerate(pairs):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 3:
            raise ValueError(f"pairs[{i}]: {pair!r} must be (prompt, other prompt, True or False)")
        one, other, same = pair
        if not isinstance(one, str) or not isinstance(other, str) or not one.strip() or not other.strip():
            raise ValueError(f"pairs[{i}]: {pair!r} must have two prompts with text")
        if same not in (True, False):
            raise ValueError(f"pairs[{i}]: {same!r} must be True or False")
        key = (one, other) if one <= other else (other, one)
        if found.setdefault(key, bool(same)) != bool(same):
            raise ValueError(f"pairs[{i}]: {one!r} and {other!r} are labelled both True and False")
    same_ones = sum(found.values())
    if len(found) < LEAST:
        raise ValueError(f"pairs: {len(found)} are too few to learn from; {LEAST} or more are needed")
    if min(same_ones, len(found) - same_ones) < _LEAST_OF_EACH:
        raise ValueError(
            f"pairs: {same_ones} of {len(found)} are labelled True; {_LEAST_OF_EACH} or more of each label are needed"
        )
    return [(one, other, same) for (one, other), same in found.items()]


class Table:
    """Pairs as readings, with their cosines, and the cluster of pairs with prompts in common that each belongs to."""

    def __init__(self, pairs: Sequence[Pair], cosines: Sequence[float], vetoes: Sequence[str]) -> None:
        self.readings = [(read(one), read(other)) for one, other, _ in pairs]
        self.cosines = [float(cosine) for cosine in cosines]
        self.labels = [float(same) for _, _, same in pairs]
        self.vetoed = [bool(conflicts(one, other, vetoes)) for one, other in self.readings]
        self.prompts = [(_plain(one), _plain(other)) for one, other, _ in pairs]
        self.clusters = _clusters(self.prompts)

    def fit(self, rows: Sequence[int]) -> Likeness:
        """A model of these rows."""
        import numpy as np

        clusters: dict[int, list[Reading]] = {}
        for i in rows:
            clusters.setdefault(self.clusters[i], []).extend(self.readings[i])
        rarity = Rarity.learnt(clusters.values())
        # A pair's own words are no news to the count: without taking them out, they would seem commoner than those of
        # a pair that comes later.
        table = np.array([features(*self.readings[i], self.cosines[i], rarity, less=1) for i in rows])
        mean, spread = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-6)
        z = np.clip((table - mean) / spread, -5, 5)
        weights = _logistic(z, np.array([self.labels[i] for i in rows]))
        return Likeness(
            weights=tuple(weights[1:].tolist()),
            bias=float(weights[0]),
            mean=tuple(mean.tolist()),
            spread=tuple(spread.tolist()),
            rarity=rarity,
        )

    def scores(self, rows: Sequence[int], model: Likeness) -> list[float]:
        """What a model says of these rows; below nothing where a veto stands."""
        return [-1.0 if self.vetoed[i] else model.of(*self.readings[i], self.cosines[i]) for i in rows]

    def crossfit(self, seed: int = 0) -> list[float]:
        """Scores of all rows, each by a model that had seen none of its prompts.

        Raises:
            ValueError: the pairs hang together by their prompts, and leave nothing to learn from.
        """
        import random

        order = sorted(set(self.clusters))
        random.Random(seed).shuffle(order)
        fold = {cluster: i % FOLDS for i, cluster in enumerate(order)}
        found = [0.0] * len(self.labels)
        for part in range(FOLDS):
            held = [i for i, cluster in enumerate(self.clusters) if fold[cluster] == part]
            known = {prompt for i in held for prompt in self.prompts[i]}
            kept = [i for i, prompts in enumerate(self.prompts) if known.isdisjoint(prompts)]
            if len({self.labels[i] for i in kept}) < 2:
                raise ValueError(
                    f"pairs: these {len(self.labels)} share their prompts with one another, which leaves none to check "
                    "a fit on; add pairs of other prompts"
                )
            for i, score in zip(held, self.scores(held, self.fit(kept)), strict=True):
                found[i] = score
        return found


def fitted(pairs: Sequence[Pair], cosines: Sequence[float], *, precision: float, vetoes: Sequence[str]) -> Fit:
    """Learn from pairs and the cosines of their embeddings.

    Raises:
        ValueError: the precision is not reached; says what is.
    """
    table = Table(pairs, cosines, vetoes)
    scores = table.crossfit()
    threshold, hits, right = _threshold(scores, table.labels, precision)
    low, high = wilson(right, hits)
    return Fit(
        precision=right / hits,
        low=low,
        high=high,
        recall=right / sum(table.labels),
        threshold=threshold,
        target=precision,
        pairs=len(pairs),
        likeness=table.fit(range(len(pairs))),
        vetoes=tuple(vetoes),
    )


def _threshold(scores: Sequence[float], labels: Sequence[float], precision: float) -> tuple[float, int, int]:
    """The lowest score from which on the precision is reached, the hits there, and how many of them are right.

    Reached is what is still reached one standard error lower, by Wilson: the lowest of many scores that pass is more
    often lucky than not, and without this every second fit would miss its target on the pairs to come.
    """
    ranked = sorted(zip(scores, labels, strict=True), key=lambda row: -row[0])
    right, best = 0, (0.0, 0, 0)
    chosen: tuple[float, int, int] | None = None
    for hits, (score, label) in enumerate(ranked, 1):
        if score < 0:
            break
        right += int(label)
        after = ranked[hits][0] if hits < len(ranked) else -1.0
        if hits < _HITS or after == score:
            continue
        sure = wilson(right, hits, _ONE_ERROR)[0]
        if sure > best[0]:
            best = (sure, hits, right)
        if sure >= precision:
            # Between this score and the next one: a score that is not quite the same next time still counts.
            chosen = (score - min(1e-4, (score - max(after, 0.0)) / 2), hits, right)
    if chosen is None:
        share, hits, right = best
        recall = right / sum(labels)
        raise ValueError(
            f"precision: {precision!r} is not reached on these pairs; the most that is sure is "
            f"{math.floor(share * 1000) / 1000:.3f}, at a recall of {recall:.3f} ({right} of {hits} hits right)"
        )
    return chosen


def _logistic(z: Floats, y: Floats) -> Floats:
    """Logistic regression with a ridge, by Newton's method; the first weight is the bias."""
    import numpy as np

    rows = np.hstack([np.ones((len(z), 1)), z])
    ridge = np.full(rows.shape[1], _RIDGE)
    ridge[0] = 1e-6
    w: Floats = np.zeros(rows.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(rows @ w, -40, 40)))
        slope = rows.T @ (p - y) + ridge * w
        bend = (rows * (p * (1 - p))[:, None]).T @ rows + np.diag(ridge)
        step = np.linalg.solve(bend, slope)
        # Far from the answer a whole step may overshoot.
        w = w - step * min(1.0, 5.0 / max(1e-9, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-6:
            break
    return w


def _plain(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def _clusters(pairs: Sequence[tuple[str, str]]) -> list[int]:
    """For each pair, the number of the cluster of pairs that share prompts, directly or by others.

    What a cache in shadow records hangs together by and by. A cluster that would not fit in a fold is taken apart, into
    those of its pairs that share the first of their prompts.
    """
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while parent.setdefault(text, text) != text:
            parent[text] = text = parent[parent[text]]
        return text

    for one, other in pairs:
        parent[root(one)] = root(other)
    roots = [root(one) for one, _ in pairs]
    sizes = Counter(roots)
    names = [
        (each, "") if sizes[each] * FOLDS <= len(pairs) else (each, one)
        for each, (one, _) in zip(roots, pairs, strict=True)
    ]
    numbers: dict[tuple[str, str], int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]
