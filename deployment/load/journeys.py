"""What one arrival does. To Locust it is a user: it comes, makes its journey once, and leaves."""

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from arrivals import Arrival, Purpose
from door import Door, NoStream
from ledger import Ledger, Sent
from sessions import Sessions
from steps import PATIENCE_SECONDS, JourneyOver, Steps, Tally, TryAgain, Wrong, expect

# Later than this after its planned start, a journey was held up by this program, not by the services.
LATE_SECONDS = 0.05
# As many purchases as a page of a shop shows.
PAGE_ROWS = 20


@dataclass(frozen=True)
class World:
    """What all journeys of a run share."""

    host: str
    run: str
    start: float
    """When the run began, by time.monotonic()."""
    sessions: Sessions
    ledger: Ledger
    tally: Tally


class Journey(User):
    """One arrival, from its planned start to its last answer."""

    def __init__(self, environment: Environment, world: World, arrival: Arrival) -> None:
        super().__init__(environment)
        self._world = world
        self._arrival = arrival
        self._planned = world.start + arrival.at_seconds
        self._steps = Steps(environment.events.request.fire, world.tally, self._planned)
        self._session = world.sessions.of(arrival.buyer)
        self._door = Door(world.host, arrival.buyer)
        self._is_over = False

    @task
    def make(self) -> None:
        """The journey. Locust repeats a task, also one that fails; a journey is made once."""
        if self._is_over:
            raise StopUser
        self._is_over = True
        tally = self._world.tally
        self._note_lateness()
        # Until it is known how it ends; who is stopped at the end of the run stays unfinished.
        tally.unfinished += 1
        try:
            self._session.enter(self._steps, self._door)
            if self._arrival.purpose is Purpose.BUY:
                self._buy()
            self._look()
            tally.finished += 1
        except JourneyOver:
            tally.gave_up += 1
        finally:
            self._door.close()
        tally.unfinished -= 1
        raise StopUser

    def _note_lateness(self) -> None:
        late_seconds = time.monotonic() - self._planned
        tally = self._world.tally
        tally.late += late_seconds > LATE_SECONDS
        tally.late_max_seconds = max(tally.late_max_seconds, late_seconds)

    def _buy(self) -> None:
        sent = self._world.ledger.send(self._arrival.number, self._arrival.buyer, self._arrival.price)
        purchase = self._steps.take("POST /buy", lambda: self._send(sent))
        # From the click, too: how long a buyer waits until the page says that it is done.
        self._steps.take("GET /purchases/{purchase_id}/events", lambda: self._watch(purchase["purchase_id"]))

    def _send(self, sent: Sent) -> dict[str, Any]:
        name = self._world.ledger.name_of(sent.number)
        body = {"username": name, "userid": self._session.userid, "price": sent.price}
        # The same key with each attempt: what was already accepted is not bought again.
        headers = {**self._session.headers, "Idempotency-Key": f"{self._world.run}-{sent.number}"}
        purchase: dict[str, Any] = expect(self._door.ask("POST", "/buy", headers, body), 201, 202).json()["data"]
        self._world.ledger.acknowledge(sent, purchase)
        return purchase

    def _watch(self, purchase_id: str) -> None:
        # A stream is never silent for long, so that the connection's own limit does not end it.
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            for name, data in self._door.listen(f"/purchases/{purchase_id}/events", self._session.headers):
                if name == "recorded" and data["purchase_id"] == purchase_id:
                    return
                if time.monotonic() > deadline:
                    break
        except NoStream as refused:
            expect(refused.answer, 200)
        raise TryAgain("the stream ended before the purchase was recorded")

    def _look(self) -> None:
        thought = self._arrival.think_seconds
        user = self._session.userid
        totals = f"/getAllUserBuys/{user}"
        self._steps.take("GET /getAllUserBuys/{userid}", lambda: self._get(totals, limit=PAGE_ROWS), thought)
        if self._arrival.purpose is Purpose.LOOK:
            self._steps.take("GET /purchases", lambda: self._get("/purchases", userid=user, limit=PAGE_ROWS), thought)

    def _get(self, path: str, **query: Any) -> None:
        page = expect(self._door.ask("GET", f"{path}?{urlencode(query)}", self._session.headers), 200).json()
        if not isinstance(page.get("purchases"), list):
            raise Wrong("no list of purchases")
