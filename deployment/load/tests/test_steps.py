"""How long a step takes, and how often it is tried."""

import time
import unittest
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import steps
from door import Answer, NoAnswer
from steps import JourneyOver, Steps, Tally, TryAgain, Wrong, expect


def answers(*results: Any) -> Callable[[], Any]:
    """An attempt that has these outcomes, one after the other."""
    remaining = iter(results)

    def attempt() -> Any:
        result = next(remaining)
        if isinstance(result, Exception):
            raise result
        return result

    return attempt


class StepsOfAJourney(unittest.TestCase):
    def setUp(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.tally = Tally()
        patch.object(steps, "PAUSE_SECONDS", 0.001).start()
        self.addCleanup(patch.stopall)

    def from_(self, start: float) -> Steps:
        return Steps(lambda **event: self.told.append(event), self.tally, start)

    def test_time_counts_from_the_planned_start(self) -> None:
        self.from_(time.monotonic() - 7).take("GET /purchases", answers("page"), after_seconds=2)
        [event] = self.told
        self.assertEqual((event["request_type"], event["name"]), ("GET", "/purchases"))
        self.assertGreaterEqual(event["response_time"], 5000)
        self.assertIsNone(event["exception"])

    def test_a_step_is_not_taken_before_it_is_planned(self) -> None:
        start = time.monotonic()
        begun = self.from_(start).take("GET /purchases", time.monotonic, after_seconds=0.05)
        self.assertGreaterEqual(begun, start + 0.05)

    def test_a_step_counts_once_however_often_it_is_tried(self) -> None:
        attempt = answers(TryAgain("503 later", 0), NoAnswer("no answer: reset"), "done")
        self.assertEqual(self.from_(time.monotonic()).take("POST /buy", attempt), "done")
        self.assertEqual(len(self.told), 1)
        self.assertEqual(self.tally.tried_again, {"POST /buy: 503 later": 1, "POST /buy: no answer: reset": 1})

    def test_who_waited_for_too_long_gives_up(self) -> None:
        with self.assertRaises(JourneyOver):
            self.from_(time.monotonic()).take("POST /buy", answers(TryAgain("503", steps.PATIENCE_SECONDS + 1)))
        self.assertIsInstance(self.told[0]["exception"], TryAgain)

    def test_a_wrong_answer_is_not_asked_for_again(self) -> None:
        with self.assertRaises(JourneyOver):
            self.from_(time.monotonic()).take("POST /buy", answers(Wrong("400 no price")))
        self.assertIsInstance(self.told[0]["exception"], Wrong)
        self.assertFalse(self.tally.tried_again)

    def test_only_what_may_do_better_next_time_is_tried_again(self) -> None:
        for status in (429, 503, 504):
            with self.assertRaises(TryAgain) as caught:
                expect(Answer(status, b'{"detail":"busy"}', 3.0), 200)
            self.assertEqual((str(caught.exception), caught.exception.after_seconds), (f"{status} busy", 3.0))
        for status in (400, 401, 404, 422, 500):
            with self.assertRaises(Wrong):
                expect(Answer(status, b"no json", None), 200)


if __name__ == "__main__":
    unittest.main()
