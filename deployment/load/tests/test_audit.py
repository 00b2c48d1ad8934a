"""How histories are read that cannot be read at once."""

import json
import unittest
from collections.abc import Callable
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import audit
from audit import Audit
from door import Answer, NoAnswer
from ledger import Ledger
from sessions import Sessions
from settings import Auth

BUYER = 7


class ReadingBack(unittest.TestCase):
    def setUp(self) -> None:
        self.ledger = Ledger("a1")
        self.asked: list[str | None] = []
        for number in range(3):
            sent = self.ledger.send(number, BUYER, "1.50")
            self.ledger.acknowledge(sent, self.row(number))
        for limit in ("LAG_MAX_SECONDS", "AWAY_MAX_SECONDS", "SETTLE_SECONDS", "PAUSE_SECONDS"):
            patch.object(audit, limit, 0.01).start()
        self.addCleanup(patch.stopall)

    def row(self, number: int) -> dict[str, Any]:
        timestamp = "2026-01-01T00:00:00.000Z"
        name = self.ledger.name_of(number)
        return {"purchase_id": f"id-{number}", "username": name, "price": 1.5, "timestamp": timestamp}

    def verdict(self, answer: Callable[[int], Answer]) -> Any:
        """Of services that give such an answer for the page of this purchase; each page has one."""
        asked = self.asked

        class Services:
            def __init__(self, *_: Any) -> None:
                """Nothing is opened."""

            def ask(self, _method: str, path: str, _headers: dict[str, str]) -> Answer:
                cursor = parse_qs(urlsplit(path).query).get("cursor", [None])[0]
                asked.append(cursor)
                return answer(int(cursor or 0))

            def close(self) -> None:
                """Nothing is closed."""

        with patch.object(audit, "Door", Services):
            return Audit("http://127.0.0.1:1", Sessions(Auth.OFF, "a1"), self.ledger).run()

    def page(self, number: int) -> Answer:
        cursor = str(number + 1) if number < 2 else None
        return Answer(200, json.dumps({"purchases": [self.row(number)], "next_cursor": cursor}).encode(), None)

    def test_everybody_is_read_once_more_when_all_is_found(self) -> None:
        self.assertTrue(self.verdict(self.page).is_clean())
        self.assertEqual(self.asked, [None, "1", "2"] * 2)

    def test_a_reading_goes_on_with_the_page_that_did_not_come(self) -> None:
        failures = iter([503, None])

        def answer(number: int) -> Answer:
            if number < 2 or (status := next(failures, 200)) == 200:
                return self.page(number)
            if status is None:
                raise NoAnswer("no answer: reset")
            return Answer(status, b"", None)

        with patch.object(audit, "LAG_MAX_SECONDS", 60.0):
            self.assertTrue(self.verdict(answer).is_clean())
        self.assertEqual(self.asked, [None, "1", "2", "2", "2", None, "1", "2"])

    def test_a_cursor_that_is_refused_is_not_used_again(self) -> None:
        refusals = [Answer(400, b"", None)]

        def answer(number: int) -> Answer:
            return refusals.pop() if number == 1 and refusals else self.page(number)

        with patch.object(audit, "LAG_MAX_SECONDS", 60.0):
            self.assertTrue(self.verdict(answer).is_clean())
        self.assertEqual(self.asked[:3], [None, "1", None])

    def test_what_cannot_be_read_is_not_missing(self) -> None:
        verdict = self.verdict(lambda number: Answer(500, b"", None) if number == 1 else self.page(number))
        self.assertEqual((verdict.missing, len(verdict.unread)), ([], 1))
        self.assertFalse(verdict.is_clean())

    def test_what_is_not_in_a_history_that_was_read_is_missing(self) -> None:
        empty = Answer(200, b'{"purchases":[],"next_cursor":null}', None)
        verdict = self.verdict(lambda _: empty)
        self.assertEqual((len(verdict.missing), verdict.unread), (3, []))

    def test_more_purchases_have_more_time(self) -> None:
        given: list[float] = []
        for number in range(3, 5000):
            self.ledger.send(number, BUYER, "1.50")
        with patch.object(Audit, "_read_until", lambda _audit, _is_done, seconds: given.append(seconds)):
            self.verdict(self.page)
        self.assertGreaterEqual(min(given), 5)


if __name__ == "__main__":
    unittest.main()
