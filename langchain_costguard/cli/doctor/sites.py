"""Where in the user's own code a call is made, and by which model: read from the frames on the stack."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

_PACKAGE = str(Path(__file__).parents[2]) + os.sep
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_CALLS = {"invoke", "ainvoke", "stream", "astream", "generate", "agenerate", "_generate", "_agenerate"}
_EMBEDS = {"embed_documents", "embed_query", "aembed_documents", "aembed_query"}


def stack(frame: FrameType | None = None) -> Iterator[FrameType]:
    """The frames below this one, or those of the running thread, innermost first."""
    frame = frame or sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def suspended() -> Iterator[tuple[list[FrameType], Any]]:
    """The frames of each asyncio task that waits, innermost first, and what it waits for at the end of them.

    A graph runs its nodes in tasks of their own, and an async client its connections.
    """
    for task in [found for found in gc.get_objects() if isinstance(found, asyncio.Task)]:
        frames: list[FrameType] = []
        last: Any = None
        awaited: Any = task.get_coro() if not task.done() else None
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
            if frame is not None:
                frames.insert(0, frame)
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
            last = awaited or last
        if frames:
            yield frames, last


def here(own: str) -> str:
    """``file:line`` of the innermost frame in the user's code; the one task that waits in it, where none is."""
    frames = list(stack())
    # What lies below the event loop is where it was started, and says nothing about this task.
    loop = next((i for i, frame in enumerate(frames) if frame.f_globals.get("__name__") == "asyncio.events"), None)
    found = _innermost(frames[:loop], own)
    if found is None and "asyncio" in sys.modules:
        found = _waiting(own)
    if found is None and threading.current_thread() is not threading.main_thread():
        waits = sys._current_frames().get(threading.main_thread().ident or 0)
        found = _innermost(list(stack(waits)), own) if waits is not None else None
    return found or _innermost(frames[loop or 0 :], own) or ""


def _waiting(own: str) -> str | None:
    """Where the user's code waits for a library; None where that is more than one place."""
    sites = set()
    for frames, last in suspended():
        gathers = is_own(frames[0].f_code.co_filename, own) and "Future" in type(last).__name__  # or FutureIter
        if not gathers and (site := _innermost(frames, own)):
            sites.add(site)
    return sites.pop() if len(sites) == 1 else None


def site_in(frames: list[FrameType], own: str) -> str:
    """``file:line`` of the innermost frame in the user's code among these."""
    return _innermost(frames, own) or ""


def _innermost(frames: list[FrameType], own: str) -> str | None:
    for frame in frames:
        file = frame.f_code.co_filename
        if is_own(file, own):
            near = os.path.relpath(file)
            return f"{file if near.startswith('..') else near}:{frame.f_lineno}"
    return None


def is_own(file: str, own: str) -> bool:
    """Whether a file is the user's: in the folder of the program, or at least in no library."""
    if file.startswith(("<", _PACKAGE)):
        return False
    if "site-packages" in file or "dist-packages" in file or file.startswith(_STDLIB):
        return bool(own) and file.startswith(own)
    return True


def model_in(frames: Iterator[FrameType] | list[FrameType]) -> tuple[Any, str] | None:
    """The language model that makes a call, and the name of the method that was called on it."""
    from langchain_core.language_models import BaseLanguageModel

    found = None
    for frame in frames:
        if frame.f_code.co_name in _CALLS:
            model = frame.f_locals.get("self")
            if isinstance(model, BaseLanguageModel) and (found is None or found[0] is model):
                found = (model, frame.f_code.co_name)
    return found


def guards_told(frames: Iterator[FrameType] | list[FrameType]) -> list[Any]:
    """The guards among the handlers that are told of an event here."""
    from langchain_costguard.metering.seams.callbacks import Callbacks

    told = next((f.f_locals["handlers"] for f in frames if f.f_code.co_name in ("handle_event", "ahandle_event")), ())
    return [each for each in told if isinstance(each, Callbacks)]


def node_config(frames: Iterator[FrameType] | list[FrameType]) -> Mapping[str, Any] | None:
    """The config of the node that a graph starts here."""
    for frame in frames:
        config = frame.f_locals.get("config")
        if isinstance(config, dict) and "__pregel_read" in (config.get("configurable") or {}):
            return config
    return None


def embeddings_in(frames: Iterator[FrameType] | list[FrameType]) -> list[Any]:
    """The ``Embeddings`` that make a call, innermost first."""
    from langchain_core.embeddings import Embeddings

    selves = [frame.f_locals.get("self") for frame in frames if frame.f_code.co_name in _EMBEDS]
    return [found for found in selves if isinstance(found, Embeddings)]
