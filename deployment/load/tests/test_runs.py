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
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from arrivals import plan
from settings import parse
from steps import PATIENCE_SECONDS
from tests.pipelines import DEADLINE_SECONDS, Embedded, Unfaithful, eventually
from tests.standstills import STANDSTILL_SECONDS, Standstills

WATCH = "GET /purchases/{purchase_id}/events"
LOAD = Path(__file__).parents[1]
# Wherever it stands still it must show; here it would show least. Not before all that is sampled was found.
EARLIEST_SECONDS, LATEST_SECONDS = 2.0, 54.0


class Run:
    """A run that has begun."""

    def __init__(self, host: str, *words: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.reports = Path(self._folder.name)
        command = [sys.executable, "-B", str(LOAD), f"HOST={host}", f"REPORTS={self.reports}", *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Waits for its end, on a busy machine too: the exit code."""
        self.printed, _ = self._process.communicate(timeout=4 * DEADLINE_SECONDS)
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
        # In the background of a shell this signal is ignored, and all whom we start would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def begin(name: str, pipeline: Embedded | Unfaithful, *words: str) -> None:
            cls.addClassCleanup(pipeline.close)
            others = f"METRICS={pipeline.management if isinstance(pipeline, Embedded) else ''}"
            cls.runs[name] = Run(pipeline.web, others, *words)
            cls.addClassCleanup(cls.runs[name].close)

        def meanwhile(act: Callable[..., None], name: str, pipeline: Embedded | Unfaithful) -> None:
            thread = threading.Thread(target=act, args=(cls.runs[name], pipeline))
            thread.start()
            cls.addClassCleanup(thread.join)

        stopped = Embedded()
        begin("stopped", stopped, "SECONDS=60")
        meanwhile(_stand_still, "stopped", stopped)
        # A day that is soon over, with all limits of logins as they are.
        # Passwords are hashed by whatever cores are free: few of them.
        begin("accounts", Embedded(AUTH="jwt"), "SECONDS=8", "RATE=4", "USERS=50", "AUTH=jwt", "SPIKES=0")
        begin("forgetful", Unfaithful(lambda number: number != 7), "SECONDS=2")
        begin("double", Unfaithful(lambda number: 1 + (number == 7)), "SECONDS=2")
        begin("slow", Unfaithful(lambda _: 1, answer_seconds=1.0), "SECONDS=2", "JOURNEYS_MAX=5")
        begin("untold", Unfaithful(lambda _: 1, tells=False), "SECONDS=2", "RATE=10")
        silent = Unfaithful(lambda _: 1, tells=False)
        begin("interrupted", silent, "SECONDS=60", "RATE=10")
        meanwhile(_interrupt, "interrupted", silent)

    def test_a_standstill_of_five_seconds_shows_in_the_p99_of_a_minute(self) -> None:
        run = self.runs["stopped"]
        code, journeys = run.end(), run.summary()["journeys"]
        # Where other programs take the cores, reads yield to purchases for longer than some buyers wait: only of that
        # may the run be unclean.
        self.assertLessEqual(journeys["gave_up"], journeys["started"] / 100, run.printed)
        self.assertEqual((code, len(run.summary()["faults"])), (1, 1) if journeys["gave_up"] else (0, 0), run.printed)
        shown = {row["name"]: row for row in run.report()["response_time_statistics"]}
        for name in ("Aggregated", "/buy", "/purchases/{purchase_id}/events"):
            self.assertGreaterEqual(shown[name]["0.99"], 4000, run.printed)
        self.assertGreaterEqual(run.summary()["latencies_ms"]["all"]["p99"], 4000, run.printed)
        ledger = run.summary()["ledger"]
        self.assertGreater(ledger["acknowledged"], 2000)
        self.assertEqual([ledger[kind] for kind in ("missing", "twice", "different", "unread")], [[]] * 4)
        for series in ("purchases_published_total", "kafka_messages_processed_total"):
            self.assertIn(series, run.file("metrics.csv"))
        self.assertIn("purchases sent", run.file("report.html"))

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

    def test_a_purchase_that_is_recorded_again_after_it_was_found_is_found_out(self) -> None:
        run = self.runs["double"]
        self.assertEqual(run.end(), 1, run.printed)
        self.assertEqual(len(run.summary()["ledger"]["twice"]), 1, run.printed)

    def test_who_is_never_told_waits_only_for_so_long_and_the_wait_is_in_the_percentiles(self) -> None:
        run = self.runs["untold"]
        self.assertEqual(run.end(), 1, run.printed)
        journeys, watched = run.summary()["journeys"], run.summary()["latencies_ms"][WATCH]
        self.assertGreater(journeys["gave_up"], 0)
        self.assertEqual((journeys["unfinished"], watched["count"]), (0, journeys["gave_up"]))
        self.assertGreaterEqual(watched["p50"], PATIENCE_SECONDS * 1000)

    def test_what_the_end_of_the_run_cuts_off_is_in_the_percentiles(self) -> None:
        run = self.runs["interrupted"]
        self.assertEqual(run.end(), 1, run.printed)
        cut_off, watched = run.summary()["journeys"]["unfinished"], run.summary()["latencies_ms"][WATCH]
        self.assertGreater(cut_off, 0)
        self.assertGreater(watched["failed"], 0)
        self.assertIn("the run ended first", run.file("report.html"))

    def test_who_arrives_over_the_limit_is_counted_by_a_name_of_its_own(self) -> None:
        run = self.runs["slow"]
        self.assertEqual(run.end(), 1, run.printed)
        journeys = run.summary()["journeys"]
        self.assertGreater(journeys["turned_away"], 0)
        ended = journeys["turned_away"] + journeys["finished"] + journeys["gave_up"] + journeys["unfinished"]
        self.assertEqual(journeys["started"], ended)
        [failure] = [row for row in run.report()["failures_statistics"] if row["name"] == "turned away"]
        self.assertEqual(failure["occurrences"], journeys["turned_away"])
        self.assertIn("who were turned away have no times", run.printed)

    def test_nothing_to_be_loaded_is_told_at_once(self) -> None:
        for host in ("http://127.0.0.1:9", "http://192.0.2.1:80"):
            run = Run(host)
            self.addCleanup(run.close)
            self.assertEqual(run.end(), 78, run.printed)
            self.assertEqual(list(run.reports.iterdir()), [])


def _stand_still(run: Run, pipeline: Embedded) -> None:
    eventually("the run has begun", lambda: list(run.reports.glob("*/metrics.csv")))
    time.sleep(Standstills(list(plan(parse(["SECONDS=60"])))).thinnest(EARLIEST_SECONDS, LATEST_SECONDS))
    pipeline.process.send_signal(signal.SIGSTOP)
    time.sleep(STANDSTILL_SECONDS)
    pipeline.process.send_signal(signal.SIGCONT)


def _interrupt(run: Run, pipeline: Unfaithful) -> None:
    eventually("somebody watches", lambda: pipeline.watchers)
    run.interrupt()


if __name__ == "__main__":
    unittest.main()
