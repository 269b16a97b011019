"""Before each call to a model: its thread is made to fit. After it: what came of that is noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_costguard.context.balance import Prompted, balance
from langchain_costguard.context.record import Record
from langchain_costguard.context.summary import Making
from langchain_costguard.context.timing import outlay
from langchain_costguard.events.steered import ContextCompacted, ContextTrimmed, ContextWarning
from langchain_costguard.metering.pricing.minimums import least_tokens
from langchain_costguard.routing.abilities import profile_of
from langchain_costguard.steering.flow import Asking, Flow
from langchain_costguard.steering.layers.serverside import clears, serves, with_clearing
from langchain_costguard.steering.layers.summarizing import making
from langchain_costguard.steering.layers.windows import STATE, Shaped, Windows, has_state, with_warned
from langchain_costguard.steering.policies.kinds import ErrorKind
from langchain_costguard.steering.requests import Reply, last_ai, used_in

if TYPE_CHECKING:
    from langchain_costguard.context.shaping import Plan
    from langchain_costguard.steering.surroundings import Here

_SHRUNK = 0.7
"""The share of a prompt that did not fit which is aimed at, where the window is not known: estimates err."""


def shaping(
    windows: Windows,
    classify: Callable[[BaseException], ErrorKind],
    chosen_later: bool,
    here: Here,
    ask: Asking,
    request: Any,
) -> Flow[Reply]:
    """Send the thread as its edit has it. Where the provider says that it is too long all the same, it is compacted to
    fit, and sent once more. What is only to save money fails no call."""
    try:
        shaped = yield from _shaped(windows, here, request, chosen_later)
    except Exception as error:
        here.guard.say_once("The context left a request as it is", error)
        shaped = Shaped(request)
    try:
        reply: Reply = yield from ask(shaped.request)
    except Exception as error:
        if here.out or classify(error) is not ErrorKind.CONTEXT:
            raise
        smaller = _shrunk(windows, here, request, shaped)
        if smaller is None:
            raise
        shaped = smaller
        reply = yield from ask(shaped.request)
    if getattr(request, "replaces", False) and reply.raw is not None:
        reply.raw = request.whole_again(reply.raw, shaped.request.messages)
    try:
        if not reply.ended:
            yield from _answered(windows, here, shaped, reply)
    except Exception as error:  # the reply is paid
        here.guard.say_once("What came of a shortened prompt was not noted", error)
    return reply


def shown(windows: Windows, here: Here, request: Any) -> Flow[list[BaseMessage]]:
    """What the model is to see, where somebody else calls it: what came of the call before is read in its answer."""
    try:
        _, thread = windows.thread(here, request.messages)
        last = last_ai(request.messages)
        if last is not None and thread.told is not None:
            windows.learn(thread.told, used_in(last), last)
        shaped = yield from _shaped(windows, here, request, chosen_later=False)
        thread.told = shaped
        _tell(windows, here, shaped)
        if shaped.record != shaped.old:
            yield from windows.save(here, shaped)
        if shaped.deferred is not None:
            shaped.thread.making = making(windows, here, shaped)
        return list(shaped.request.messages)
    except Exception as error:
        here.guard.say_once("The context left a request as it is", error)
        return list(request.messages)


def _shaped(windows: Windows, here: Here, request: Any, chosen_later: bool) -> Flow[Shaped]:
    messages: list[BaseMessage] = request.messages
    key, thread = windows.thread(here, messages)
    record = yield from windows.record(here, request, key, thread)
    model = getattr(request, "model", None)
    window = windows.window(model)
    old, shaper = record, windows.shaper
    cap = record.cap or shaper.cap(window)
    if cap != windows.chosen.cap:  # by the window of the model it began with: another one changes no bytes
        record = replace(record, cap=cap)
    cut = yield from windows.born(here, request, cap)
    born, ref = cut.messages, windows.ref(request, thread, chosen_later=chosen_later)
    again = cut.again or clears(windows.chosen, request)
    shaped = Shaped(request, record, old, thread, key, ref, born=born, again=again)
    if ref is None:
        return _sending(windows, shaped)
    shaped.now = now = windows.situation(request, ref, thread, window)
    sizes = windows.sizes(ref, born)
    view = sum(windows.sizes(ref, shaper.view(record, born, again=again)))
    _warn(windows, here, shaped, int((view + now.overhead) * now.scale))
    record = shaped.record
    if serves(windows.chosen, model):
        shaped.request = with_clearing(request, shaped, sizes)
        return _sending(windows, shaped)
    calls = sum(isinstance(message, AIMessage) for message in messages) - record.calls
    if thread.look[:2] == (record.version, now.prices) and calls < thread.look[2] and not _over(view, now):
        return _sending(windows, shaped)
    plan, look = shaper.plan(born, sizes, view, record, now)
    thread.look = record.version, now.prices, look
    if plan is not None:
        windows.due(thread, record.version)
        if plan.pays:
            _compact(windows, here, shaped, plan)
    return _sending(windows, shaped)


def _over(view: int, now: Any) -> bool:
    return now.window is not None and (view + now.overhead) * now.scale > now.window


def _compact(windows: Windows, here: Here, shaped: Shaped, plan: Plan) -> None:
    """Compact now, or leave the summary to be made by a model first, for the next call to take it up."""
    made: Making | None = shaped.thread.making
    if windows.chosen.summary is None or plan.forced or (made is not None and made.failed):
        text = windows.shaper.digest(shaped.born, plan.cut)
    elif made is None or not made.fits(shaped.record, list(map(windows.shaper.key, shaped.born))):
        shaped.deferred = plan
        return
    elif not made.done:
        return
    else:
        text = made.text
        plan = replace(plan, cut=made.cut)
        shaped.by_model = True
    shaped.thread.making = None
    model = getattr(shaped.request, "model", None)
    system = model is not None and profile_of(model).get("mid_conversation_system_messages")
    before = replace(shaped.record, role="system" if system else "user")
    shaped.record = windows.shaper.compacted(shaped.born, shaped.request.messages, plan, text, before)
    shaped.plan = plan


def _sending(windows: Windows, shaped: Shaped) -> Shaped:
    """The request with the messages as the edit has them; the one given where they are the same."""
    view = windows.shaper.view(shaped.record, shaped.born, again=shaped.again)
    messages = shaped.request.messages
    if len(view) != len(messages) or any(a is not b for a, b in zip(view, messages, strict=True)):
        shaped.request = shaped.request.override(messages=view)
    if shaped.ref is None or shaped.now is None:
        return shaped
    overhead, factor = shaped.now.overhead, shaped.now.scale
    whole, sent = windows.sizes(shaped.ref, messages), windows.sizes(shaped.ref, view)
    shaped.unscaled = sum(sent) + overhead
    shaped.raw = _prompted(whole, messages, overhead, factor)
    shaped.sent = _prompted(sent, view, overhead, factor)
    return shaped


def _prompted(sizes: Sequence[int], messages: Sequence[BaseMessage], overhead: int, factor: float) -> tuple[int, int]:
    """All tokens, and those of the call before, which had what is in front of the model's last reply."""
    last = max((at for at, message in enumerate(messages) if isinstance(message, AIMessage)), default=None)
    old = 0 if last is None else sum(sizes[:last]) + overhead
    return int((sum(sizes) + overhead) * factor), int(old * factor)


def _shrunk(windows: Windows, here: Here, request: Any, shaped: Shaped) -> Shaped | None:
    """The request compacted to what the provider takes; None where nothing more can go."""
    if shaped.ref is None or shaped.now is None:
        return None
    shaper, now = windows.shaper, shaped.now
    window = min(now.window or shaped.sent[0], int(shaped.sent[0] * _SHRUNK))
    sizes = windows.sizes(shaped.ref, shaped.born)
    view = sum(windows.sizes(shaped.ref, shaper.view(shaped.record, shaped.born, again=shaped.again)))
    plan, _ = shaper.plan(shaped.born, sizes, view, shaped.record, replace(now, window=window))
    if plan is None:
        return None
    smaller = replace(shaped, request=request)
    _compact(windows, here, smaller, replace(plan, forced=True))
    sent = _sending(windows, smaller)
    return sent if sent.sent[0] < shaped.sent[0] else None


def _warn(windows: Windows, here: Here, shaped: Shaped, tokens: int) -> None:
    """Warn of the levels that the prompt is beyond, once each in a thread."""
    assert shaped.now is not None
    assert shaped.ref is not None
    window = shaped.now.window
    new = [
        level
        for level in windows.chosen.warn_at
        if (level < 1 and window is not None and tokens > level * window) or 1 <= level < tokens
    ]
    new = [level for level in new if str(level) not in shaped.record.warned]
    for level in new:
        what = f"{level:.0%} of its window of {window:,}" if level < 1 else f"{level:,}"
        why = f"the prompt has {tokens:,} tokens, more than {what}: what models make of it falls with its length"
        here.tell(ContextWarning, why, name=shaped.ref.name, tokens=tokens, level=level, window=window)
    if new:
        shaped.record = with_warned(shaped.record, new)


def _answered(windows: Windows, here: Here, shaped: Shaped, reply: Reply) -> Flow[None]:
    message = reply.message
    if message is not None:
        windows.learn(shaped, used_in(message), message)
    _tell(windows, here, shaped)
    if shaped.record != shaped.old:
        if has_state(shaped.request):
            reply.state[STATE] = shaped.record.to_dict()
        else:
            yield from windows.save(here, shaped)
    if shaped.deferred is not None:
        shaped.thread.making = making(windows, here, shaped)


def _tell(windows: Windows, here: Here, shaped: Shaped) -> None:
    ref, now, plan = shaped.ref, shaped.now, shaped.plan
    if ref is None or now is None:
        return
    cut = shaped.raw[0] - shaped.sent[0]
    broke = plan is not None
    unbroken = shaped.sent[1]
    sent = Prompted(shaped.sent[0], _head(windows, shaped) if broke else unbroken)
    money = balance(Prompted(*shaped.raw), sent, unbroken, now.prices, least_tokens(ref.name))
    if cut > 0 or broke:
        why = f"{cut:,} of {shaped.raw[0]:,} tokens were not sent"
        here.tell(
            ContextTrimmed,
            why,
            name=ref.name,
            saved=money.saved,
            kept=sent.total,
            cut=cut,
            paid=money.paid,
            broke=broke,
        )
    if plan is None:
        return
    windows.compactions += 1
    edit, prices = plan.edit, now.prices
    why = (
        "the window binds"
        if plan.forced
        else f"{plan.calls} calls after the last time, {edit.gone:,} tokens fewer a call pay for themselves"
        f" in {plan.break_even:.0f} calls"
    )
    here.tell(
        ContextCompacted,
        why,
        name=ref.name,
        before=edit.before,
        after=shaped.sent[0],
        rewritten=edit.rewritten,
        cost=outlay(edit, prices),
        expected_calls=plan.expected,
        expected_saving=plan.saving,
        break_even=plan.break_even,
        summary="model" if shaped.by_model else "digest",
        forced=plan.forced,
    )


def _head(windows: Windows, shaped: Shaped) -> int:
    """Tokens in front of the first change."""
    assert shaped.ref is not None
    assert shaped.now is not None
    record: Record = shaped.record
    head = [shaped.born[at] for at in record.kept if at < record.at]
    return int((sum(windows.sizes(shaped.ref, head)) + shaped.now.overhead) * shaped.now.scale)
