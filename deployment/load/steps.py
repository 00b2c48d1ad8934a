"""The steps of a journey: each is counted once, from its planned start to its end, however often it was tried."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import gevent

from door import Answer, NoAnswer

Result = TypeVar("Result")

# How long somebody tries before giving up.
PATIENCE_SECONDS = 30.0
# The pause before a further attempt where nobody says how long to wait.
PAUSE_SECONDS = 0.25
# Refused before anything was done (429, 503), or perhaps done, and safe to repeat (504): come again.
AGAIN = (429, 503, 504)


class TryAgain(Exception):
    """An attempt came to nothing; the next one may do better."""

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


class Wrong(Exception):
    """An answer that should not be; another attempt would get the same."""


class JourneyOver(Exception):
    """A step failed, and is reported: the steps after it are not taken."""


class Report(Protocol):
    """Locust's event `request`."""

    def __call__(
        self, *, request_type: str, name: str, response_time: float, response_length: int, exception: Exception | None
    ) -> None: ...


@dataclass
class Tally:
    """What the report's percentiles do not show."""

    started: int = 0
    turned_away: int = 0
    finished: int = 0
    gave_up: int = 0
    unfinished: int = 0
    late: int = 0
    late_max_seconds: float = 0.0
    tried_again: Counter[str] = field(default_factory=Counter)


class Steps:
    """Takes one journey's steps, and tells how long they took."""

    def __init__(self, report: Report | None, tally: Tally, start: float) -> None:
        """`start`: when the journey was to start, by time.monotonic(). Without `report` nothing is told."""
        self._report = report
        self._tally = tally
        self._start = start

    def take(self, name: str, attempt: Callable[[], Result], after_seconds: float = 0.0) -> Result:
        """One step, planned so long after the journey's own planned start. `name`: the method and the path's template.

        Waiting for whatever held up the steps before counts: this is what coordinated omission leaves out.
        Raises JourneyOver.
        """
        planned = self._start + after_seconds
        gevent.sleep(max(0.0, planned - time.monotonic()))
        try:
            result = self._persist(name, attempt)
        except (Wrong, TryAgain) as error:
            self._tell(name, planned, error)
            raise JourneyOver from error
        self._tell(name, planned, None)
        return result

    def _persist(self, name: str, attempt: Callable[[], Result]) -> Result:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return attempt()
            except NoAnswer as error:
                again = TryAgain(str(error))
            except TryAgain as error:
                again = error
            after = again.after_seconds if again.after_seconds is not None else PAUSE_SECONDS
            pause = after * random.uniform(1, 1.5)
            if time.monotonic() + pause > deadline:
                raise again
            self._tally.tried_again[f"{name}: {again}"] += 1
            gevent.sleep(pause)

    def _tell(self, name: str, planned: float, error: Exception | None) -> None:
        if self._report:
            method, _, path = name.partition(" ")
            took_ms = (time.monotonic() - planned) * 1000
            self._report(request_type=method, name=path, response_time=took_ms, response_length=0, exception=error)


def expect(answer: Answer, *statuses: int) -> Answer:
    """The answer, if it has one of these statuses. Raises TryAgain and Wrong."""
    if answer.status in statuses:
        return answer
    detail = f"{answer.status} {answer.json().get('detail', '')}".strip()
    if answer.status in AGAIN:
        raise TryAgain(detail, answer.retry_after_seconds)
    raise Wrong(detail)
