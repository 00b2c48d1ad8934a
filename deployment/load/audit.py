"""Reads back, after the run, everything that its buyers have bought."""

import time
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import gevent
from gevent.pool import Pool

from door import Door, NoAnswer
from ledger import Ledger, Verdict
from sessions import Session, Sessions
from steps import JourneyOver, Steps, Tally, TryAgain, Wrong, expect

# For how long is read until everything is there: what is accepted may still wait for the database.
DEADLINE_SECONDS = 60.0
PAUSE_SECONDS = 0.5
# Histories read at once.
READERS = 8
PAGE_ROWS = 1000
# What was never acknowledged may have been stamped a little earlier than the first that was.
MARGIN = timedelta(minutes=1)


class Audit:
    """Holds a ledger against the read API."""

    def __init__(self, host: str, sessions: Sessions, ledger: Ledger) -> None:
        self._host = host
        self._sessions = sessions
        self._ledger = ledger
        self._histories: dict[int, list[dict[str, Any]]] = {}

    def run(self) -> Verdict:
        """Reads until all that was acknowledged is found, or the deadline is over."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        waiting = self._ledger.buyers()
        while waiting and time.monotonic() < deadline:
            pool = Pool(READERS)
            with gevent.Timeout(deadline - time.monotonic(), False):
                pool.map(self._read, waiting)
            pool.kill()
            waiting = [buyer for buyer in waiting if not self._is_done(buyer)]
            if waiting:
                gevent.sleep(PAUSE_SECONDS)
        return self._ledger.judge(self._histories)

    def _is_done(self, buyer: int) -> bool:
        history = self._histories.get(buyer)
        return history is not None and self._ledger.is_complete(buyer, history)

    def _read(self, buyer: int) -> None:
        session = self._sessions.of(buyer)
        door = Door(self._host, buyer)
        try:
            session.enter(Steps(None, Tally(), time.monotonic()), door)
            self._histories[buyer] = self._history(session, door)
        except (NoAnswer, TryAgain, Wrong, JourneyOver):
            # Read again in the next round; what is not read by the deadline is missing.
            pass
        finally:
            door.close()

    def _history(self, session: Session, door: Door) -> list[dict[str, Any]]:
        """Newest first, back to the beginning of the run: an account may have bought for years."""
        history: list[dict[str, Any]] = []
        query: dict[str, Any] = {"userid": session.userid, "limit": PAGE_ROWS}
        while True:
            page = expect(door.ask("GET", f"/purchases?{urlencode(query)}", session.headers), 200).json()
            history.extend(page["purchases"])
            if page["next_cursor"] is None or self._is_before(page["purchases"][-1]["timestamp"]):
                return history
            query["cursor"] = page["next_cursor"]

    def _is_before(self, timestamp: str) -> bool:
        first = self._ledger.first_timestamp
        return first is not None and datetime.fromisoformat(timestamp) < datetime.fromisoformat(first) - MARGIN
