"""Which room may import which, read from the imports themselves; and what an import of the package brings along."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import langchain_costguard

ROOT = Path(langchain_costguard.__file__).parent
NAME = ROOT.name

LAYERS: list[tuple[str, ...]] = [
    ("vocabulary",),
    ("errors", "usage", "events"),
    ("observe",),
    ("metering",),
    ("stores", "pricing"),
    ("guard",),
    ("routing", "caching"),
    ("context",),
    ("steering",),
    ("testing",),
    ("cli",),
]
"""From the vocabulary upwards. A room (a file or folder of the package) imports from those in layers below its own,
types and lazy imports included."""

RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}

ALIASES = ["errors", "usage", "stores", "pricing"]
"""Rooms that are no more than another name of one below: see ``test_public_api``."""

MOST_ROOMS = 13
"""Entries at the package's root, the two to come included."""

NEVER = {
    "metering": ["steering", "routing", "caching", "context"],
    "steering/policies": ["steering/flow", "steering/layers", "steering/seams", "guard"],
    "steering/layers": ["steering/seams"],
}
"""The plane that refuses knows nothing of the one that changes requests, a policy nothing of flows, a layer no host."""

BALANCES = ["steering/layers/circuit_book.py", "steering/seams/nodes.py"]
"""The only files of steering that write to a store but through the guard: they keep counts of their own, no money."""

ONLY_IN = {
    "redis": [
        "metering/stores/dial.py",
        "metering/stores/redis.py",
        "metering/stores/wire.py",
        "caching/exact/redis.py",
        "caching/exact/server.py",
        "caching/index/redis*.py",
        "observe/log/redis.py",
    ],
    "sqlite3": [
        "metering/stores/database.py",
        "metering/stores/sqlite.py",
        "caching/exact/sqlite.py",
        "caching/index/sqlite.py",
        "cli/cache.py",
        "observe/log/sqlite.py",
    ],
    "psycopg": [
        "vocabulary/driver.py",
    ],
    "tiktoken": ["metering/pricing/encodings.py"],
    "genai_prices": ["metering/pricing/*"],
    "pandas": ["observe/tables.py"],
    "langgraph": ["vocabulary/errors.py", "steering/*", "steering/*/*", "cli/*"],
    "langchain": ["steering/seams/middleware.py", "steering/layers/fleet.py", "cli/*", "cli/demo/*"],
    "langchain_openai": ["testing/clients.py", "cli/*"],
    "langchain_anthropic": ["testing/clients.py"],
    "numpy": [
        "routing/training.py",
        "routing/semantic.py",
        "routing/likeness.py",
        "caching/semantic/fitting.py",
        "caching/index/signs.py",
        "caching/index/rows.py",
        "testing/minilm.py",
    ],
    "langsmith": ["steering/seams/middleware.py"],
    "requests": [],
    "opentelemetry": ["observe/telemetry/*"],
    "standardwebhooks": ["observe/notify/targets.py"],
    "httpx": ["observe/exports/sending.py", "observe/notify/targets.py", "cli/*"],
    "click": ["cli/*", "cli/*/*"],
    "rich_click": ["cli/*", "cli/*/*"],
    "rich": ["cli/*", "cli/*/*"],
    "IPython": ["cli/jupyter/*"],
    "nbclient": ["cli/*/*"],
    "nbformat": ["cli/*/*"],
    "h11": ["testing/http.py"],
}
"""The only places that know of these packages."""

FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

PURE = [
    "metering/budgets/budget.py",
    "metering/budgets/accounts.py",
    "metering/budgets/ledger.py",
    "metering/budgets/alerts.py",
    "metering/stores/account.py",
]
PURE += [file for file in FILES if file.startswith("steering/policies/")]
PURE += [f"caching/{name}.py" for name in ("base", "entry", "keepable", "question", "replies", "rules")]
PURE += [
    f"caching/semantic/{name}.py" for name in ("conflicts", "likeness", "quantities", "reading", "verdict", "words")
]
PURE += [
    f"caching/prompt/{name}.py"
    for name in ("breakpoints", "breaks", "differences", "gaps", "kinds", "marks", "prompt", "rates")
]
PURE += [file for file in FILES if file.startswith("context/")]
"""Policies: they take the time as an argument, and touch nothing outside."""


@cache
def imports(file: str, *, typing_too: bool = False, members: bool = False) -> list[str]:
    """The full names of the modules that a file imports, and with ``members`` of what it imports from them."""
    return list(_imports(file, typing_too, members))


def _imports(file: str, typing_too: bool, members: bool) -> Iterator[str]:
    """The full names of the modules that a file imports, wherever in it; without those for type checkers alone."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typing_too:
            skipped |= {id(inner) for statement in node.body for inner in ast.walk(statement)}
    package = [NAME, *Path(file).parts[:-1]]
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import room` names the room last.
            named = [f"{module}.{alias.name}" for alias in node.names]
            yield from named if module == NAME else [*named, module] if members else [module]


def room_of(module: str) -> str:
    """The room of a module of ours."""
    return module.split(".")[1]


def test_every_room_has_its_layer() -> None:
    rooms = {Path(file).parts[0].removesuffix(".py") for file in FILES} - {"__init__"}
    assert rooms == set(RANK), "a new room needs a line in LAYERS"
    assert len(rooms - set(ALIASES)) <= MOST_ROOMS - 1  # and the package's own file


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_imports_point_downwards(file: str) -> None:
    own = Path(file).parts[0].removesuffix(".py")
    upward = []
    for module in imports(file, typing_too=True):
        if module.split(".")[0] != NAME or module == NAME:
            continue
        room = room_of(module)
        # The public names are the users' way in, and the command line's.
        if room not in RANK:
            assert own in ("cli", "testing"), f"{file} imports {module} from the package's front"
        elif room != own and RANK[room] >= RANK[own]:
            upward.append(module)
    assert upward == []


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Types and lazy imports included: what a reader follows, and what a type checker has to."""
    names = {file: f"{NAME}." + file.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for file in FILES}
    files = {name: file for file, name in names.items()}
    inside = {file for file in FILES if not file.endswith("__init__.py")}
    graph = {
        file: {files[name] for name in imports(file, typing_too=True, members=True) if files.get(name) in inside}
        for file in inside
    }
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("room", NEVER)
def test_a_room_never_imports_what_it_must_not_know(room: str) -> None:
    forbidden = tuple(f"{NAME}.{other}".replace("/", ".") for other in NEVER[room])
    knowing = {
        (file, module)
        for file in FILES
        if file.startswith(f"{room}/")
        for module in imports(file, typing_too=True)
        if module.startswith(forbidden)
    }
    assert knowing == set()


def test_steering_moves_no_balance_but_through_the_guard() -> None:
    claim = f"{NAME}.metering.stores.base.Claim"
    writing = [file for file in FILES if file.startswith("steering/") and claim in imports(file, members=True)]
    assert writing == BALANCES


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_known_in_its_own_places_only(package: str) -> None:
    using = {file for file in FILES if any(module.split(".")[0] == package for module in imports(file))}
    assert {file for file in using if not any(Path(file).match(place) for place in ONLY_IN[package])} == set()


@pytest.mark.parametrize("file", PURE)
def test_policies_have_no_clock_and_touch_nothing(file: str) -> None:
    forbidden = {"time", "random", "os", "io", "socket", "threading", "asyncio", "pathlib", "urllib.request", "logging"}
    assert forbidden.isdisjoint(imports(file))


def test_files_are_short_enough_to_read() -> None:
    assert {file: lines for file in FILES if (lines := len((ROOT / file).read_text("utf-8").splitlines())) > 400} == {}


# What comes along

HEAVY = [
    "redis",
    "numpy",
    "tiktoken",
    "genai_prices",
    "pandas",
    "langchain",
    "langgraph",
    "langchain_openai",
    "requests",
    "click",
    "rich_click",
    "rich",
    "h11",
]
BRINGS = {
    "import langchain_costguard": [*HEAVY, "langchain_core", "pydantic", "sqlite3"],
    "from langchain_costguard import Budget, Report, Scope, Usage, ModelRef, MemoryStore": [*HEAVY, "langchain_core"],
    "from langchain_costguard import KillSwitch, SQLiteStore": [*HEAVY, "langchain_core"],
    "import langchain_costguard.caching": [*HEAVY, "langchain_core", "sqlite3"],
    "from langchain_costguard.caching import MemoryCache, SemanticCache, PromptCache": [
        *(name for name in HEAVY if name != "requests"),
        "sqlite3",
    ],
    "from langchain_costguard import CostGuard": [
        *(name for name in HEAVY if name != "requests"),  # langchain-core's own
        *("langsmith", "langchain_core.tracers", "asyncio"),
    ],
    "from langchain_costguard import Budget, CostGuard; CostGuard(Budget(usd='1'))": ["redis", "langchain.agents"],
}


@pytest.mark.parametrize("statement", BRINGS)
def test_an_import_brings_along_no_more_than_it_needs(statement: str) -> None:
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert set(BRINGS[statement]) & set(done.stdout.split()) == set()
