"""What was bought, to be held against what is recorded."""

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass
class Sent:
    """One purchase that was sent; perhaps several times, under one key."""

    number: int
    buyer: int
    price: str
    purchase_id: str | None = None
    """Known once it is acknowledged (201, 202)."""


@dataclass
class Verdict:
    """What became of them."""

    sent: int = 0
    acknowledged: int = 0
    missing: list[str] = field(default_factory=list)
    """Acknowledged, and not found."""
    twice: list[str] = field(default_factory=list)
    """Recorded more than once, acknowledged or not."""
    different: list[str] = field(default_factory=list)
    """Recorded under another id, or with another price, than was acknowledged."""

    def is_clean(self) -> bool:
        """Every acknowledged purchase is recorded once, and no other one more than once."""
        return not (self.missing or self.twice or self.different)


class Ledger:
    """Keeps a line for each purchase of a run."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._sent: dict[int, dict[int, Sent]] = {}
        self.first_timestamp: str | None = None
        """The earliest that the services gave (RFC 3339, UTC)."""

    def name_of(self, number: int) -> str:
        """The username of a purchase: it is found again by that, also if it was never acknowledged."""
        return f"load {self._run} {number}"

    def send(self, number: int, buyer: int, price: str) -> Sent:
        """Before it is sent for the first time."""
        sent = Sent(number, buyer, price)
        self._sent.setdefault(buyer, {})[number] = sent
        return sent

    def acknowledge(self, sent: Sent, purchase: dict[str, Any]) -> None:
        """The services have said 201 or 202. `purchase`: the answer's `data`."""
        sent.purchase_id = purchase["purchase_id"]
        self.first_timestamp = min(self.first_timestamp or purchase["timestamp"], purchase["timestamp"])

    def buyers(self) -> list[int]:
        """All who sent anything."""
        return list(self._sent)

    def judge(self, histories: dict[int, list[dict[str, Any]]]) -> Verdict:
        """Holds the buyers' recorded purchases against the ledger. A buyer without a history has nothing recorded."""
        verdict = Verdict()
        for buyer, lines in self._sent.items():
            recorded = histories.get(buyer, [])
            counts = Counter(purchase["username"] for purchase in recorded)
            by_name = {purchase["username"]: purchase for purchase in recorded}
            for sent in lines.values():
                name = self.name_of(sent.number)
                _judge(sent, name, counts[name], by_name.get(name), verdict)
        return verdict

    def is_complete(self, buyer: int, history: list[dict[str, Any]]) -> bool:
        """Whether everything that this buyer was acknowledged is in the history."""
        ids = {purchase["purchase_id"] for purchase in history}
        return all(sent.purchase_id is None or sent.purchase_id in ids for sent in self._sent[buyer].values())


def _judge(sent: Sent, name: str, count: int, recorded: dict[str, Any] | None, verdict: Verdict) -> None:
    verdict.sent += 1
    verdict.acknowledged += sent.purchase_id is not None
    line = f"{name}, {sent.purchase_id or 'not acknowledged'}"
    if count > 1:
        verdict.twice.append(line)
    if recorded is None:
        if sent.purchase_id is not None:
            verdict.missing.append(line)
    elif sent.purchase_id not in (None, recorded["purchase_id"]) or not _is_price(recorded["price"], sent.price):
        verdict.different.append(line)


def _is_price(recorded: Any, sent: str) -> bool:
    return Decimal(str(recorded)) == Decimal(sent)
