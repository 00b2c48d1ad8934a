"""What can be set of a run: words NAME=VALUE, as they are given to `make load`."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

# A run keeps a line in memory for each purchase, some 500 bytes.
ARRIVALS_MAX = 5_000_000
SECONDS_MAX = 86_400.0
DEFAULTS = {
    "HOST": "http://127.0.0.1:30080",
    "SECONDS": "60",
    "RATE": "50",
    "USERS": "1000",
    "AUTH": "off",
    "DAY_SECONDS": "",
    "NIGHT": "0.75",
    "SPIKES": "2",
    "SEED": "1",
    "JOURNEYS_MAX": "1000",
    "METRICS": "http://127.0.0.1:30081 http://127.0.0.1:30082 http://127.0.0.1:30083",
    "ALLOW_HOST": "",
    "REPORTS": "target/load",
}


class BadSettings(Exception):
    """All mistakes at once, one a line."""


class Auth(Enum):
    """Who the buyers say they are, as web-server's setting of that name wants it."""

    OFF = "off"
    JWT = "jwt"


@dataclass(frozen=True)
class Settings:
    """One run."""

    host: str
    """web-server, where the load goes: http://HOST:PORT."""
    seconds: float
    """For how long buyers arrive."""
    rate: float
    """Arrivals a second, the mean over a day."""
    users: int
    """How many buyers there are; a few of them buy most."""
    auth: Auth
    day_seconds: float
    """How long a day is."""
    night: float
    """The rate in the middle of the night, as part of the day's mean without its spikes; 1 for no night."""
    spikes: int
    """Spikes a day."""
    seed: int
    """The same seed gives the same arrivals."""
    journeys_max: int
    """Journeys under way at once; who arrives over it is turned away, and counted as failed."""
    metrics: tuple[str, ...]
    """Whose /metrics are kept, HOST first; those who do not answer at the start are left out."""
    reports: Path
    """Each run makes a folder of its own in there."""


def parse(words: list[str]) -> Settings:
    """Reads NAME=VALUE words; what is not given has its default.

    Raises BadSettings.
    """
    given = dict(word.partition("=")[::2] for word in words)
    mistakes = [f"{name}: there is no such setting" for name in given if name not in DEFAULTS]
    reader = _Reader({**DEFAULTS, **given}, mistakes)
    host = reader.text["HOST"].rstrip("/")
    seconds = reader.number("SECONDS", 1, SECONDS_MAX)
    settings = Settings(
        host=host,
        seconds=seconds,
        rate=reader.number("RATE", 0.1, 10_000),
        users=int(reader.number("USERS", 1, 1_000_000)),
        auth=reader.auth(),
        day_seconds=reader.number("DAY_SECONDS", 1, SECONDS_MAX) if reader.text["DAY_SECONDS"] else seconds,
        night=reader.number("NIGHT", 0, 1),
        spikes=int(reader.number("SPIKES", 0, 100)),
        seed=int(reader.number("SEED", 0, 2**53)),
        journeys_max=int(reader.number("JOURNEYS_MAX", 1, 100_000)),
        metrics=tuple(dict.fromkeys([host, *reader.text["METRICS"].split()])),
        reports=Path(reader.text["REPORTS"]),
    )
    _check_host(host, reader.text["ALLOW_HOST"], mistakes)
    if settings.rate * settings.seconds > ARRIVALS_MAX:
        mistakes.append(f"RATE, SECONDS: more than {ARRIVALS_MAX} arrivals")
    if mistakes:
        raise BadSettings("\n".join(mistakes))
    return settings


class _Reader:
    def __init__(self, text: dict[str, str], mistakes: list[str]) -> None:
        self.text = text
        self._mistakes = mistakes

    def number(self, name: str, least: float, most: float) -> float:
        try:
            value = float(self.text[name])
        except ValueError:
            value = float("nan")
        # Nothing is as it should be with a NaN either.
        if not least <= value <= most:
            self._mistakes.append(f"{name}: {self.text[name]!r} is no number from {least:g} to {most:g}")
            return least
        return value

    def auth(self) -> Auth:
        try:
            return Auth(self.text["AUTH"])
        except ValueError:
            self._mistakes.append(f"AUTH: {self.text['AUTH']!r} is neither off nor jwt")
            return Auth.OFF


def _check_host(host: str, allowed: str, mistakes: list[str]) -> None:
    """Load on somebody else's machine is an attack: it goes to this one, or to one that was named twice."""
    url = urlsplit(host)
    if url.scheme not in ("http", "https") or not url.hostname or not _has_port(url):
        mistakes.append(f"HOST: {host!r} is no http://HOST:PORT")
    elif not is_loopback(url.hostname) and url.hostname != allowed:
        name = url.hostname
        mistakes.append(f"HOST: {name} is not this machine; ALLOW_HOST={name} says that it may be loaded")


def _has_port(url: SplitResult) -> bool:
    try:
        return url.port != 0
    except ValueError:
        return False


def is_loopback(hostname: str) -> bool:
    """Whether a name or an address is this machine."""
    try:
        return ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost"
