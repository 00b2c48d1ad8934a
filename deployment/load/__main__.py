"""`make load`: load that looks real, on web-server and all that is behind it."""

# First: it makes sockets and sleeping cooperative.
import locust  # isort: skip

import html
import resource
import secrets
import sys
import time
from pathlib import Path

import gevent
import locust.stats
from locust.env import Environment
from locust.html import get_html_report
from locust.runners import STATE_RUNNING, Runner

from arrivals import plan
from audit import Audit
from dispatch import dispatch
from door import Door, NoAnswer
from journeys import Journey, World
from ledger import Ledger, Verdict
from metrics import Sampler
from sessions import Sessions
from settings import Auth, BadSettings, Settings, parse
from steps import Tally
from summary import Summary

EXIT_NOT_CLEAN = 1
# As the services end for bad settings (EX_CONFIG of sysexits.h), or where there is nothing to be loaded.
EXIT_CANNOT_BEGIN = 78
# Files that are open beside the connections of journeys.
SPARE_FILES = 64


class CannotBegin(Exception):
    """Why there is no run."""


def main(words: list[str]) -> int:
    """One run. The exit code says whether it was clean."""
    try:
        settings = parse(words)
        _allow_connections(settings.journeys_max)
        _check_service(settings)
    except (BadSettings, CannotBegin) as reason:
        print(reason, file=sys.stderr)
        return EXIT_CANNOT_BEGIN
    folder = settings.reports / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    summary = run(settings, folder)
    write(summary, folder)
    print(summary.text(), f"report      {folder / 'report.html'}", sep="\n")
    return EXIT_NOT_CLEAN if summary.faults() else 0


def run(settings: Settings, folder: Path) -> Summary:
    """Arrivals from the first to the last, then the audit of what they bought. `folder` gets the metrics."""
    run_id = secrets.token_hex(4)
    locust.stats.PERCENTILES_TO_CHART = [0.5, 0.99]
    environment = Environment(user_classes=[Journey], host=settings.host, locustfile="deployment/load")
    runner = environment.create_local_runner()
    sessions, ledger = Sessions(settings.auth, run_id), Ledger(run_id)
    sessions.sign_in_regulars(settings.host, settings.users)
    sampler = Sampler(settings.metrics, folder / "metrics.csv", settings.seconds)
    sampler.start()
    environment.stats.clear_all()
    runner.update_state(STATE_RUNNING)
    history = gevent.spawn(locust.stats.stats_history, runner)
    world = World(settings.host, run_id, time.monotonic(), sessions, ledger, Tally())
    try:
        dispatch(runner, world, plan(settings), settings.journeys_max)
    except KeyboardInterrupt:
        print("interrupted: what was bought so far is looked for", file=sys.stderr)
    runner.quit()
    history.kill()
    verdict = Audit(settings.host, sessions, ledger).run()
    sampler.stop()
    _tell_report(environment, verdict)
    return Summary(settings, world.tally, verdict, sampler, environment, _exceptions(runner))


def write(summary: Summary, folder: Path) -> None:
    """Locust's report with the summary in front, and the summary by itself."""
    text = summary.text()
    (folder / "summary.txt").write_text(text + "\n", encoding="utf-8")
    (folder / "summary.json").write_text(summary.as_json() + "\n", encoding="utf-8")
    report = get_html_report(summary.environment, show_download_link=False)
    page = f'<pre style="padding: 1rem; overflow-x: auto">{html.escape(text)}</pre>'
    (folder / "report.html").write_text(report.replace("<body>", f"<body>{page}", 1), encoding="utf-8")


def _tell_report(environment: Environment, verdict: Verdict) -> None:
    """Purchases that are not as they were acknowledged stand among the report's failures."""
    for what in ("missing", "twice", "different"):
        for _ in getattr(verdict, what):
            environment.stats.log_error("LEDGER", what, f"purchases {what}")


def _exceptions(runner: Runner) -> list[str]:
    return [f"{error['count']} × {error['msg']}" for error in runner.exceptions.values()]


def _allow_connections(journeys_max: int) -> None:
    needed = journeys_max + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CannotBegin(f"JOURNEYS_MAX: {needed} files would be open; the limit is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _check_service(settings: Settings) -> None:
    door = Door(settings.host)
    try:
        wants_token = door.ask("GET", "/purchases?limit=1", {}).status == 401
    except NoAnswer as reason:
        raise CannotBegin(f"{settings.host}: {reason}; `make run` or `make stack-up` starts it") from reason
    finally:
        door.close()
    if wants_token and settings.auth is Auth.OFF:
        raise CannotBegin(f"{settings.host} asks for tokens: AUTH=jwt")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
