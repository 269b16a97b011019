"""Imports every public name of the package that is installed: those in the ``__all__`` of each of its modules.

Modules that need an extra which is not installed are named; any other that cannot be imported is an error.
"""

import importlib
import pkgutil
import sys

import langchain_costguard

EXTRAS = {"IPython", "langchain", "nbclient", "nbformat", "opentelemetry", "psycopg", "starlette", "uvicorn"}
"""What these packages are imported as."""


def main() -> None:
    """Import them, and say how many there are."""
    names = 0
    for found in pkgutil.walk_packages(langchain_costguard.__path__, "langchain_costguard."):
        if found.name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] not in EXTRAS:
                raise
            print(f"needs an extra: {found.name} ({error.name})")
            continue
        for name in getattr(module, "__all__", ()):
            if getattr(module, name, None) is None:
                sys.exit(f"{found.name}.{name} is not there")
            names += 1
    for name in langchain_costguard.__all__:
        getattr(langchain_costguard, name)
    print(f"{names + len(langchain_costguard.__all__)} public names")


if __name__ == "__main__":
    main()
