"""Who arrives when."""

import unittest
from collections import Counter

from arrivals import SPIKE_DAYS, Arrival, Day, Purpose, plan
from settings import parse

# Of ten thousand chances, this many standard deviations are never met by chance.
SIGMAS = 5


def arrivals(*words: str) -> list[Arrival]:
    return list(plan(parse(list(words))))


class Arrivals(unittest.TestCase):
    def test_the_same_seed_gives_the_same_arrivals_and_another_gives_others(self) -> None:
        self.assertEqual(arrivals("SEED=5"), arrivals("SEED=5"))
        self.assertNotEqual(arrivals("SEED=5"), arrivals("SEED=6"))

    def test_the_mean_rate_is_that_of_the_setting(self) -> None:
        expected = 200 * 60
        for words in (["SPIKES=0", "NIGHT=1"], ["SPIKES=3", "NIGHT=0"], ["DAY_SECONDS=20"]):
            count = len(arrivals("RATE=200", *words))
            self.assertLess(abs(count - expected), SIGMAS * expected**0.5, words)

    def test_they_come_in_the_order_of_time_and_numbered(self) -> None:
        all_of_them = arrivals()
        times = [arrival.at_seconds for arrival in all_of_them]
        self.assertEqual(times, sorted(times))
        self.assertEqual([arrival.number for arrival in all_of_them], list(range(len(times))))
        self.assertLess(times[-1], 60)

    def test_noon_is_busier_than_the_night(self) -> None:
        day = Day(parse(["SPIKES=0", "NIGHT=0.25", "RATE=100"]))
        self.assertAlmostEqual(day.rate(0), 25)
        self.assertAlmostEqual(day.rate(30), 175)
        # The next midnight, and the next noon.
        self.assertAlmostEqual(day.rate(60), 25)
        self.assertAlmostEqual(day.rate(90), 175)

    def test_each_day_has_its_spikes_at_times_of_its_own(self) -> None:
        settings = parse(["SPIKES=1", "NIGHT=1", "DAY_SECONDS=100", "SECONDS=1000", "RATE=10"])
        day = Day(settings)
        usual = min(day.rate(tenth / 10) for tenth in range(1000))
        starts = []
        for number in range(3):
            spiky = [tenth for tenth in range(1000) if day.rate(number * 100 + tenth / 10) > usual]
            self.assertAlmostEqual(len(spiky) / 1000, SPIKE_DAYS, delta=0.002)
            starts.append(spiky[0])
        self.assertEqual(len(set(starts)), 3)

    def test_no_moment_is_so_quiet_that_five_seconds_of_standstill_would_not_show_in_the_p99(self) -> None:
        # Who arrives in its first second waits for four seconds or more: that must be a hundredth of all.
        for seed in range(20):
            day = Day(parse([f"SEED={seed}"]))
            for second in range(55):
                waiting = sum(day.rate(second + tenth / 10) / 10 for tenth in range(10))
                self.assertGreater(waiting, 0.01 * 50 * 60, (seed, second))

    def test_a_few_buyers_come_most_often(self) -> None:
        counts = Counter(arrival.buyer for arrival in arrivals("RATE=1000"))
        total = sum(counts.values())
        ten = sum(counts[buyer] for buyer in range(10))
        # By Zipf's law 0.391 of a thousand.
        self.assertAlmostEqual(ten / total, 0.391, delta=0.02)
        self.assertLess(max(counts), 1000)
        self.assertGreater(len(counts), 900)

    def test_most_come_to_buy_at_prices_that_are_taken(self) -> None:
        all_of_them = arrivals()
        buying = sum(arrival.purpose is Purpose.BUY for arrival in all_of_them)
        self.assertAlmostEqual(buying / len(all_of_them), 0.8, delta=0.05)
        for arrival in all_of_them:
            self.assertRegex(arrival.price, r"^\d{1,4}\.\d\d$")
            self.assertGreater(float(arrival.price), 0)


if __name__ == "__main__":
    unittest.main()
