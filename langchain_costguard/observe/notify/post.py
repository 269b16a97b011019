"""Bringing notices to one target: behind the calls, again until it is done, kept where the next process finds them."""

from __future__ import annotations

import logging
import time

from langchain_costguard.observe.background import Writer
from langchain_costguard.observe.notify.notice import Notice
from langchain_costguard.observe.notify.targets import Never, NotNow, Target
from langchain_costguard.observe.witness import Source

log = logging.getLogger("langchain_costguard")
TIMEOUT = 2.0
QUEUE = 1_000


class Post:
    """The notices that wait for one target. ``slot`` tells targets apart in the store, and is no secret."""

    def __init__(self, target: Target, slot: str) -> None:
        self.target, self.slot = target, slot
        self.delivered = 0
        self.rejected = 0
        """Notices that the target did not want, for good."""
        self._source: Source | None = None
        self._not_before = 0.0
        self._kept: set[str] = set()
        self._complained = False
        self.writer: Writer[Notice] = Writer(
            self._deliver, name=f"alerts-{slot}", capacity=QUEUE, batch=1, lost=self._lost
        )

    def bind(self, source: Source) -> None:
        """Take up what other processes left in the store."""
        if not source.shared:
            return
        self._source = source
        for name, text in source.kept().items():
            slot, _, id = name.partition("/")
            if slot == self.slot and source.once(f"take/{name}", time.time()):
                source.keep(name, None)
                self.writer.put(Notice.from_text(text))
                self._kept.add(id)

    @property
    def dropped(self) -> int:
        """Notices that found the queue full."""
        return self.writer.dropped

    def put(self, notice: Notice) -> None:
        """Deliver a notice, soon."""
        self.writer.put(notice)

    def _deliver(self, notices: list[Notice]) -> None:
        if time.monotonic() < self._not_before and self.writer.seconds_left > TIMEOUT:
            raise NotNow("as the receiver asked")
        for notice in list(notices):
            self._bring(notice)
            del notices[:1]

    def _bring(self, notice: Notice) -> None:
        try:
            self.target.deliver(notice, max(0.1, min(TIMEOUT, self.writer.seconds_left)))
        except Never as error:
            self.rejected += 1
            self._say(f"{self.target.name} does not take alerts ({error}): one is dropped")
        except NotNow as error:
            self._not_before = time.monotonic() + error.after
            self._keep(notice)
            self._say(f"{self.target.name} cannot be reached ({error}): alerts wait")
            raise
        else:
            self.delivered += 1
        if self._source is not None and notice.id in self._kept:
            self._kept.discard(notice.id)
            self._source.keep(f"{self.slot}/{notice.id}", None)

    def _keep(self, notice: Notice) -> None:
        if self._source is not None and notice.id not in self._kept:
            self._kept.add(notice.id)
            self._source.keep(f"{self.slot}/{notice.id}", notice.to_text())

    def _lost(self, notices: list[Notice]) -> None:
        for notice in notices:
            self._keep(notice)
        if self._source is None:
            log.error("costguard: %d alert(s) for %s were not delivered", len(notices), self.target.name)

    def _say(self, text: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("costguard: %s (said once)", text)
