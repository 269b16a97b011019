"""What a report tells of each answer that came from a cache, and how many of them it remembers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from langchain_costguard import CostGuard, Scope
from langchain_costguard.caching import MemoryCache, SemanticCache
from langchain_costguard.events import Recalled, WouldRecall
from langchain_costguard.observe.recalls import KEPT, SHOWN, Recalls
from langchain_costguard.steering import SteeredModel, steer
from langchain_costguard.testing import FakeProvider, ManualClock, Recorder
from tests.conftest import PRICES, Caller

ASKED, REWORDED = "How do I cancel my order?", "How can I cancel my order?"
WHO = {"metadata": {"user": "u1", "feature": "support"}}


@pytest.fixture
def counting() -> Iterator[FakeProvider]:
    count = iter(range(1, 10_000))
    with FakeProvider(lambda request: f"answer {next(count)}") as provider:
        yield provider


def steered(provider: FakeProvider, guard: CostGuard, cache: Any) -> SteeredModel:
    return SteeredModel(provider.openai(temperature=0), steer(guard, cache=cache))


def semantic(provider: FakeProvider, **options: Any) -> SemanticCache:
    return SemanticCache(provider.embeddings(), threshold=0.6, **options)


def hit(at: float, saved: int = 0, score: float | None = None, **scope: str) -> Recalled:
    return Recalled(at, Scope(**scope), "gpt-4o", "because", saved, "exact" if score is None else "semantic", score)


def test_each_hit_has_its_score_its_reasons_and_what_it_saved_in_the_event_and_the_report(
    call: Caller, counting: FakeProvider
) -> None:
    recorder, clock = Recorder(), ManualClock(1_700_000_000.0)
    guard = CostGuard(prices=PRICES, sinks=[recorder], clock=clock)
    model = steered(counting, guard, [MemoryCache(), semantic(counting)])
    call(model, ASKED, WHO)
    spent = guard.report().total.spent
    clock.advance(7)
    for prompt in (ASKED, REWORDED):
        assert call(model, prompt, WHO).text == "answer 1"
    exact, alike = guard.report().recalls.rows
    told = recorder.of(Recalled)
    assert [(row.at, row.kind, row.why, row.score, row.reasons, row.saved) for row in (exact, alike)] == [
        (event.at, event.kind, event.why, event.score, event.reasons, event.saved) for event in told
    ]
    assert (exact.kind, exact.score, exact.reasons) == ("exact", None, ())
    assert alike.kind == "semantic"
    assert alike.score is not None
    assert 0.6 <= alike.score < 1
    assert alike.reasons[0].startswith(f"likeness {alike.score:.2f}")
    assert {(row.at, row.saved) for row in (exact, alike)} == {(1_700_000_007.0, spent)}
    assert {(row.scope.user, row.scope.feature, row.scope.model) for row in (exact, alike)} == {
        ("u1", "support", "gpt-4o")
    }
    assert "cancel" not in repr(guard.report().recalls.rows)
    assert guard.report().recalls.saved == guard.report().actions.saved == 2 * spent


def test_what_a_cache_in_shadow_would_have_answered_is_marked_as_that(call: Caller, counting: FakeProvider) -> None:
    guard = CostGuard(prices=PRICES)
    model = steered(counting, guard, semantic(counting, shadow=True))
    assert [call(model, prompt, WHO).text for prompt in (ASKED, REWORDED)] == ["answer 1", "answer 2"]
    (row,) = guard.report().recalls.rows
    assert (row.kind, row.saved, row.scope.model) == ("shadow", 0, "gpt-4o")
    assert row.reasons
    assert row.score is not None


def test_without_a_hit_there_is_nothing_to_tell(call: Caller, counting: FakeProvider) -> None:
    guard = CostGuard(prices=PRICES)
    call(steered(counting, guard, MemoryCache()), ASKED)
    recalls = guard.report().recalls
    assert (bool(recalls), recalls.saved, recalls.to_dicts(), recalls.by("user").rows) == (False, 0, [], [])
    assert (str(recalls), recalls._repr_html_()) == ("Nothing came from a cache.", "<p>Nothing came from a cache.</p>")
    assert len(recalls.to_pandas()) == len(recalls.by("user").to_pandas()) == 0


def some_hits() -> CostGuard:
    guard = CostGuard()
    for at, (score, feature) in enumerate([(None, "search"), (0.9, "search"), (0.8, "search"), (0.95, "<chat>")]):
        guard.tell(hit(at, 10_000_000, score, feature=feature))
    guard.tell(WouldRecall(4, Scope(feature="search"), "gpt-4o", "because", 0, 0.5, ("likeness 0.50",)))
    return guard


def test_hits_are_counted_by_dimension_and_kind_with_their_mean_score() -> None:
    counts = some_hits().report().recalls.by("feature")
    assert [(row.key, row.times, row.saved) for row in counts.rows] == [
        (("search", "semantic"), 2, 20_000_000),
        (("<chat>", "semantic"), 1, 10_000_000),
        (("search", "exact"), 1, 10_000_000),
        (("search", "shadow"), 1, 0),
    ]
    assert str(counts) == (
        "feature  kind      times  mean score   saved\n"
        "-------  --------  -----  ----------  ------\n"
        "search   semantic      2       0.850  $0.020\n"
        "<chat>   semantic      1       0.950  $0.010\n"
        "search   exact         1           -  $0.010\n"
        "search   shadow        1       0.500       -"
    )
    assert "&lt;chat&gt;" in counts._repr_html_()
    assert counts.to_dicts()[2] == {
        "feature": "search", "kind": "exact", "times": 1, "score": None, "saved_usd": Decimal("0.01"),
    }  # fmt: skip
    assert counts.to_pandas()["saved_usd"].tolist() == [0.02, 0.01, 0.01, 0.0]
    assert [row.times for row in some_hits().report().by("user").recalls.by().rows] == [3, 1, 1]
    with pytest.raises(ValueError, match="by: 'team'"):
        some_hits().report().recalls.by("team")


def test_hits_are_a_table_dictionaries_and_data_frames_one_by_one() -> None:
    recalls = some_hits().report().recalls
    lines = str(recalls).splitlines()
    assert lines[0].split() == ["at", "(UTC)", "feature", "model", "kind", "why", "score", "saved"]
    assert lines[-1].split() == [
        "1970-01-01", "00:00:04", "search", "gpt-4o", "shadow", "because;", "likeness", "0.50", "0.500", "-",
    ]  # fmt: skip
    assert "&lt;chat&gt;" in recalls._repr_html_()
    first = recalls.to_dicts()[1]
    assert first == {
        "at": 1, "user": "", "session": "", "agent": "", "step": "", "feature": "search", "task": "", "trace": "",
        "model": "gpt-4o", "kind": "semantic", "why": "because", "score": 0.9, "reasons": [],
        "saved_usd": Decimal("0.01"),
    }  # fmt: skip
    assert list(recalls.to_pandas().columns) == list(first)
    assert recalls.to_pandas()["saved_usd"].sum() == pytest.approx(0.04)


def test_the_latest_thousand_are_kept_and_the_last_twenty_shown() -> None:
    guard = CostGuard()
    for at in range(KEPT + 5):
        guard.tell(hit(at))
    report = guard.report()
    assert [row.at for row in report.recalls.rows] == list(range(5, KEPT + 5))
    assert len(str(report.recalls).splitlines()) == 2 + SHOWN
    assert str(report.recalls).splitlines()[-1].startswith("1970-01-01 00:16:44")
    assert report.actions.times("Recalled") == KEPT + 5
    guard.tell(hit(9_999))
    assert report.recalls.rows[-1].at == KEPT + 4


def test_many_threads_may_be_answered_while_a_report_is_made() -> None:
    guard, done = CostGuard(), threading.Event()
    seen: list[Recalls] = []

    def look() -> None:
        while not done.is_set():
            seen.append(guard.report().recalls)

    looking = threading.Thread(target=look)
    looking.start()
    telling = [threading.Thread(target=lambda: [guard.tell(hit(1.0, 1)) for _ in range(100)]) for _ in range(8)]
    for thread in telling:
        thread.start()
    for thread in telling:
        thread.join()
    done.set()
    looking.join()
    assert guard.report().recalls.saved == 800
    assert [len(recalls) for recalls in seen] == sorted(len(recalls) for recalls in seen)
