"""Advice: one sentence or two for each thing the trials found, with the place in the program it is about."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_costguard.cli.doctor.records import CALL, MISSED, NODE, REFUSED, SEEN, STRICT, WIRE, Record
from langchain_costguard.cli.doctor.records import CHILD as CHILD_STARTED

_WATCH = "attach with `with guard.watch():`, which no call can leave"
_LOST = {
    "callbacks": "sets `callbacks` anew, and so loses the guard given from outside. Leave `callbacks` out of its "
    f"config, or {_WATCH}.",
    "thread": "runs in a thread that was started without its context, and so loses the guard given from outside. "
    f"Start it with contextvars.copy_context().run, or {_WATCH}.",
    "": f"has no guard attached. Pass config={{'callbacks': [guard]}} to the outermost call, or {_WATCH}.",
}
_CHILD = (
    "runs in a child process, where your guard is not. Run the program with `costguard run`, which guards its Python "
    "children, or make a guard there, with a store that both share."
)
_WIRES = {
    "sdk": "calls {name} without LangChain, which no callback sees. Make the call through a LangChain model.",
    "embeddings": "embeddings have no callbacks in LangChain. Wrap them: guard.wrap({name}(...)).",
    "model": "{name} is called past its callbacks. Call it with invoke or stream, or use guard.wrap(model).",
}


def cures(records: Sequence[Record], *, own: bool) -> tuple[list[str], int]:
    """What to do about everything that got through, and how many models stream without telling their usage."""
    said: dict[str, None] = {}
    for record in records:
        if record.what == CALL and record.state == MISSED and own:
            lost = _CHILD if record.child else _LOST[record.facts.get("lost", "")]
            said[f"{_place(record)} {lost}"] = None
        elif record.what == WIRE and record.kind in _WIRES and (record.kind != "model" or record.stage == "model"):
            place = record.site or "A place that could not be found"
            said[f"{place}: {_WIRES[record.kind].format(name=record.name)}"] = None
        elif record.what == CHILD_STARTED:
            said[
                f"{record.site or 'A place that could not be found'} starts Python ({record.name}) with options or an "
                "environment of its own, which leaves every guard behind: pass os.environ on, and no -I, -E or -S."
            ] = None
    mute = {(r.site, r.name): r for r in _models(records) if r.facts.get("streams") and not r.facts["tells_usage"]}
    for record in mute.values():
        said[
            f"{_place(record)} streams with `stream_usage` off: its provider does not say what a stream used, so the "
            "guard has to estimate it. Set stream_usage=True."
        ] = None
    return list(said), len(mute)


def notes(records: Sequence[Record], *, own: bool) -> list[str]:
    """What gets past nothing, but a person should know."""
    said: dict[str, None] = {}
    for record in records:
        lost = record.facts.get("lost") if record.what == CALL and record.state == MISSED else ""
        if lost and not own:
            how = "sets `callbacks` anew" if lost == "callbacks" else "runs in a bare thread"
            said[
                f"{_place(record)} {how}: `costguard run` and `guard.watch()` see it, a guard in config={{'callbacks': "
                "[guard]} would not."
            ] = None
    for record in _models(records):
        if not record.facts["tells_usage"] and not record.facts.get("streams"):
            said[f"{record.name} has `stream_usage` off: should it ever stream, its cost can only be estimated."] = None
    if own and (left := _alone(records)):
        said[
            f"No guard hears of all that a graph's nodes do ({', '.join(left)}): it is attached to models or tools in "
            "them, and meters those alone. graph.with_config(callbacks=[guard]), or install(graph, guard), covers "
            "what else they call, and counts each of them as a step."
        ] = None
    retries = {record.name: int(record.facts.get("retries", 0)) for record in _models(records)}
    for times in sorted(set(retries.values()) - {0}):
        names = ", ".join(sorted(name for name, most in retries.items() if most == times))
        said[
            f"{names}: the client retries by itself, so each call the guard admits may be sent up to {times + 1} "
            "times. With max_retries=0 and LangChain's own with_retry, the guard sees every attempt."
        ] = None
    return list(said)


def _alone(records: Sequence[Record]) -> list[str]:
    """The nodes of graphs that no guard hears of, where one is attached to what is called in some of them."""
    nodes = {state: {r.name: None for r in records if r.what == NODE and r.state == state} for state in (SEEN, MISSED)}
    left = [name for name in nodes[MISSED] if name not in nodes[SEEN]]
    guarded = " ".join(f"{r.where}," for r in records if r.what == CALL and r.state in (REFUSED, SEEN, STRICT))
    return left if any(f"node {name}," in guarded for name in nodes[MISSED]) else []


def _models(records: Sequence[Record]) -> list[Record]:
    """Model calls as the program makes them: in the first trial, before clients were given another address."""
    return [r for r in records if r.what == CALL and r.stage == "model" and not r.child and "tells_usage" in r.facts]


def _place(record: Record) -> str:
    details = ", ".join(part for part in (record.name, record.where) if part)
    return f"{record.site} ({details})" if record.site else f"The call of {details}"
