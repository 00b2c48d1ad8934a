"""What was bought, against what is recorded."""

import unittest
from typing import Any

from ledger import Ledger


def recorded(ledger: Ledger, number: int, purchase_id: str, price: str = "1.5") -> dict[str, Any]:
    """A purchase as the read API tells it."""
    timestamp = f"2026-01-01T00:00:{number:02}.000Z"
    return {
        "purchase_id": purchase_id,
        "username": ledger.name_of(number),
        "price": float(price),
        "timestamp": timestamp,
    }


class LedgerOfARun(unittest.TestCase):
    def setUp(self) -> None:
        self.ledger = Ledger("a1")
        # One is acknowledged, the other one never was.
        sent = self.ledger.send(1, buyer=7, price="1.50")
        self.ledger.acknowledge(sent, recorded(self.ledger, 1, "id-1"))
        self.ledger.send(2, buyer=7, price="1.50")

    def verdict(self, *history: dict[str, Any]) -> Any:
        return self.ledger.judge({7: list(history)})

    def test_a_purchase_that_was_acknowledged_and_is_recorded_once_is_well(self) -> None:
        verdict = self.verdict(recorded(self.ledger, 1, "id-1"))
        self.assertTrue(verdict.is_clean())
        self.assertEqual((verdict.sent, verdict.acknowledged), (2, 1))

    def test_a_purchase_that_was_never_acknowledged_may_be_recorded(self) -> None:
        self.assertTrue(self.verdict(recorded(self.ledger, 1, "id-1"), recorded(self.ledger, 2, "id-2")).is_clean())

    def test_a_purchase_that_was_acknowledged_and_is_not_recorded_is_missing(self) -> None:
        verdict = self.verdict(recorded(self.ledger, 2, "id-2"))
        self.assertEqual(verdict.missing, ["load a1 1, id-1"])
        self.assertEqual(len(self.ledger.judge({}).missing), 1)

    def test_a_purchase_that_is_recorded_under_two_ids_is_there_twice(self) -> None:
        verdict = self.verdict(recorded(self.ledger, 1, "id-1"), recorded(self.ledger, 1, "id-3"))
        self.assertEqual(len(verdict.twice), 1)
        two = [recorded(self.ledger, 2, "id-2"), recorded(self.ledger, 2, "id-4")]
        verdict = self.verdict(recorded(self.ledger, 1, "id-1"), *two)
        self.assertEqual(verdict.twice, ["load a1 2, not acknowledged"])

    def test_another_price_or_id_than_was_acknowledged_is_different(self) -> None:
        self.assertEqual(len(self.verdict(recorded(self.ledger, 1, "id-1", "2.5")).different), 1)
        self.assertEqual(len(self.verdict(recorded(self.ledger, 1, "id-9")).different), 1)

    def test_what_others_have_bought_is_nobody_s_business(self) -> None:
        other = recorded(Ledger("b2"), 1, "id-8")
        self.assertTrue(self.verdict(recorded(self.ledger, 1, "id-1"), other, other).is_clean())

    def test_a_history_is_complete_with_all_that_was_acknowledged(self) -> None:
        self.assertTrue(self.ledger.is_complete(7, [recorded(self.ledger, 1, "id-1")]))
        self.assertFalse(self.ledger.is_complete(7, [recorded(self.ledger, 2, "id-2")]))


if __name__ == "__main__":
    unittest.main()
