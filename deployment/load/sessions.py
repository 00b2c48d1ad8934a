"""Who the buyers are: names only, or accounts with a session each."""

import base64
import json
import time
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool

from door import Door
from settings import Auth
from steps import JourneyOver, Steps, Tally, expect

# That of `make accounts`, which makes the same buyers.
PASSWORD = "correct horse battery"
# Of ten buyers, the one who comes most often has a session from an earlier day.
REGULARS_SHARE = 0.1
# For how long they are signed in before a run begins; who is not by then is a newcomer.
REGULARS_SECONDS = 60.0
# As many at once as web-server has passwords hashed at once.
SIGN_INS = 2
# A token is changed so long before it ends that no request meets its end.
MARGIN_SECONDS = 60.0


class Session:
    """What one buyer's browser keeps, for all its journeys."""

    def __init__(self, auth: Auth, run: str, buyer: int) -> None:
        self.buyer = buyer
        self.userid = f"load-{run}-{buyer + 1}"
        self.headers: dict[str, str] = {}
        self._is_account = auth is Auth.JWT
        self._name = f"buyer-{buyer + 1}"
        self._refresh_token: str | None = None
        self._ends = 0.0
        # A browser asks for one token, however many tabs need it.
        self._turn = BoundedSemaphore()

    def enter(self, steps: Steps, door: Door) -> None:
        """Signs in, as far as that is needed: newcomers make an account first, who comes back has a refresh token.

        Raises JourneyOver.
        """
        if not self._is_account:
            return
        with self._turn:
            if time.monotonic() < self._ends - MARGIN_SECONDS:
                return
            if self._refresh_token:
                spent = {"refresh_token": self._refresh_token}
                self._keep(steps.take("POST /refresh", lambda: _post(door, "/refresh", spent, 200)))
                return
            email = f"{self._name}@example.com"
            account = {"username": self._name, "email": email, "password": PASSWORD}
            login = {"email": email, "password": PASSWORD}
            # 409: made by an earlier run, or by `make accounts`.
            steps.take("POST /account", lambda: _post(door, "/account", account, 201, 409))
            self._keep(steps.take("POST /login", lambda: _post(door, "/login", login, 200)))

    def leave(self) -> None:
        """Forgets the access token, as a browser that is closed does."""
        self._ends = 0.0

    def _keep(self, tokens: dict[str, Any]) -> None:
        self._refresh_token = tokens["refresh_token"]
        self._ends = time.monotonic() + tokens["expires_in"]
        self.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        self.userid = _subject(tokens["access_token"])


class Sessions:
    """Those of all buyers."""

    def __init__(self, auth: Auth, run: str) -> None:
        self._auth = auth
        self._run = run
        self._sessions: dict[int, Session] = {}

    def of(self, buyer: int) -> Session:
        """The session of one of them; it is there from the first question on."""
        return self._sessions.setdefault(buyer, Session(self._auth, self._run, buyer))

    def sign_in_regulars(self, host: str, users: int) -> None:
        """Signs in who comes most often, as on an earlier day: not part of the load. Without accounts, nothing."""
        if self._auth is Auth.OFF:
            return
        pool = Pool(SIGN_INS)
        with gevent.Timeout(REGULARS_SECONDS, False):
            pool.map(lambda buyer: _sign_in(self.of(buyer), host), range(int(users * REGULARS_SHARE)))
        pool.kill()


def _sign_in(session: Session, host: str) -> None:
    door = Door(host, session.buyer)
    try:
        session.enter(Steps(None, Tally(), time.monotonic()), door)
        session.leave()
    except JourneyOver:
        # A newcomer, then; the journeys will tell what is wrong.
        pass
    finally:
        door.close()


def _post(door: Door, path: str, body: dict[str, str], *statuses: int) -> Any:
    return expect(door.ask("POST", path, {}, body), *statuses).json()


def _subject(token: str) -> str:
    """The claim `sub` of a JWT, unverified: the account's id, by which it buys."""
    payload = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])
