"""PostgreSQL's client, which the extra ``postgres`` brings; where it is missing, importing this says what to do."""

from __future__ import annotations

try:
    import psycopg
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict
except ModuleNotFoundError as error:
    if error.name != "psycopg":
        raise
    remedy = "PostgreSQL needs psycopg: pip install 'langchain-costguard[postgres]'"
    raise ModuleNotFoundError(remedy, name=error.name) from None

__all__ = ["conninfo_to_dict", "pq", "psycopg"]
