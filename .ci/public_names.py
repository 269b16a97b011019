"""Imports every public name of the package that is installed: those in the ``__all__`` of each of its modules."""

import importlib
import pkgutil

import langchain_costguard

names = 0
for module in pkgutil.walk_packages(langchain_costguard.__path__, "langchain_costguard."):
    if "__main__" in module.name or any(part.startswith("_") for part in module.name.split(".")):
        continue
    try:
        room = importlib.import_module(module.name)
    except ImportError as error:
        print("not without an extra:", module.name, error)
        continue
    for name in getattr(room, "__all__", ()):
        getattr(room, name)
        names += 1
print(names, "public names")
