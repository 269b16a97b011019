"""Alerts, brought to who has to know: a ladder of shares and recipients, spikes, and what broke."""

from langchain_costguard.observe.notify.notice import Notice
from langchain_costguard.observe.notify.notify import Notify
from langchain_costguard.observe.notify.targets import Alertmanager, Apprise, Email, PagerDuty, Slack, Target, Webhook

__all__ = ["Alertmanager", "Apprise", "Email", "Notice", "Notify", "PagerDuty", "Slack", "Target", "Webhook"]
