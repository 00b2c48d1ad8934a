"""Who arrives when, and for what: all of it follows from the seed, and none of it from what the services do."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

from settings import Settings

# Zipf's exponent: the second buyer comes half as often as the first, the third a third as often.
SKEW = 1.0
# The rate in a spike is that of the hour and this many times the day's mean.
SPIKE_HEIGHT = 2.0
# How much of a day a spike takes: twenty minutes.
SPIKE_DAYS = 1 / 72
# Of five who come, four buy.
BUY_SHARE = 0.8
# How long buyers look at what they bought before they open their history.
THINK_MEAN_SECONDS = 1.0
THINK_MAX_SECONDS = 5.0
# Half of all prices are below the median; a few are many times as high.
PRICE_MEDIAN = 20.0
PRICE_SPREAD = 1.0
PRICE_MAX = 9_999.99


class Purpose(Enum):
    """What somebody comes for."""

    BUY = "buy"
    LOOK = "look"


@dataclass(frozen=True)
class Arrival:
    """One who comes, and everything that is decided before."""

    number: int
    at_seconds: float
    """When the journey is to start, from the start of the run."""
    buyer: int
    """The rank of who comes: 0 comes most often."""
    purpose: Purpose
    think_seconds: float
    price: str
    """Decimal, two places."""


class Day:
    """How the rate moves through a day: least at midnight, most at noon, with spikes at other times each day."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mean = 1 + settings.spikes * SPIKE_HEIGHT * SPIKE_DAYS
        self._spikes: dict[int, list[float]] = {}

    def rate(self, at_seconds: float) -> float:
        """Arrivals a second at this moment of the run."""
        day, part = divmod(at_seconds / self._settings.day_seconds, 1)
        hour = 1 - (1 - self._settings.night) * math.cos(2 * math.pi * part)
        spikes = sum(SPIKE_HEIGHT for start in self._spikes_of(int(day)) if start <= part < start + SPIKE_DAYS)
        return self._settings.rate * (hour + spikes) / self._mean

    def rate_max(self) -> float:
        """No moment has more."""
        return self._settings.rate * (2 - self._settings.night + self._settings.spikes * SPIKE_HEIGHT) / self._mean

    def _spikes_of(self, day: int) -> list[float]:
        if day not in self._spikes:
            dice = random.Random(f"{self._settings.seed}/{day}")
            self._spikes[day] = [dice.uniform(0, 1 - SPIKE_DAYS) for _ in range(self._settings.spikes)]
        return self._spikes[day]


def plan(settings: Settings) -> Iterator[Arrival]:
    """All arrivals in the order of time: a Poisson process with the day's rate, thinned (Lewis, Shedler, 1979)."""
    dice = random.Random(settings.seed)
    day = Day(settings)
    rate_max = day.rate_max()
    shares = list(accumulate((rank + 1) ** -SKEW for rank in range(settings.users)))
    buyers = range(settings.users)
    number, at_seconds = 0, 0.0
    while (at_seconds := at_seconds + dice.expovariate(rate_max)) < settings.seconds:
        if dice.random() * rate_max >= day.rate(at_seconds):
            continue
        yield Arrival(
            number=number,
            at_seconds=at_seconds,
            buyer=dice.choices(buyers, cum_weights=shares)[0],
            purpose=Purpose.BUY if dice.random() < BUY_SHARE else Purpose.LOOK,
            think_seconds=min(dice.expovariate(1 / THINK_MEAN_SECONDS), THINK_MAX_SECONDS),
            price=_price(dice),
        )
        number += 1


def _price(dice: random.Random) -> str:
    return f"{min(max(PRICE_MEDIAN * dice.lognormvariate(0, PRICE_SPREAD), 0.01), PRICE_MAX):.2f}"
