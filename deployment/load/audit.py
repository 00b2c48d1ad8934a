"""Reads back, after the run, everything that its buyers have bought."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import gevent
from gevent.pool import Pool

from door import Door, NoAnswer
from ledger import Ledger, Verdict
from sessions import Session, Sessions
from steps import JourneyOver, Steps, Tally, TryAgain, Wrong, expect

# For how long is waited until everything is there: what is accepted may still wait for the database.
LAG_MAX_SECONDS = 60.0
# For how long services that are away are asked again.
AWAY_MAX_SECONDS = 30.0
# What reading takes is added, for services that are slow: well ones give 3,000 histories a second on two cores.
BUYERS_PER_SECOND = 100.0
PURCHASES_PER_SECOND = 1000.0
# What was recorded once may be recorded a second time a little later.
SETTLE_SECONDS = 5.0
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
        # Where readings that broke off go on.
        self._cursors: dict[int, str] = {}
        self._read_to_end: set[int] = set()

    def run(self) -> Verdict:
        """Waits until all that was acknowledged is found; then one more reading of everybody decides."""
        buyers, purchases = self._ledger.buyers(), self._ledger.sent_count()
        reading_seconds = len(buyers) / BUYERS_PER_SECOND + purchases / PURCHASES_PER_SECOND
        self._read_until(self._ledger.is_complete, LAG_MAX_SECONDS + reading_seconds)
        gevent.sleep(SETTLE_SECONDS)
        self._cursors.clear()
        self._read_to_end.clear()
        self._read_until(self._read_to_end.__contains__, AWAY_MAX_SECONDS + reading_seconds)
        return self._ledger.judge(unread=set(buyers) - self._read_to_end)

    def _read_until(self, is_done: Callable[[int], bool], seconds: float) -> None:
        """Reads everybody's history, and again that of each who is not done."""
        deadline = time.monotonic() + seconds
        waiting = self._ledger.buyers()
        while waiting and time.monotonic() < deadline:
            pool = Pool(READERS)
            with gevent.Timeout(deadline - time.monotonic(), False):
                pool.map(self._read, waiting)
            pool.kill()
            waiting = [buyer for buyer in waiting if not is_done(buyer)]
            if waiting:
                gevent.sleep(PAUSE_SECONDS)

    def _read(self, buyer: int) -> None:
        session = self._sessions.of(buyer)
        door = Door(self._host, buyer)
        try:
            session.enter(Steps(None, Tally(), time.monotonic()), door)
            self._read_history(buyer, session, door)
        except (NoAnswer, TryAgain, JourneyOver):
            # The next round goes on with the page that did not come.
            pass
        except Wrong:
            # Perhaps of the cursor.
            self._cursors.pop(buyer, None)
        finally:
            door.close()

    def _read_history(self, buyer: int, session: Session, door: Door) -> None:
        """Newest first, back to the beginning of the run: an account may have bought for years."""
        query: dict[str, Any] = {"userid": session.userid, "limit": PAGE_ROWS}
        while True:
            cursor = self._cursors.get(buyer)
            if cursor is not None:
                query["cursor"] = cursor
            page = expect(door.ask("GET", f"/purchases?{urlencode(query)}", session.headers), 200).json()
            if not isinstance(page.get("purchases"), list):
                raise Wrong("no list of purchases")
            if cursor is None:
                self._ledger.begin_reading(buyer)
            self._ledger.note(buyer, page["purchases"])
            if page["next_cursor"] is None or self._is_before(page["purchases"][-1]["timestamp"]):
                self._cursors.pop(buyer, None)
                self._read_to_end.add(buyer)
                return
            self._cursors[buyer] = page["next_cursor"]

    def _is_before(self, timestamp: str) -> bool:
        first = self._ledger.first_timestamp
        return first is not None and datetime.fromisoformat(timestamp) < datetime.fromisoformat(first) - MARGIN
