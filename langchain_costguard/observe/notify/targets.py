"""Where notices go. A target's address is a secret: it is in no log, no ``repr`` and no error of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from langchain_costguard.observe.notify.notice import CRITICAL, ERROR, Notice
from langchain_costguard.vocabulary.urls import without_password

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class NotNow(Exception):
    """A delivery failed and may do later, not before ``after`` seconds."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Never(Exception):
    """A delivery failed and will not do later: the address or the key is wrong."""


class Target(Protocol):
    """Where notices go. ``name`` is said in logs: it holds no secret."""

    name: str

    def deliver(self, notice: Notice, timeout: float) -> None:
        """Bring one notice.

        Raises:
            NotNow: it may do later.
            Never: it will not.
        """


class _Posting:
    """A target that is a POST."""

    name = ""

    def __init__(self, url: str, field: str = "url") -> None:
        if not isinstance(url, str) or not re.match(r"https?://[^/\s]", url):
            raise ValueError(f"{field}: a {type(self).__name__} needs a URL that begins with http:// or https://")
        self._url = url

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def _post(self, body: bytes, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        httpx = _httpx()
        try:
            answer = httpx.post(
                self._url,
                content=body,
                headers={"content-type": "application/json", **(headers or {})},
                timeout=timeout,
            )
        except httpx.HTTPError as error:  # its text may hold the address
            raise NotNow(type(error).__name__) from None
        if answer.status_code in _AGAIN:
            raise NotNow(f"HTTP {answer.status_code}", _after(answer.headers.get("retry-after")))
        if not answer.is_success:
            raise Never(f"HTTP {answer.status_code}")


class Slack(_Posting):
    """An incoming webhook of Slack's (or of what takes its form, as Mattermost does): ``Slack(url)``.

    https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
    """

    name = "slack"

    def deliver(self, notice: Notice, timeout: float) -> None:
        """Post one message."""
        mark = (
            ":white_check_mark:"
            if notice.resolved
            else {CRITICAL: ":rotating_light:", ERROR: ":red_circle:"}.get(notice.severity, ":warning:")
        )
        facts = " · ".join(f"{name}: {value}" for name, value in notice.facts.items())
        # Slack reads <...> and & as its own.
        text, more = (
            part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for part in (notice.title, facts)
        )
        blocks: list[Any] = [{"type": "section", "text": {"type": "mrkdwn", "text": f"{mark} {text}"}}]
        if more:
            blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": more}]})
        self._post(json.dumps({"text": text, "blocks": blocks}).encode(), timeout)


class PagerDuty(_Posting):
    """PagerDuty's Events API v2: ``PagerDuty(routing_key)``. What is over is resolved by itself.

    https://developer.pagerduty.com/docs/send-alert-event
    """

    name = "pagerduty"

    def __init__(self, routing_key: str, *, url: str = "https://events.pagerduty.com/v2/enqueue") -> None:
        if not isinstance(routing_key, str) or not routing_key:
            raise ValueError("routing_key: PagerDuty needs the integration's key")
        super().__init__(url)
        self._key = routing_key

    def deliver(self, notice: Notice, timeout: float) -> None:
        """Trigger, or resolve."""
        body: dict[str, Any] = {
            "routing_key": self._key,
            "event_action": "resolve" if notice.resolved else "trigger",
            "dedup_key": notice.key[:255],
        }
        if not notice.resolved:
            body["payload"] = {
                "summary": notice.title[:1024],
                "source": "langchain_costguard",
                "severity": notice.severity,
                "timestamp": notice.time,
                "component": str(notice.facts.get("budget") or notice.facts.get("name") or notice.kind),
                "group": "costguard",
                "class": notice.kind,
                "custom_details": notice.facts,
            }
        self._post(json.dumps(body).encode(), timeout)


class Webhook(_Posting):
    """Any receiver of Standard Webhooks: ``Webhook(url, secret="whsec_...")``; several secrets while one is replaced.

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """

    name = "webhook"

    def __init__(self, url: str, *, secret: str | Sequence[str]) -> None:
        super().__init__(url)
        secrets = [secret] if isinstance(secret, str) else list(secret) if isinstance(secret, (list, tuple)) else []
        try:
            from standardwebhooks import Webhook as Signer
        except ImportError:
            raise ImportError("a Webhook is signed: pip install 'langchain-costguard[alerts]'") from None
        try:
            self._sign: list[Callable[..., str]] = [Signer(one).sign for one in secrets]
        except Exception:
            raise ValueError("secret: a Webhook's is base64, most often after whsec_") from None
        if not secrets:
            raise ValueError("secret: a Webhook needs one")

    def deliver(self, notice: Notice, timeout: float) -> None:
        """Post one event, signed."""
        data = {"key": notice.key, "severity": notice.severity, "title": notice.title, **notice.facts}
        body = json.dumps({"type": notice.type, "timestamp": notice.time, "data": data})
        now = datetime.now(UTC)
        headers = {
            "webhook-id": notice.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(sign(notice.id, now, body) for sign in self._sign),
        }
        self._post(body.encode(), timeout, headers)


class Alertmanager(_Posting):
    """Prometheus' Alertmanager: ``Alertmanager("http://127.0.0.1:9093")``.

    It forgets what is not sent again, so an alert is given an end: that of the window, or of ``hours``.
    """

    name = "alertmanager"

    def __init__(self, url: str, *, hours: float = 24.0) -> None:
        super().__init__(url)
        self._url = f"{url.rstrip('/')}/api/v2/alerts"
        self._hours = hours

    def deliver(self, notice: Notice, timeout: float) -> None:
        """Post one alert. Its labels are who it is; amounts are kept out of them."""
        labels = {"alertname": f"costguard_{notice.kind}", "key": notice.key, "severity": notice.severity}
        for name in ("budget", "measure", "name"):
            if notice.facts.get(name):
                labels[name] = str(notice.facts[name])
        began = datetime.fromtimestamp(notice.at, UTC)
        ends = began if notice.resolved else began + timedelta(hours=self._hours)
        alert = {"labels": labels, "annotations": {"summary": notice.title}, "endsAt": ends.isoformat()}
        if not notice.resolved:
            alert["startsAt"] = began.isoformat()
        self._post(json.dumps([alert]).encode(), timeout)


class Email:
    """A mail: ``Email("finance@example.com", server="smtps://user:password@mail.example.com")``.

    Args:
        to: One address, or several.
        server: ``smtp://`` (with STARTTLS where the server has it) or ``smtps://``; a user and password may be in it.
        sender: Default: the first recipient.
    """

    name = "email"

    def __init__(self, to: str | Sequence[str], *, server: str, sender: str | None = None) -> None:
        self._to = [to] if isinstance(to, str) else list(to) if isinstance(to, (list, tuple)) else []
        if not self._to or not all(isinstance(address, str) and "@" in address for address in self._to):
            shown = [*map(without_password, to)] if isinstance(to, (list, tuple)) else without_password(to)
            raise ValueError(f"to: {shown!r} must be one e-mail address or more")
        try:
            parts = urlsplit(server) if isinstance(server, str) else urlsplit("")
        except ValueError:  # its own words hold the password
            parts = urlsplit("")
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("server: an Email needs smtp://host:port or smtps://user:password@host")
        self._server, self._sender = parts, sender or self._to[0]

    def __repr__(self) -> str:
        return "Email(...)"

    def deliver(self, notice: Notice, timeout: float) -> None:
        """Send one mail; the same id at every try."""
        import smtplib

        message = EmailMessage()
        message["Subject"] = f"[costguard] {notice.title}"
        message["From"], message["To"] = self._sender, ", ".join(self._to)
        message["Message-ID"] = f"<{notice.id}@costguard>"
        message.set_content(
            "\n".join([notice.title, "", *(f"{name}: {value}" for name, value in notice.facts.items())])
        )
        parts = self._server
        connect = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
        try:
            with connect(parts.hostname or "", parts.port or 0, timeout=timeout) as server:
                if parts.scheme == "smtp" and server.has_extn("starttls"):
                    server.starttls()
                if parts.username:
                    server.login(unquote(parts.username), unquote(parts.password or ""))
                server.send_message(message)
        except smtplib.SMTPAuthenticationError:
            raise Never("the server does not know this user") from None
        except (OSError, smtplib.SMTPException) as error:
            raise NotNow(type(error).__name__) from None


class Apprise:
    """Whatever ``apprise`` knows, a hundred services: ``Apprise("tgram://...", "mailto://...")``, or an instance of it.

    https://github.com/caronc/apprise
    """

    name = "apprise"

    def __init__(self, *urls: Any) -> None:
        try:
            import apprise
        except ImportError:
            raise ImportError("Apprise needs apprise: pip install apprise") from None
        self._apprise = urls[0] if len(urls) == 1 and isinstance(urls[0], apprise.Apprise) else apprise.Apprise()
        for url in urls if self._apprise is not (urls[0] if urls else None) else ():
            if not self._apprise.add(url):
                raise ValueError("urls: apprise knows no service of one of them")

    def __repr__(self) -> str:
        return "Apprise(...)"

    def deliver(self, notice: Notice, timeout: float) -> None:
        """Notify."""
        if not self._apprise.notify(body=notice.title, title="costguard"):
            raise NotNow("apprise could not deliver")


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise ImportError("alerts are sent by httpx: pip install 'langchain-costguard[alerts]'") from None
    return httpx


def _after(text: str | None) -> float:
    """Seconds of a ``Retry-After`` header, which is a number or a date."""
    if not text:
        return 0.0
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
