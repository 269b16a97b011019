"""Fakes for tests: a provider on loopback, a scripted model, a manual clock, a recorder of events."""

from langchain_costguard.testing.clock import ManualClock
from langchain_costguard.testing.gate import Gate
from langchain_costguard.testing.models import ScriptedChatModel
from langchain_costguard.testing.provider import FakeProvider, Totals
from langchain_costguard.testing.recorder import Recorder
from langchain_costguard.testing.replies import Reply
from langchain_costguard.testing.requests import OfferedTool, Request
from langchain_costguard.testing.stuck import stuck_in_a_loop

__all__ = [
    "FakeProvider",
    "Gate",
    "ManualClock",
    "OfferedTool",
    "Recorder",
    "Reply",
    "Request",
    "ScriptedChatModel",
    "Totals",
    "stuck_in_a_loop",
]
