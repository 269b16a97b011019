"""A real PostgreSQL for tests, in a directory of its own; those that need it are left out where it is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_HOMES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _program(name: str) -> str | None:
    found = shutil.which(name)
    return found or next((str(home / name) for home in reversed(_HOMES) if (home / name).exists()), None)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a server on a socket only this run knows. It will not run as root: then as the user ``postgres``."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    pytest.importorskip("psycopg", reason="pip install 'langchain-costguard[postgres]'")
    if initdb is None or pg_ctl is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="costguard-pg-"))
    user = "postgres" if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        quiet = subprocess.DEVNULL
        subprocess.run(command, stdout=quiet, stderr=quiet, check=True, cwd=folder, user=user)

    try:
        run(initdb, "-D", "data", "-U", "costguard", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run(pg_ctl, "-D", "data", "-w", "-o", options, "-l", "server.log", "start")
        try:
            yield f"postgresql://costguard@/postgres?host={folder}"
        finally:
            run(pg_ctl, "-D", "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
