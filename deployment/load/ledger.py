"""What was bought, to be held against what is recorded."""

from collections.abc import Set
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple


class Recorded(NamedTuple):
    """One row of a history."""

    purchase_id: str
    price: str


@dataclass(slots=True)
class Sent:
    """One purchase that was sent; perhaps several times, under one key."""

    number: int
    buyer: int
    price: str
    purchase_id: str | None = None
    """Known once it is acknowledged (201, 202)."""
    recorded: tuple[Recorded, ...] = ()
    """What the latest reading of its buyer's history has of it."""

    def is_found(self) -> bool:
        """Whether it is recorded under the id that was acknowledged."""
        return any(row.purchase_id == self.purchase_id for row in self.recorded)

    def is_different(self) -> bool:
        """Whether it is recorded, but not as it was sent and acknowledged."""
        other_price = any(Decimal(row.price) != Decimal(self.price) for row in self.recorded)
        return other_price or bool(self.recorded and self.purchase_id is not None and not self.is_found())


@dataclass
class Verdict:
    """What became of them."""

    sent: int = 0
    acknowledged: int = 0
    missing: list[str] = field(default_factory=list)
    """Acknowledged, and not in a history that was read to its end."""
    twice: list[str] = field(default_factory=list)
    """Recorded more than once, acknowledged or not."""
    different: list[str] = field(default_factory=list)
    """Recorded under another id, or with another price, than was acknowledged."""
    unread: list[str] = field(default_factory=list)
    """Histories that could not be read to their end: nobody knows what is not in them, or twice."""

    def findings(self) -> list[tuple[str, list[str]]]:
        """Everything that is not well, by kind."""
        kinds = ("missing", "twice", "different", "unread")
        return [(kind, getattr(self, kind)) for kind in kinds]

    def is_clean(self) -> bool:
        """Every acknowledged purchase is recorded once, and no other one more than once."""
        return not any(found for _, found in self.findings())


class Ledger:
    """Keeps a line for each purchase of a run, and what was read of it."""

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

    def sent_count(self) -> int:
        """Purchases, acknowledged or not."""
        return sum(len(lines) for lines in self._sent.values())

    def begin_reading(self, buyer: int) -> None:
        """This buyer's history is read from its beginning: what an earlier reading had is forgotten."""
        for sent in self._sent[buyer].values():
            sent.recorded = ()

    def note(self, buyer: int, purchases: list[dict[str, Any]]) -> None:
        """The next page of a buyer's history. Of other runs and other people's purchases nothing is kept."""
        for purchase in purchases:
            name = purchase["username"]
            number = name.rpartition(" ")[2]
            # Digits of other scripts are no number of ours.
            sent = self._sent[buyer].get(int(number)) if number.isascii() and number.isdigit() else None
            if sent and name == self.name_of(sent.number):
                sent.recorded += (Recorded(purchase["purchase_id"], str(purchase["price"])),)

    def is_complete(self, buyer: int) -> bool:
        """Whether everything that this buyer was acknowledged was read."""
        return all(sent.purchase_id is None or sent.is_found() for sent in self._sent[buyer].values())

    def judge(self, unread: Set[int] = frozenset()) -> Verdict:
        """Holds what was read against what was sent. `unread`: whose history was not read to its end."""
        verdict = Verdict()
        for buyer, lines in self._sent.items():
            if buyer in unread:
                verdict.unread.append(f"buyer {buyer + 1}, {len(lines)} purchases sent")
            for sent in lines.values():
                self._judge(sent, buyer not in unread, verdict)
        return verdict

    def _judge(self, sent: Sent, is_read: bool, verdict: Verdict) -> None:
        verdict.sent += 1
        verdict.acknowledged += sent.purchase_id is not None
        line = f"{self.name_of(sent.number)}, {sent.purchase_id or 'not acknowledged'}"
        if len(sent.recorded) > 1:
            verdict.twice.append(line)
        if sent.is_different():
            verdict.different.append(line)
        if is_read and sent.purchase_id is not None and not sent.recorded:
            verdict.missing.append(line)
