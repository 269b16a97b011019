"""A cache of answers to questions that are like each other: likeness alone does not make a hit.

A remembered answer is given where its prompt is near by embedding, nothing in the two prompts is in conflict
(``conflicts``), the turns before are the same, it is young enough, and no other answer is nearly as near. How near is
near enough differs between embedding models and uses: ``fit`` learns it from labelled pairs, and ``shadow`` collects
the pairs to label. Without a fit, the score of two prompts is their cosine, and the threshold a guess.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from langchain_core.embeddings import Embeddings

from langchain_costguard.caching.digests import digest
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.rules import Options, Rules
from langchain_costguard.caching.semantic.conflicts import VETOES, checked_vetoes
from langchain_costguard.caching.semantic.fit import Fit
from langchain_costguard.caching.semantic.fitting import checked_pairs, fitted
from langchain_costguard.caching.semantic.shadow import ShadowLog
from langchain_costguard.caching.semantic.verdict import NEIGHBOURS, Judge, Verdict

if TYPE_CHECKING:
    from langchain_costguard.caching.index.base import VectorIndex
    from langchain_costguard.caching.question import Question

_WRAPPED = ("inner", "underlying_embeddings")
"""Where the embeddings of a guard, and those that LangChain keeps in a store, have the ones that they ask."""
_TELLING = ("model", "model_name", "model_id", "deployment", "repo_id", "dimensions", "output_dimensionality")


class SemanticCache:
    """Answers by what is asked, whatever the words: ``SemanticCache(embeddings, threshold=0.92)``.

    Only questions of one setting (tenant, model family, system prompt, tools, parameters, embeddings) can answer each
    other.

    Args:
        embeddings: Embeds each prompt. Answers found by one model of embeddings are never given by another's.
        threshold: The least score of a hit. Without a fit that is a cosine, less what age and doubt take; 0.92 is
            careful with most models, and 0.80 to 0.85 is where all-MiniLM-L6-v2 finds most paraphrases. A fit brings
            its own.
        index: Where answers are kept; in this process' memory by default.
        margin: How much nearer the answer must be than others that say something else: one that is so much further away
            counts for 1/e of it when doubts are weighed. None gives the nearest whatever the others say.
        max_age: Seconds after which an answer is remembered, but not given for another wording.
        freshness: The share of the score that an answer has lost when its time to live is over.
        vetoes: The conflicts to look for; see ``conflicts.VETOES``.
        shadow: True, or a ``ShadowLog``: steering never answers from this cache, but ``cache.log`` records what would
            have been answered, with the texts of prompts and replies.
        options: As every cache takes them; see ``Rules``.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        *,
        threshold: float = 0.92,
        index: VectorIndex | None = None,
        margin: float | None = 0.035,
        max_age: float | None = None,
        freshness: float = 0.01,
        vetoes: Collection[str] = tuple(VETOES),
        shadow: bool | ShadowLog = False,
        **options: Unpack[Options],
    ) -> None:
        if not hasattr(embeddings, "embed_query"):
            raise ValueError(f"embeddings: {embeddings!r} must be LangChain embeddings")
        if not isinstance(shadow, (bool, ShadowLog)):
            raise ValueError(f"shadow: {shadow!r} must be True, False or a ShadowLog")
        self.rules = Rules(**options)
        self.embeddings = embeddings
        self._judge = Judge(
            threshold=_number("threshold", threshold, 0, 1, "a score above 0, at most 1", above=True),
            margin=None if margin is None else _number("margin", margin, 0, 1, "a cosine above 0", above=True),
            max_age=None if max_age is None else _number("max_age", max_age, 0, math.inf, "seconds", above=True),
            freshness=_number("freshness", freshness, 0, 1, "a share from 0 to 1"),
            vetoes=checked_vetoes(vetoes),
        )
        if index is None:
            from langchain_costguard.caching.index.memory import MemoryIndex

            index = MemoryIndex()
        self.index = index
        self.shadow = shadow is not False
        self.log = shadow if isinstance(shadow, ShadowLog) else ShadowLog() if shadow else None
        self.fitted: Fit | None = None

    def __repr__(self) -> str:
        how = "fitted" if self.fitted else "not fitted"
        return f"<SemanticCache: threshold {self.threshold:g}, {how}{', in shadow' if self.shadow else ''}>"

    @property
    def quick(self) -> bool:
        """Whether it is worth no thread: with a few answers in memory, and no log on disk."""
        return getattr(self.index, "quick", False) and (self.log is None or self.log.path is None)

    @property
    def threshold(self) -> float:
        """The least score of a hit."""
        return self._judge.threshold

    def look(self, question: Question, vector: Sequence[float], *, now: float) -> Verdict:
        """What there is to say to a question, by its prompt's embedding. ``now`` is in epoch seconds.

        In shadow, too, the verdict has its answer: whoever asks must not give it, and tell ``compare`` the model's own.

        Raises:
            ValueError: the embedding does not suit the index.
            CacheError: the index did not answer.
        """
        prompt = question.prompt
        if not prompt.strip():
            return Verdict(reasons=("the last message is not the user's text",))
        setting = self._setting(question)
        found = self.index.search(setting, vector, NEIGHBOURS, now=now)
        return self._judge.judge(prompt, question.context, found, now=now)

    def keep(self, question: Question, vector: Sequence[float], entry: Entry, *, now: float) -> None:
        """Remember an answer under a question, in place of an earlier answer to the same words.

        Raises:
            ValueError: the embedding does not suit the index.
            CacheError: the index did not answer.
        """
        prompt = question.prompt
        if not prompt.strip():
            return
        setting, context = self._setting(question), question.context
        id = _id(setting, context, prompt)
        self.index.add(id, setting, vector, replace(entry, prompt=prompt, context=context), now=now)

    def compare(self, question: Question, verdict: Verdict, entry: Entry) -> None:
        """In shadow: record a verdict that had an answer, or nearly, beside the model's own.

        The same words asked again are no news, and are not recorded.

        Raises:
            CacheError: the log's file could not be written.
        """
        near, prompt = verdict.nearest, question.prompt
        if self.log is None or near is None or near.prompt == prompt:
            return
        if verdict.entry is not None or verdict.score >= self.log.least:
            self.log.add(
                prompt=prompt,
                stored=near.prompt,
                served=verdict.entry is not None,
                score=verdict.score,
                similarity=verdict.similarity,
                reasons=verdict.reasons,
                remembered=near.reply,
                reply=entry.reply,
            )

    def _setting(self, question: Question) -> str:
        """What two questions must share, the model that embeds them included: its vectors are like no other's."""
        return digest(question.setting(self.rules), identity(self.embeddings)).hex()

    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""
        return self.index.forget(wanted)

    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""
        return self.index.stock(now=now)

    # Fitting

    def fit(self, pairs: Iterable[tuple[str, str, bool]], precision: float = 0.95) -> Fit:
        """Learn from labelled pairs which score makes a hit, and use it from now on.

        The precision is stated, and the threshold chosen, by scores of models that had not seen the pair; it is that of
        pairs such as these, before doubts and age are weighed, which only make it better. Embeds all prompts.

        Args:
            pairs: ``(prompt, other prompt, whether one's answer does for the other)``; 60 or more, of both kinds.
            precision: The share of hits that must be right.

        Raises:
            ValueError: the pairs are too few or of one kind, or the precision is not reached; says what is.
        """
        target = _number("precision", precision, 0, 1, "a share above 0, below 1", above=True, below=True)
        checked = checked_pairs(pairs)
        texts = list(dict.fromkeys(text for one, other, _ in checked for text in (one, other)))
        vectors = dict(zip(texts, self.embeddings.embed_documents(texts), strict=True))
        cosines = [_cosine(vectors[one], vectors[other]) for one, other, _ in checked]
        found = fitted(checked, cosines, precision=target, vetoes=self._judge.vetoes)
        self.use(found)
        return found

    def use(self, fit: Fit) -> None:
        """Score by what was learnt before, with the same embeddings: nobody can check that they are."""
        self._judge = replace(self._judge, threshold=fit.threshold, likeness=fit.likeness, vetoes=fit.vetoes)
        self.fitted = fit


def _id(setting: str, context: str, prompt: str) -> str:
    return hashlib.sha256("\0".join((setting, context, prompt)).encode("utf-8", "surrogatepass")).hexdigest()


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    if not 0 < lengths < math.inf:
        raise ValueError("embeddings: a prompt's vector is zero or not finite")
    return sum(x * y for x, y in zip(one, other, strict=True)) / lengths


def _number(
    name: str, value: Any, least: float, most: float, what: str, *, above: bool = False, below: bool = False
) -> float:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most and value < 1e300
    if not fits or (above and value == least) or (below and value == most):
        raise ValueError(f"{name}: {value!r} must be {what}")
    return float(value)


def identity(embeddings: Any) -> str:
    """The class and the model of embeddings, and what else tells their vectors from those of others."""
    while (inner := next((own for own in _own(embeddings) if isinstance(own, Embeddings)), None)) is not None:
        embeddings = inner
    told = {name: getattr(embeddings, name, None) for name in _TELLING}
    said = [f"{name}={value}" for name, value in told.items() if isinstance(value, (str, int)) and value]
    return ";".join([type(embeddings).__qualname__, *said])


def _own(embeddings: Any) -> list[Any]:
    held = getattr(embeddings, "__dict__", {})
    return [held.get(name) for name in _WRAPPED]
