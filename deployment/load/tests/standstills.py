"""What a standstill would do to the times of a plan that is served at once before and after."""

import itertools
from bisect import bisect_left

from arrivals import Arrival, Purpose

STANDSTILL_SECONDS = 5.0
STEP_SECONDS = 0.1


class Standstills:
    """Those that one plan can meet with."""

    def __init__(self, arrivals: list[Arrival]) -> None:
        buys = [arrival.at_seconds for arrival in arrivals if arrival.purpose is Purpose.BUY]
        pages = [arrival.at_seconds + arrival.think_seconds for arrival in arrivals]
        looks = [arrival.at_seconds + arrival.think_seconds for arrival in arrivals if arrival.purpose is Purpose.LOOK]
        # When the requests are planned: who buys watches, everybody looks, and who only looks looks at two pages.
        self._planned = {"/buy": sorted(buys), "Aggregated": sorted([*buys, *buys, *pages, *looks])}

    def p99_seconds(self, moment: float) -> dict[str, float]:
        """By the report's names: that of all times if it stands still from this moment on."""
        return {name: _p99_seconds(planned, moment) for name, planned in self._planned.items()}

    def thinnest(self, earliest: float, latest: float) -> float:
        """The moment of which a p99 shows least."""
        moments = itertools.takewhile(lambda moment: moment <= latest, itertools.count(earliest, STEP_SECONDS))
        return min(moments, key=lambda moment: min(self.p99_seconds(moment).values()))


def _p99_seconds(planned: list[float], moment: float) -> float:
    # Who comes first waits longest, and a hundredth of all waits for as long as the p99, or longer.
    slowest = len(planned) - int(0.99 * len(planned))
    came = planned[min(bisect_left(planned, moment) + slowest, len(planned)) - 1]
    return max(0.0, moment + STANDSTILL_SECONDS - came)
