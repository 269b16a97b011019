"""Who is told of what: the ladder, its ends, spikes, and what happens where nobody answers."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiosmtpd.controller import Controller
from standardwebhooks import Webhook as Verifier

from langchain_costguard import Budget, BudgetExceededError, CostGuard, Price, SQLiteStore
from langchain_costguard.events import CircuitClosed, CircuitOpened, StoreFailed
from langchain_costguard.observe.notify import Alertmanager, Email, Notify, PagerDuty, Slack, Webhook
from langchain_costguard.observe.notify.rates import HOUR, Rates
from langchain_costguard.testing import ManualClock, ScriptedChatModel
from langchain_costguard.vocabulary.scope import Scope
from tests.conftest import Caller
from tests.loopback import Answering, Listener
from tests.observe.test_metrics import free_port
from tests.waits import waits_less_than

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes....").decode()


class Posted(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: Any
    text: str


class Receiver(Listener):
    """A server that takes what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.answers_with = ""
        self._came = threading.Condition()
        receiver = self

        class Handler(Answering):
            def do_POST(self) -> None:
                text = self.body().decode("utf-8", "replace")
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                with receiver._came:
                    heads = {key.lower(): value for key, value in self.headers.items()}
                    receiver.posted.append(
                        Posted(self.path, heads, json.loads(text) if "json" in heads["content-type"] else None, text)
                    )
                    receiver._came.notify_all()
                self.answer(receiver.answers_with, status, headers)

        super().__init__(Handler)

    def wait(self, count: int, where: Callable[[Posted], bool] = lambda _: True) -> list[Posted]:
        """The requests so far, once there are as many."""
        with self._came:
            assert self._came.wait_for(lambda: len(list(filter(where, self.posted))) >= count, 10), self.posted
            return list(filter(where, self.posted))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that says yes."""
    with Receiver() as running:
        yield running


def at(path: str) -> Callable[[Posted], bool]:
    return lambda posted: posted.path == path


def test_each_rung_is_told_to_its_own_once_and_the_ladder_of_a_budget_wins(receiver: Receiver, call: Caller) -> None:
    url = receiver.url
    notify = Notify(
        {
            0.7: Slack(f"{url}/team"),
            1.0: [PagerDuty("key", url=f"{url}/pager"), Slack(f"{url}/finance")],
            1.2: Webhook(f"{url}/hook", secret=SECRET),
        },
        budgets={"user": {0.5: Slack(f"{url}/users")}},
        spike=None,
    )
    guard = CostGuard(
        Budget(per="all", tool_calls=10, lockout=1.3), Budget(per="user", tool_calls=4, lockout=9), notify=notify
    )
    from langchain_core.tools import tool

    @tool
    def step() -> str:
        """Go on."""
        return "on"

    with guard.scope(user="u1"):
        for _ in range(12):
            call(step, {}, {"callbacks": [guard]})
    notify.close(10)
    paths = [posted.path for posted in receiver.posted]
    assert sorted(paths) == ["/finance", "/hook", "/pager", "/team", "/users"]
    told = {posted.path: posted for posted in receiver.posted}
    assert "7 tool calls of 10 tool calls" in told["/team"].body["text"]
    assert told["/pager"].body["payload"]["severity"] == "error"
    assert told["/hook"].body["data"]["severity"] == "critical"
    assert Verifier(SECRET).verify(told["/hook"].text, told["/hook"].headers)["type"] == "costguard.alert.budget"


def test_an_alert_is_over_when_its_window_turns_or_a_grant_lifts_it(receiver: Receiver) -> None:
    clock = ManualClock(1_800_000_000.0)
    notify = Notify({0.5: PagerDuty("key", url=f"{receiver.url}/pager")}, spike=None)
    guard = CostGuard(Budget(per="all", model_calls=2, window="day", name="day"), clock=clock, notify=notify)
    model = ScriptedChatModel()
    model.invoke("hello", {"callbacks": [guard]})
    first = receiver.wait(1)[0].body
    guard.grant("day", model_calls=5)
    second = receiver.wait(2)[1].body
    assert (first["event_action"], second["event_action"]) == ("trigger", "resolve")
    assert first["dedup_key"] == second["dedup_key"]
    model.invoke("hello", {"callbacks": [guard]})
    clock.advance(86_400)
    model.invoke("hello", {"callbacks": [guard]})
    notify.close(10)
    actions = [posted.body["event_action"] for posted in receiver.posted]
    assert actions.count("trigger") == actions.count("resolve") + 1 or actions[-1] == "trigger"


def test_where_no_thread_can_be_had_alerts_are_told_all_the_same(
    receiver: Receiver, no_more_threads: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    no_more_threads("costguard-alerts")  # of those that say when an alert is over, though nothing happens
    clock = ManualClock(1_800_000_000.0)
    notify = Notify({0.5: PagerDuty("key", url=f"{receiver.url}/pager")}, spike=None)
    guard = CostGuard(Budget(per="all", model_calls=2, window="day"), clock=clock, notify=notify)
    ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
    clock.advance(86_400)
    ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
    notify.close(10)
    assert [posted.body["event_action"] for posted in receiver.posted][:2] == ["trigger", "resolve"]
    assert not caplog.records


def test_what_cannot_be_delivered_is_tried_again_with_the_same_id(receiver: Receiver) -> None:
    receiver.answers = [(503, {}), (429, {"retry-after": "0"}), (200, {})]
    notify = Notify({0.5: Webhook(f"{receiver.url}/hook", secret=SECRET)}, spike=None)
    guard = CostGuard(Budget(per="all", model_calls=2), notify=notify)
    ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
    posted = receiver.wait(3)
    notify.close(10)
    assert len({one.headers["webhook-id"] for one in posted}) == 1
    assert len(receiver.posted) == 3


def test_a_wrong_address_is_dropped_counted_and_not_said(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answers = [(404, {})]
    target = Slack(f"{receiver.url}/services/T000/B000/verysecret")
    notify = Notify({0.5: target}, spike=None)
    guard = CostGuard(Budget(per="all", model_calls=2), notify=notify)
    ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
    receiver.wait(1)
    notify.close(10)
    assert [post.rejected for post in notify.posts.values()] == [1]
    assert "HTTP 404" in caplog.text
    assert "verysecret" not in caplog.text + repr(target)


def test_what_a_process_could_not_deliver_waits_in_the_shared_store_for_the_next(
    receiver: Receiver, tmp_path: Path
) -> None:
    dead = "http://127.0.0.1:9"
    path = str(tmp_path / "budgets.db")
    first = Notify({0.5: Webhook(dead, secret=SECRET)}, spike=None)
    guard = CostGuard(Budget(per="all", model_calls=2), store=SQLiteStore(path), notify=first)
    ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
    first.close(0.5)
    second = Notify({0.5: Webhook(receiver.url, secret=SECRET)}, spike=None)
    other = CostGuard(Budget(per="all", model_calls=2), store=SQLiteStore(path), notify=second)
    (posted,) = receiver.wait(1)
    assert "at 50%" in posted.body["data"]["title"]
    second.close()
    third = Notify({0.5: Webhook(receiver.url, secret=SECRET)}, spike=None)
    CostGuard(Budget(per="all", model_calls=2), store=SQLiteStore(path), notify=third)
    third.close()
    assert len(receiver.posted) == 1
    assert other.store.shared


def test_mail_is_sent_with_its_figures() -> None:
    class Box:
        def __init__(self) -> None:
            self.mails: list[Any] = []

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            self.mails.append(envelope)
            return "250 OK"

    box = Box()
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        notify = Notify({0.5: Email("finance@example.com", server=f"smtp://127.0.0.1:{port}")}, spike=None)
        guard = CostGuard(Budget(per="all", model_calls=2), notify=notify)
        ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
        notify.close(10)
    finally:
        controller.stop()
    (mail,) = box.mails
    assert mail.rcpt_tos == ["finance@example.com"]
    assert b"[costguard] Budget all is at 50%" in mail.content.replace(b"\r\n ", b" ")


def test_alertmanager_is_told_who_by_labels_and_how_much_beside_them(receiver: Receiver) -> None:
    notify = Notify({0.5: Alertmanager(receiver.url)}, spike=None)
    guard = CostGuard(Budget(per="all", model_calls=2), notify=notify)
    ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
    (posted,) = receiver.wait(1)
    notify.close(10)
    (alert,) = posted.body
    assert posted.path == "/api/v2/alerts"
    assert alert["labels"]["alertname"] == "costguard_budget"
    assert set(alert["labels"]) == {"alertname", "key", "severity", "budget", "measure"}


def test_three_times_the_average_hour_is_told_at_once_with_a_floor_and_a_warm_up() -> None:
    cases: list[tuple[str, list[tuple[float, int]], bool]] = [
        ("as ever", [(hour, 10) for hour in range(6)], False),
        ("three times as much and a bit", [*((hour, 10) for hour in range(5)), (5.5, 35)], True),
        ("three times as much, to the cent", [*((hour, 10) for hour in range(5)), (5.5, 33)], False),
        ("below the floor", [*((hour, 1) for hour in range(5)), (5.5, 4)], False),
        ("not warm yet", [(0, 1), (0.5, 1), (1.2, 90)], False),
        ("yesterday's peak is part of the average", [(0, 500), (20, 10), (23.9, 60)], False),
        ("what is over a day old is not", [(0, 500), (26, 10), (28, 10), (30, 60)], True),
    ]
    for what, charges, expected in cases:
        rates = Rates(3.0, 5, HOUR)
        found = [rates.spend([("all", "")], charge, hour * HOUR) for hour, charge in charges]
        assert bool(found[-1]) is expected, what
    rates = Rates(3.0, 5, HOUR)
    for hour in range(5):
        rates.spend([("all", "")], 10, hour * HOUR)
    told = [rates.spend([("all", "")], 50, 5 * HOUR + n) for n in range(100)]
    assert sum(map(len, told)) == 1


def test_a_spike_of_all_workers_is_seen_in_their_log_and_told_by_one(receiver: Receiver, tmp_path: Path) -> None:
    clock = ManualClock(1_800_000_000.0)
    store, log = str(tmp_path / "budgets.db"), str(tmp_path / "spend.db")
    workers = []
    for _ in range(2):
        notify = Notify({1.0: Slack(receiver.url)}, floor="0.000001", dimensions=["agent"])
        workers.append(CostGuard(clock=clock, notify=notify, store=SQLiteStore(store, timeout=10), log=log))

    def work(*calls: int) -> None:
        for guard, number in zip(workers, calls, strict=True):
            for _ in range(number):
                ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
            assert guard.log.flush()
        clock.advance(61)
        for guard in workers:  # each looks; one tells
            with guard.scope(agent="watch"):
                ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
            assert guard.log.flush()
            guard.voice.sinks[0]._heard.flush()

    for _ in range(5):
        work(4, 4)
        clock.advance(HOUR)
    assert receiver.posted == []
    work(20, 20)  # neither is a spike of three times what both together spend in an hour
    for guard in workers:
        guard.voice.sinks[0].close()
    (told,) = receiver.posted
    assert "all together spent" in told.body["text"]


def test_what_is_broken_or_unpriced_is_told_once_and_when_it_is_over(receiver: Receiver) -> None:
    notify = Notify({1.0: Webhook(f"{receiver.url}/hook", secret=SECRET)}, unpriced=0.5, per_minute="0.0001")
    guard = CostGuard(notify=notify, prices={"cheap": Price(input="0.1", output="0.1")})
    dear, cheap = ScriptedChatModel(model="nobody-knows-it"), ScriptedChatModel(model="cheap")
    scope = Scope(agent="a")
    for event in (
        CircuitOpened(1.0, scope, "look", "it fails"),
        CircuitClosed(2.0, scope, "look", "it answers"),
        StoreFailed(3.0, scope, "away", "refuse"),
        StoreFailed(4.0, scope, "away", "refuse"),
    ):
        notify(event)
    for n in range(30):  # one call in ten, but most of the money
        (cheap if n % 10 else dear).invoke("hello", {"callbacks": [guard]})
    notify.close(10)
    told = [posted.body["type"].removeprefix("costguard.alert.") for posted in receiver.posted]
    assert told[:4] == ["circuit", "circuit.resolved", "store", "store.resolved"]
    assert sorted(told[4:]) == ["rate", "unpriced"]
    (share,) = (posted.body["data"] for posted in receiver.posted if posted.body["type"].endswith("unpriced"))
    assert share["unpriced"] <= 3
    assert share["share"] > 0.5


def test_a_spike_names_its_scope_without_an_address(receiver: Receiver) -> None:
    clock = ManualClock(1_800_000_000.0)
    notify = Notify({1.0: Slack(receiver.url)}, floor="0.000001")
    guard = CostGuard(clock=clock, notify=notify)
    with guard.scope(user="jo@example.com", agent="research"):
        for n in [1] * 5 + [60]:
            for _ in range(n):
                ScriptedChatModel().invoke("hello", {"callbacks": [guard]})
            clock.advance(HOUR)
    notify.close(10)
    texts = [posted.body["text"] for posted in receiver.posted]
    assert len(texts) == 3
    assert any("agent research spent" in text for text in texts)
    assert any("user [e-mail] spent" in text for text in texts)
    assert not any("jo@example.com" in posted.text for posted in receiver.posted)


def test_no_notice_holds_what_was_said(receiver: Receiver) -> None:
    notify = Notify({0.5: [Slack(receiver.url), Webhook(receiver.url, secret=SECRET), Alertmanager(receiver.url)]})
    guard = CostGuard(Budget(per="user", model_calls=1), notify=notify)
    with guard.scope(user="canary@example.com", feature="sk-canary-0123456789abcdef"):
        ScriptedChatModel().invoke("pelican", {"callbacks": [guard]})
        with pytest.raises(BudgetExceededError):
            ScriptedChatModel().invoke("pelican", {"callbacks": [guard]})
    notify.close(10)
    assert len(receiver.posted) == 3
    for posted in receiver.posted:
        assert not any(word in posted.text for word in ("pelican", "canary@example.com", "sk-canary"))


def test_a_slow_receiver_holds_no_call_up() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        notify = Notify({0.5: Slack(f"http://127.0.0.1:{silent.getsockname()[1]}")}, spike=None)
        guard = CostGuard(Budget(per="all", model_calls=2), notify=notify)
        model = ScriptedChatModel()
        with waits_less_than(2.5):
            model.invoke("hello", {"callbacks": [guard]})
        notify.close(0.1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Notify({7.5e9: Slack("https://x.example/y")}), "ladder: 7500000000"),
        (lambda: Notify({"70%": Slack("https://x.example/y")}), "ladder: '70%'"),  # type: ignore[dict-item]
        (lambda: Notify({0.7: "slack"}), "'slack' is no target"),  # type: ignore[dict-item]
        (lambda: Notify({}, spike=0.5), "spike: 0.5"),
        (lambda: Notify({}, unpriced=3.0), "unpriced: 3.0"),
        (lambda: Notify({}, dimensions=["team"]), "dimensions: \\['team'\\]"),
        (lambda: Slack("hooks.slack.com/secret"), "a Slack needs a URL"),
        (lambda: Webhook("https://x.example", secret="not base64!"), "secret: a Webhook's is base64"),
        (lambda: Email("nobody", server="smtp://x"), "to: 'nobody'"),
        (lambda: Email("https://x/?token=secret&a=1", server="smtp://x"), "to: 'https://x/.token=[*]{3}&a=1'"),
        (lambda: Email(["x:secret@y", 7], server="smtp://x"), "to: .'x:[*]{3}@y', 7"),  # type: ignore[list-item]
        (lambda: Email("a@example.com", server="mail"), "server: an Email needs"),
    ],
)
def test_what_cannot_be_is_named_without_a_secret(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        make()
    assert "secret" not in str(error.value).replace("secret: a", "")
