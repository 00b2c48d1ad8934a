"""What is kept of the services' metrics."""

import csv
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import metrics
from metrics import Sampler, Target, parse


class Metrics(unittest.TestCase):
    def test_a_scrape_is_read_by_series(self) -> None:
        text = '# HELP a b c\n# TYPE a counter\na{path="/x y",status="200"} 3\nb 1.5\nc{le="+Inf"} +Inf\n'
        self.assertEqual(parse(text), {'a{path="/x y",status="200"}': 3.0, "b": 1.5, 'c{le="+Inf"}': float("inf")})

    def test_a_summary_shows_what_grew_and_the_most_of_all_series_together(self) -> None:
        target = Target("http://here")
        for cpu, lags in ((1.0, (0, 0)), (3.5, (4, 5)), (4.0, (6, 1))):
            lag = {f'kafka_consumer_lag{{partition="{number}"}}': float(value) for number, value in enumerate(lags)}
            target.note({"process_cpu_seconds_total": cpu, "other_total": cpu, **lag})
        self.assertEqual(target.highlights(), {"most kafka_consumer_lag": 9.0, "process_cpu_seconds_total": 3.0})

    def test_what_a_service_counted_before_it_was_started_anew_stays_counted(self) -> None:
        target = Target("http://here")
        for cpu in (10.0, 12.0, 0.5, 1.0):
            target.note({"process_cpu_seconds_total": cpu})
        self.assertEqual(target.highlights(), {"process_cpu_seconds_total": 3.0})

    def test_a_series_has_a_line_when_it_has_changed_until_the_file_is_full(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "metrics.csv"
            sampler = Sampler((), path, run_seconds=1)
            sampler.start()
            target = Target("http://here")
            for values in ({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 3.0}):
                sampler.write(target, values)
                target.note(values)
            with patch.object(metrics, "FILE_MAX_BYTES", 10):
                for values in ({"a": 5.0}, {"a": 6.0}):
                    sampler.write(target, values)
            self.assertTrue(sampler.is_full)
            sampler.stop()
            with path.open(encoding="utf-8", newline="") as file:
                lines = [(row["series"], row["value"]) for row in csv.DictReader(file)]
        self.assertEqual(lines, [("a", "1"), ("b", "2"), ("b", "3"), ("a", "5")])

    def test_who_does_not_answer_at_the_start_is_left_out(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            sampler = Sampler(("http://127.0.0.1:9",), Path(folder) / "metrics.csv", run_seconds=1)
            sampler.start()
            sampler.stop()
        self.assertEqual((sampler.targets, sampler.absent), ([], ["http://127.0.0.1:9"]))


if __name__ == "__main__":
    unittest.main()
