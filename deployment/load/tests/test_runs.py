"""Whole runs, as `make load` makes them. They wait for most of their time, so all of them run at once."""

import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any, ClassVar

from tests.pipelines import DEADLINE_SECONDS, Embedded, Unfaithful, eventually

LOAD = Path(__file__).parents[1]
STANDSTILL_SECONDS = 5.0
# Somewhere in the middle of the run; where does not matter.
BEFORE_STANDSTILL_SECONDS = 20.0


class Run:
    """A run that has begun."""

    def __init__(self, host: str, *words: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.reports = Path(self._folder.name)
        command = [sys.executable, "-B", str(LOAD), f"HOST={host}", f"REPORTS={self.reports}", *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def end(self) -> int:
        """Waits for its end: the exit code."""
        self.printed, _ = self._process.communicate(timeout=2 * DEADLINE_SECONDS)
        return self._process.returncode

    def file(self, name: str) -> str:
        """One file of its report."""
        [path] = self.reports.glob(f"*/{name}")
        return path.read_text(encoding="utf-8")

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.file("summary.json"))
        return summary

    def report(self) -> dict[str, Any]:
        """What the HTML report shows."""
        [arguments] = re.findall(r"window\.templateArgs = (.*)", self.file("report.html"))
        shown: dict[str, Any] = json.loads(arguments)
        return shown

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


class Runs(unittest.TestCase):
    runs: ClassVar[dict[str, Run]] = {}

    @classmethod
    def setUpClass(cls) -> None:
        def begin(name: str, pipeline: Embedded | Unfaithful, *words: str) -> None:
            cls.addClassCleanup(pipeline.close)
            others = f"METRICS={pipeline.management if isinstance(pipeline, Embedded) else ''}"
            cls.runs[name] = Run(pipeline.web, others, *words)
            cls.addClassCleanup(cls.runs[name].close)

        stopped = Embedded()
        begin("stopped", stopped, "SECONDS=60")
        standstill = threading.Thread(target=_stand_still, args=(cls.runs["stopped"], stopped))
        standstill.start()
        cls.addClassCleanup(standstill.join)
        # A day that is soon over, with all limits of logins as they are.
        begin("accounts", Embedded(AUTH="jwt"), "SECONDS=8", "RATE=10", "USERS=100", "AUTH=jwt", "SPIKES=0")
        begin("forgetful", Unfaithful(lambda number: number != 7), "SECONDS=2")
        begin("double", Unfaithful(lambda number: 1 + (number == 7)), "SECONDS=2")
        begin("slow", Unfaithful(lambda _: 1, answer_seconds=1.0), "SECONDS=2", "JOURNEYS_MAX=5")

    def test_a_standstill_of_five_seconds_shows_in_the_p99_of_a_minute(self) -> None:
        run = self.runs["stopped"]
        self.assertEqual(run.end(), 0, run.printed)
        shown = {row["name"]: row for row in run.report()["response_time_statistics"]}
        for name in ("Aggregated", "/buy", "/purchases/{purchase_id}/events"):
            self.assertGreaterEqual(shown[name]["0.99"], 4000, run.printed)
        self.assertGreaterEqual(run.summary()["latencies_ms"]["all"]["p99"], 4000, run.printed)
        ledger = run.summary()["ledger"]
        self.assertGreater(ledger["acknowledged"], 2000)
        self.assertEqual((ledger["missing"], ledger["twice"], ledger["different"]), ([], [], []))
        for series in ("purchases_published_total", "kafka_messages_processed_total"):
            self.assertIn(series, run.file("metrics.csv"))
        self.assertIn("clean", run.file("report.html"))

    def test_buyers_with_accounts_sign_in_each_from_an_address_of_its_own(self) -> None:
        run = self.runs["accounts"]
        self.assertEqual(run.end(), 0, run.printed)
        taken = run.summary()["latencies_ms"]
        for step in ("POST /account", "POST /login", "POST /refresh", "POST /buy"):
            self.assertGreater(taken[step]["count"], 0, run.printed)

    def test_an_acknowledged_purchase_that_is_not_recorded_is_found_out(self) -> None:
        run = self.runs["forgetful"]
        self.assertEqual(run.end(), 1, run.printed)
        self.assertEqual(len(run.summary()["ledger"]["missing"]), 1, run.printed)
        self.assertIn("NOT CLEAN: 1 purchases acknowledged and not recorded", run.printed)
        [failure] = run.report()["failures_statistics"]
        self.assertEqual((failure["method"], failure["name"], failure["occurrences"]), ("LEDGER", "missing", 1))

    def test_a_purchase_that_is_recorded_twice_is_found_out(self) -> None:
        run = self.runs["double"]
        self.assertEqual(run.end(), 1, run.printed)
        self.assertEqual(len(run.summary()["ledger"]["twice"]), 1, run.printed)

    def test_who_arrives_over_the_limit_is_counted_by_a_name_of_its_own(self) -> None:
        run = self.runs["slow"]
        self.assertEqual(run.end(), 1, run.printed)
        journeys = run.summary()["journeys"]
        self.assertGreater(journeys["turned_away"], 0)
        ended = journeys["turned_away"] + journeys["finished"] + journeys["gave_up"] + journeys["unfinished"]
        self.assertEqual(journeys["started"], ended)
        [failure] = [row for row in run.report()["failures_statistics"] if row["name"] == "turned away"]
        self.assertEqual(failure["occurrences"], journeys["turned_away"])

    def test_nothing_to_be_loaded_is_told_at_once(self) -> None:
        for host in ("http://127.0.0.1:9", "http://192.0.2.1:80"):
            run = Run(host)
            self.addCleanup(run.close)
            self.assertEqual(run.end(), 78, run.printed)
            self.assertEqual(list(run.reports.iterdir()), [])


def _stand_still(run: Run, pipeline: Embedded) -> None:
    eventually("the run has begun", lambda: list(run.reports.glob("*/metrics.csv")))
    time.sleep(BEFORE_STANDSTILL_SECONDS)
    pipeline.process.send_signal(signal.SIGSTOP)
    time.sleep(STANDSTILL_SECONDS)
    pipeline.process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    unittest.main()
