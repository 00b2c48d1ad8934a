"""What a run comes to: whether it was clean, as text for people and as JSON for programs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from locust.env import Environment
from locust.stats import StatsEntry, sort_stats

from journeys import LATE_SECONDS
from ledger import Verdict
from metrics import Sampler
from settings import Settings
from steps import Tally

# Lines of one kind of fault that are shown; all are counted.
LINES_MAX = 10


@dataclass(frozen=True)
class Summary:
    """One run that is over."""

    settings: Settings
    tally: Tally
    verdict: Verdict
    sampler: Sampler
    environment: Environment
    exceptions: list[str]
    """What journeys were ended by that is no answer: mistakes of this program."""

    def faults(self) -> list[str]:
        """Why the run was not clean; nothing, if it was."""
        counts = {
            "purchases acknowledged and not recorded": len(self.verdict.missing),
            "purchases recorded twice": len(self.verdict.twice),
            "purchases recorded otherwise than acknowledged": len(self.verdict.different),
            "journeys that gave up": self.tally.gave_up,
            "journeys that did not end": self.tally.unfinished,
            "arrivals turned away (JOURNEYS_MAX)": self.tally.turned_away,
        }
        return [f"{count:,} {what}" for what, count in counts.items() if count] + self.exceptions

    def text(self) -> str:
        """A page of it."""
        return "\n".join([*self._head(), "", *self._latencies(), "", *self._metrics(), "", self._end()])

    def as_json(self) -> str:
        """All of it."""
        settings = {**vars(self.settings), "auth": self.settings.auth.value, "reports": str(self.settings.reports)}
        whole = {
            "is_clean": not self.faults(),
            "faults": self.faults(),
            "settings": settings,
            "journeys": vars(self.tally),
            "ledger": vars(self.verdict),
            "latencies_ms": {name: _row(entry) for name, entry in self._entries()},
            "metrics": {target.url: target.highlights() for target in self.sampler.targets},
        }
        return json.dumps(whole, indent=2)

    def _head(self) -> list[str]:
        settings, tally, verdict = self.settings, self.tally, self.verdict
        lines = [
            f"load        {settings.host}: {tally.started:,} arrivals in {settings.seconds:g} s,"
            f" {settings.rate:g} a second at the mean, {settings.users:,} buyers, AUTH {settings.auth.value},"
            f" seed {settings.seed}",
            f"journeys    {tally.finished:,} finished, {tally.gave_up:,} gave up, {tally.unfinished:,} unfinished,"
            f" {tally.turned_away:,} turned away",
            f"generator   {tally.late:,} journeys started more than {LATE_SECONDS * 1000:g} ms late,"
            f" {tally.late_max_seconds * 1000:,.0f} ms at most; that is in their times",
            f"ledger      {verdict.sent:,} purchases sent, {verdict.acknowledged:,} acknowledged,"
            f" {len(verdict.missing):,} missing, {len(verdict.twice):,} twice, {len(verdict.different):,} different",
        ]
        lines += [f"tried again {count:,} × {what}" for what, count in tally.tried_again.most_common(LINES_MAX)]
        for what, found in (("missing", verdict.missing), ("twice", verdict.twice), ("different", verdict.different)):
            lines += [f"{what:<11} {line}" for line in found[:LINES_MAX]]
        return lines

    def _latencies(self) -> Iterator[str]:
        yield f"{'ms from the planned start':<36}{'count':>9}{'failed':>9}{'p50':>9}{'p99':>9}{'p99.9':>9}{'most':>9}"
        for name, entry in self._entries():
            yield f"{name:<36}" + "".join(f"{value:>9,.0f}" for value in _row(entry).values())

    def _metrics(self) -> Iterator[str]:
        for target in self.sampler.targets:
            missed = f", {target.missed:,} samples not answered" if target.missed else ""
            yield f"metrics of {target.url}{missed}"
            for series, value in target.highlights().items():
                yield f"  {series} {value:,.15g}"
        if self.sampler.absent:
            yield f"no metrics of {', '.join(self.sampler.absent)}: nobody answers there"
        if self.sampler.is_full:
            yield "metrics.csv is full; it ends before the run did"

    def _end(self) -> str:
        faults = self.faults()
        return "clean" if not faults else "NOT CLEAN: " + "; ".join(faults)

    def _entries(self) -> list[tuple[str, StatsEntry]]:
        entries = [entry for entry in sort_stats(self.environment.stats.entries) if entry.num_requests]
        named = [(f"{entry.method} {entry.name}", entry) for entry in entries]
        return [*named, ("all", self.environment.stats.total)]


def _row(entry: StatsEntry) -> dict[str, Any]:
    return {
        "count": entry.num_requests,
        "failed": entry.num_failures,
        "p50": entry.get_response_time_percentile(0.5),
        "p99": entry.get_response_time_percentile(0.99),
        "p99.9": entry.get_response_time_percentile(0.999),
        "most": entry.max_response_time,
    }
