"""Policies to compare on recorded conversations: ours, and what LangChain's do at each call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, trim_messages

from langchain_costguard.context.balance import Prompted, balance
from langchain_costguard.context.context import Context
from langchain_costguard.context.digest import digest
from langchain_costguard.context.horizon import Horizon
from langchain_costguard.context.messages import calls_in
from langchain_costguard.context.pieces import pieces_of
from langchain_costguard.context.record import Record
from langchain_costguard.context.replay import Conversation, Playing, Policy, View
from langchain_costguard.context.shaping import SUMMARY_TOKENS, Plan, Shaper, Situation
from langchain_costguard.context.shares import allocate
from langchain_costguard.context.timing import Prices
from langchain_costguard.metering.pricing.shapes import count_by_shape

Size = Callable[[BaseMessage], int]
_KEPT_RESULTS = 3
_KEPT_MESSAGES = 20
_LEAST = 1_024


class Ours:
    """``Context`` as steering applies it, with the refetches that are expected of a compaction left at one.

    ``stated`` is what the balance of each call says was saved, in pico-USD: to be held against the replay.
    """

    def __init__(self, chosen: Context, size: Size, prices: Prices, *, compact: bool = True) -> None:
        self.shaper = Shaper(chosen)
        self.size = size
        self.prices = prices
        self.compact = compact
        self.stated = 0.0
        self.plans: list[Plan] = []
        self.horizon = Horizon()

    def __call__(self, conversation: Conversation) -> Playing:
        """Play it on one conversation."""
        shaper, cap = self.shaper, self.shaper.cap(None)
        born = shaper.born(conversation, cap).messages
        whole, cut = list(map(self.size, conversation)), list(map(self.size, born))
        state: dict[str, Any] = {"record": Record(cap=cap), "look": 0.0, "due": -1, "dues": 0}

        def view(at: int) -> View:
            record: Record = state["record"]
            unbroken = self._old(shaper.view(record, born[:at]))
            sent = shaper.view(record, born[:at])
            total, head = sum(map(self.size, sent)), unbroken
            if self.compact and calls_in(born[:at]) - record.calls >= state["look"]:
                now = Situation(prices=self.prices, expects=self.horizon.expected)
                plan, state["look"] = shaper.plan(born[:at], cut[:at], total, record, now)
                if plan is not None and state["due"] != record.version:
                    self.horizon.due()
                    state.update(due=record.version, dues=state["dues"] + 1)
                if plan is not None and plan.pays:
                    text = shaper.digest(born[:at], plan.cut)
                    record = shaper.compacted(born[:at], conversation[:at], plan, text, record)
                    state.update(record=record, look=0.0)
                    self.plans.append(plan)
                    sent = shaper.view(record, born[:at])
                    total = sum(map(self.size, sent))
                    head = sum(cut[i] for i in record.kept if i < record.at)
            self.horizon.called(state["dues"])
            raw = Prompted(sum(whole[:at]), self._old(conversation[:at]))
            self.stated += balance(raw, Prompted(total, head), unbroken, self.prices, _LEAST).saved * 1_000
            return View(sent, record.version)

        return view

    def _old(self, messages: Sequence[BaseMessage]) -> int:
        last = max((at for at, message in enumerate(messages) if isinstance(message, AIMessage)), default=0)
        return sum(map(self.size, messages[:last]))


def trimmed(most: int, size: Size) -> Policy:
    """``trim_messages`` as its documentation has it: the last messages, from one of the user's on."""

    def policy(conversation: Conversation) -> Playing:
        def view(at: int) -> View:
            kept = trim_messages(
                list(conversation[:at]),
                max_tokens=most,
                token_counter=lambda messages: sum(map(size, messages)),
                strategy="last",
                start_on="human",
                include_system=True,
            )
            return View(kept, at - len(kept))

        return view

    return policy


def clearing(trigger: int, size: Size) -> Policy:
    """``ClearToolUsesEdit``: beyond the trigger, all results but the last three are emptied, at each call anew.

    https://github.com/langchain-ai/langchain/blob/master/libs/langchain_v1/langchain/agents/middleware/context_editing.py
    """

    def policy(conversation: Conversation) -> Playing:
        def view(at: int) -> View:
            messages = conversation[:at]
            if sum(map(size, messages)) <= trigger:
                return View(messages, 0)
            results = [i for i, m in enumerate(messages) if isinstance(m, ToolMessage)][:-_KEPT_RESULTS]
            gone = set(results)
            return View([_emptied(m) if i in gone else m for i, m in enumerate(messages)], len(gone))

        return view

    return policy


def _emptied(message: BaseMessage) -> BaseMessage:
    return message.model_copy(update={"content": "[cleared]"})


def summarising(trigger: int, size: Size, prices: Prices) -> Policy:
    """``SummarizationMiddleware``: beyond the trigger, all but the last twenty messages become a summary in the user's
    name, the task with them. The summary here is our digest; its call is paid as the model's own."""

    def policy(conversation: Conversation) -> Playing:
        state: dict[str, Any] = {"upto": 0, "text": "", "version": 0}

        def seen(at: int) -> list[BaseMessage]:
            head: list[BaseMessage] = [HumanMessage(state["text"])] if state["version"] else []
            return head + list(conversation[state["upto"] : at])

        def view(at: int) -> View:
            paid, messages = 0.0, seen(at)
            if sum(map(size, messages)) > trigger:
                upto = max(state["upto"], at - _KEPT_MESSAGES)
                while upto > state["upto"] and isinstance(conversation[upto], ToolMessage):
                    upto -= 1
                if upto > state["upto"]:
                    old = messages[: len(messages) - (at - upto)]
                    text = digest(old, SUMMARY_TOKENS, count_by_shape)
                    paid = prices.write * min(4_000, sum(map(size, old))) + prices.output * SUMMARY_TOKENS
                    state.update(upto=upto, text=text, version=state["version"] + 1)
            return View(seen(at), state["version"], paid)

        return view

    return policy


def sharing(window: int, size: Size) -> Policy:
    """The shares of 30, 25 and the rest, filled anew at each call."""

    def policy(conversation: Conversation) -> Playing:
        def view(at: int) -> View:
            messages = conversation[:at]
            sizes = list(map(size, messages))
            if sum(sizes) <= window:
                return View(messages, 0)
            pieces = pieces_of(messages)
            tokens = [sum(sizes[piece.first : piece.end]) for piece in pieces]
            fixed = sum(t for t, piece in zip(tokens, pieces, strict=True) if piece.rank == 3)
            kept = allocate(pieces, tokens, max(0, window - fixed))
            shown = [m for i in sorted(kept) for m in messages[pieces[i].first : pieces[i].end]]
            return View(shown, len(messages) - len(shown))

        return view

    return policy
