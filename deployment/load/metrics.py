"""Keeps the services' own metrics of a run, beside its report."""

import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import gevent

from door import Door, NoAnswer
from steps import TryAgain, Wrong, expect

INTERVAL_MIN_SECONDS = 1.0
# Samples of each target; a longer run is sampled less often.
SAMPLES_MAX = 600
# A stopped service is asked again soon, and the others are not held up.
TIMEOUT_SECONDS = 2.0
# All samples of a run: some 30 KiB each, as a series has a line only when it has changed.
FILE_MAX_BYTES = 64 << 20
# What the summary shows of each target: by how much each series grew, or the most that all of a name were together.
GREW = (
    "process_cpu_seconds_total",
    "purchases_published_total",
    "http_requests_refused_total",
    "kafka_messages_processed_total",
    "event_streams_ended_total",
)
MOST = ("process_resident_memory_bytes", "kafka_consumer_lag", "event_streams", "work_in_flight")


@dataclass
class Target:
    """One /metrics, and what is known of it."""

    url: str
    last: dict[str, float] = field(default_factory=dict)
    grew: dict[str, float] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)
    missed: int = 0
    """Samples that were not answered in time."""

    def highlights(self) -> dict[str, float]:
        """What of it belongs into a summary: no zeros."""
        shown = {**self.grew, **{f"most {name}": value for name, value in self.most.items()}}
        return {series: round(value, 3) for series, value in sorted(shown.items()) if value}

    def note(self, values: dict[str, float]) -> None:
        """One more sample."""
        for series in (series for series in values if self.last and _name(series) in GREW):
            value, before = values[series], self.last.get(series, 0.0)
            # A service that was started anew counts from 0.
            self.grew[series] = self.grew.get(series, 0.0) + (value - before if value >= before else value)
        self.last = values
        for name in MOST:
            together = sum(value for series, value in values.items() if _name(series) == name)
            self.most[name] = max(together, self.most.get(name, together))


class Sampler:
    """Asks all targets again and again, each for itself, and writes what has changed as CSV."""

    def __init__(self, urls: tuple[str, ...], path: Path, run_seconds: float) -> None:
        self.targets = [Target(url) for url in urls]
        self.absent: list[str] = []
        self.is_full = False
        self._path = path
        self._interval = max(INTERVAL_MIN_SECONDS, run_seconds / SAMPLES_MAX)
        self._file: TextIO | None = None
        self._start = 0.0
        self._greenlets: list[gevent.Greenlet] = []

    def start(self) -> None:
        """Leaves out who does not answer, and begins."""
        self._start = time.monotonic()
        self._file = self._path.open("w", encoding="utf-8", newline="")
        csv.writer(self._file).writerow(["seconds", "target", "series", "value"])
        self.absent = [target.url for target in self.targets if not self._sample(target)]
        self.targets = [target for target in self.targets if target.url not in self.absent]
        self._greenlets = [gevent.spawn(self._follow, target) for target in self.targets]

    def stop(self) -> None:
        """Takes a last sample of each."""
        gevent.killall(self._greenlets)
        gevent.joinall([gevent.spawn(self._sample, target) for target in self.targets])
        if self._file:
            self._file.close()

    def _follow(self, target: Target) -> None:
        due = self._start
        while True:
            due = max(due + self._interval, time.monotonic())
            gevent.sleep(due - time.monotonic())
            target.missed += not self._sample(target)

    def _sample(self, target: Target) -> bool:
        door = Door(target.url, silence_max_seconds=TIMEOUT_SECONDS)
        try:
            answer = expect(door.ask("GET", "/metrics", {}), 200)
            values = parse(answer.body.decode())
        except (NoAnswer, TryAgain, Wrong, ValueError):
            return False
        finally:
            door.close()
        self.write(target, values)
        target.note(values)
        return True

    def write(self, target: Target, values: dict[str, float]) -> None:
        """Adds what differs from the target's last sample."""
        if not self._file or self.is_full:
            return
        seconds = f"{time.monotonic() - self._start:.3f}"
        changed = ((series, value) for series, value in values.items() if target.last.get(series) != value)
        csv.writer(self._file).writerows((seconds, target.url, series, f"{value:.15g}") for series, value in changed)
        self.is_full = self._file.tell() > FILE_MAX_BYTES


def parse(text: str) -> dict[str, float]:
    """The samples of Prometheus' text format, by series; without timestamps, which the services do not write.

    Raises ValueError.
    """
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


def _name(series: str) -> str:
    return series.partition("{")[0]
