"""The start of a Python process of a run: nothing is loaded yet, and the guard is made when LangChain is used."""

from __future__ import annotations

import atexit
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_HOOKS = "langchain_core.tracers.context"
"""The module where LangChain keeps its configure hooks: whatever calls a model, tool or graph loads it first."""


def begin(folder: str) -> None:
    """Guard this process, as soon as it uses LangChain."""
    from langchain_costguard.cli.inside.plan import Plan

    plan = Plan.read(folder)
    if plan.trial is not None:
        from langchain_costguard.cli.doctor.trial import begin as begin_trial

        begin_trial(plan)
        return
    from langchain_costguard.cli.inside.process import Process

    process = Process(plan)
    atexit.register(process.end)  # the first to be registered is the last to be called
    process.watch_children()
    process.show()
    if _HOOKS in sys.modules:
        process.attach(sys.modules[_HOOKS])
    else:
        sys.meta_path.insert(0, After(_HOOKS, process.attach))


class After(MetaPathFinder):
    """Calls ``then`` with a module when that has been loaded, once.

    https://docs.python.org/3/library/importlib.html#importlib.abc.MetaPathFinder
    """

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        """The module's own spec, but for what loads it."""
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._then)
        return spec


class _Loader(Loader):
    """Loads as the module's own loader does, and leaves no trace in the module."""

    def __init__(self, inner: Any, then: Callable[[ModuleType], None]) -> None:
        self._inner = inner
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._inner.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._inner
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        self._inner.exec_module(module)
        self._then(module)
