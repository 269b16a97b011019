"""``costguard serve``: the page of a spend log, live, with the brake."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

import rich_click as click

from langchain_costguard.cli import logs, options
from langchain_costguard.cli.stores import shared
from langchain_costguard.events.metered import Event
from langchain_costguard.observe.log import open_log
from langchain_costguard.observe.log.entry import entry_of
from langchain_costguard.observe.spend import Spend
from langchain_costguard.vocabulary.urls import reason

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.option("--log", metavar="LOG", envvar="COSTGUARD_LOG", help="the spend log (default: $COSTGUARD_LOG)")
@options.store
@click.option("--port", metavar="N", type=click.IntRange(0, 65_535), default=8042, help="default: 8042; 0: any")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", help="who may ask: by default, this machine alone")
@click.option("--since", metavar="WHEN", default="7d", help="what is shown at first (default: 7d)")
@click.option("--tz", metavar="ZONE", default="UTC", help="of days and dates (default: UTC)")
def command(log: str | None, store: str | None, port: int, host: str, since: str, tz: str) -> None:
    """The page of a spend log, live, with filters and, with --store, the brake: kill, revive, grant.

    The address that is printed has a token, without which nothing is shown or done. What is done is in the log, with
    who did it.
    """
    try:
        import uvicorn

        from langchain_costguard.cli.web.acts import Acts
        from langchain_costguard.cli.web.app import app
    except ImportError:
        raise ValueError("serve needs the extra web: pip install 'langchain-costguard[web]'") from None
    place = logs.named(log)
    spend = Spend(place, since=since, tz=tz)
    acts = None
    if store:
        writing = logs.asking(lambda: open_log(place, create=False))

        def tell(event: Event) -> None:
            entry = entry_of(event)
            if entry is not None:
                writing.write([entry])

        acts = Acts(shared(store, create=False), tell)
    listening = _listening(host, port)
    token = secrets.token_urlsafe(24)
    hosts = [*_LOOPBACK, "[::1]"] if host in _LOOPBACK else ["*"]
    where = f"{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"http://{where}/?token={token}", flush=True)
    print("Whoever has this address can see everything" + (" and stop agents." if acts else "."), flush=True)
    config = uvicorn.Config(app(spend, acts, since=since, token=token, hosts=hosts), log_level="warning")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        said = f"--host {host}, --port {port}: nobody can listen there: {reason(error)}; name another"
        raise ValueError(said) from None
