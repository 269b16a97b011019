"""Python imports this module at its start, in every process that ``costguard`` runs: its folder is on ``PYTHONPATH``.

So coverage and OpenTelemetry get into child processes, too. It goes on to the ``sitecustomize`` that it hides.
https://docs.python.org/3/library/site.html#module-sitecustomize
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _go_on() -> None:
    sys.path[:] = [entry for entry in sys.path if not entry or os.path.abspath(entry) != _HERE]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401 - the user's own
    except ImportError as error:
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)  # the import system looks for it when this one is done
        if error.name != "sitecustomize":
            raise


def _begin() -> None:
    folder = os.environ.get("COSTGUARD_RUN")
    if not folder or not os.path.isdir(folder):
        return
    try:
        from langchain_costguard.cli.inside.beginning import begin
    except ImportError:  # another environment's Python: nothing is here to guard with
        with open(os.path.join(folder, f"unguarded-{os.getpid()}"), "w", encoding="utf-8") as note:
            note.write(f"{sys.executable} has no langchain_costguard")
        return
    begin(folder)


try:
    _begin()
finally:
    _go_on()
