"""Starts each journey at its planned time, whatever became of those before: an open loop."""

# Locust's own users wait for their answers before they ask again; so it is told of each journey as of a new user.

import time
from collections.abc import Iterator

import gevent
from locust.runners import Runner

from arrivals import Arrival
from journeys import Journey, World

# How long journeys may take to end after the last arrival: each step has its own patience, and there are few steps.
DRAIN_SECONDS = 60.0
TURNED_AWAY = "turned away: as many journeys as JOURNEYS_MAX allows were under way"


def dispatch(runner: Runner, world: World, arrivals: Iterator[Arrival], journeys_max: int) -> None:
    """Starts them all, and waits for their ends."""
    environment = runner.environment
    for arrival in arrivals:
        # Also without a pause, when we are behind: what is due gets its turn.
        gevent.sleep(max(0.0, world.start + arrival.at_seconds - time.monotonic()))
        world.tally.started += 1
        if runner.user_count < journeys_max:
            Journey(environment, world, arrival).start(runner.user_greenlets)
        else:
            world.tally.turned_away += 1
            # No request was made, so it has no place among the percentiles.
            environment.stats.log_error("ARRIVAL", "turned away", TURNED_AWAY)
    runner.user_greenlets.join(timeout=DRAIN_SECONDS)
