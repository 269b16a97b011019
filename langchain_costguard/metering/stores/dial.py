"""Which Redis is meant: that of a URL, or of a client."""

from __future__ import annotations

import re
from inspect import signature
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.cluster import RedisCluster
from redis.exceptions import RedisError
from redis.retry import Retry

from langchain_costguard.metering.stores.wire import CONNECTING, Wire
from langchain_costguard.vocabulary.urls import told, without_password

Client = redis.Redis | RedisCluster
_DRIVER = "driver_info" in signature(redis.connection.AbstractConnection.__init__).parameters
_ANONYMOUS: dict[str, Any] = {"driver_info": None} if _DRIVER else {"lib_name": None, "lib_version": None}
"""To say who we are would be two more round trips to connect."""
SCHEMES = ("redis", "rediss", "unix")


def dial(url_or_client: str | Client, *, who: str, timeout: float) -> tuple[Client, str]:
    """The client, and what to call its server; connects nowhere yet. ``timeout`` is in seconds, and a URL's alone.

    Raises:
        ValueError: neither can be used; ``who`` is named as the one that wanted it.
    """
    if isinstance(url_or_client, str):
        return _connected(url_or_client, who, timeout), f"Redis at {without_password(url_or_client)}"
    if isinstance(url_or_client, Client) and not isinstance(url_or_client, Pipeline):
        return url_or_client, f"Redis{_place(url_or_client)} by the given {type(url_or_client).__name__} client"
    if any(base.__module__.startswith("redis.asyncio") for base in type(url_or_client).__mro__):
        raise ValueError(f"{who} needs a sync client, not {type(url_or_client).__name__} from redis.asyncio")
    raise ValueError(f"{who} needs a URL, a redis.Redis or a redis.cluster.RedisCluster, not {url_or_client!r}")


def _place(client: Client) -> str:
    """Which server a client is for, for people and to tell ledgers apart: a cluster's nodes come and go."""
    pool: Any = getattr(client, "connection_pool", None)
    given = getattr(pool, "connection_kwargs", {})
    if hasattr(pool, "service_name"):
        return f" {pool.service_name!r} of a Sentinel"
    if isinstance(client, RedisCluster) or not ("path" in given or "host" in given):
        return ""
    place = given.get("path") or f"{given['host']}:{given.get('port', 6379)}"
    return f" at {place}/{given.get('db') or 0}"


def _connected(url: str, who: str, timeout: float) -> redis.Redis:
    try:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://"):
            raise ValueError("it must begin with redis://, rediss:// or unix://")
        if parts.scheme == "unix" and not parts.path:
            raise ValueError("it names no socket")
        if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
            raise ValueError("its database is not a number")
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=max(timeout, CONNECTING),
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **_ANONYMOUS,
        )
        Wire(client, timeout=timeout).connection()  # connects nowhere, but objects to an option it does not know
    except (ValueError, TypeError, RedisError) as error:
        raise ValueError(f"{who} cannot use url {without_password(url)!r}: {told(error, url)}") from None
    return client
