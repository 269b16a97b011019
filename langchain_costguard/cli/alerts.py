"""``costguard alerts``: rules for Prometheus, and a test of where alerts go."""

from __future__ import annotations

import os

import rich_click as click

from langchain_costguard.observe.boards.rules import rules as rules_file
from langchain_costguard.observe.notify import Alertmanager, Email, Notify, PagerDuty, Slack, Target, Webhook

_MAKE = {
    "slack": Slack,
    "pagerduty": PagerDuty,
    "alertmanager": Alertmanager,
}


@click.group()
def command() -> None:
    """Rules for Prometheus and vmalert, and a test of where alerts go."""


@command.command()
def rules() -> None:
    """Print alerting rules over the metrics, as a file for Prometheus or vmalert."""
    print(rules_file(), end="")


@command.command()
@click.argument("targets", metavar="[KIND=ADDRESS]...", nargs=-1)
@click.option("--secret", metavar="SECRET", envvar="COSTGUARD_WEBHOOK_SECRET", help="a webhook's (whsec_...)")
@click.option("--server", metavar="URL", envvar="COSTGUARD_SMTP", help="a mail's: smtp://host:25 or smtps://...")
def test(targets: tuple[str, ...], secret: str | None, server: str | None) -> int:
    """Send a test to each target, and say what arrived.

    KIND is slack, pagerduty, webhook, alertmanager or email. An address is a secret that a shell remembers: with none
    given, those in $COSTGUARD_ALERTS are taken, apart by spaces.
    """
    given = targets or tuple(os.environ.get("COSTGUARD_ALERTS", "").split())
    if not given:
        raise ValueError("which targets? give KIND=ADDRESS, such as slack=https://..., or set COSTGUARD_ALERTS")
    failed = 0
    for text in given:
        target = _target(text, secret, server)
        notify = Notify({1.0: target}, spike=None)
        notify.test()
        notify.close(5.0)
        (post,) = notify.posts.values()
        arrived = post.delivered == 1
        failed += not arrived
        print(f"{target.name}: {'delivered' if arrived else 'not delivered'}")
    return 1 if failed else 0


def _target(text: str, secret: str | None, server: str | None) -> Target:
    kind, _, address = text.partition("=")
    if kind == "webhook":
        if not secret:
            raise ValueError("--secret: a webhook is signed; give its secret, or set COSTGUARD_WEBHOOK_SECRET")
        return Webhook(address, secret=secret)
    if kind == "email":
        if not server:
            raise ValueError("--server: a mail needs smtp://host:25, or COSTGUARD_SMTP")
        return Email(address, server=server)
    if kind not in _MAKE or not address:
        raise ValueError(f"targets: {kind!r} is not slack, pagerduty, webhook, alertmanager or email, with =ADDRESS")
    made: Target = _MAKE[kind](address)
    return made
