"""The way to web-server: HTTP/1.1 on one connection, from an address of the buyer's own."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from settings import is_loopback

# For how long nothing may be heard: twice the pause between two signs of life of a stream of events.
SILENCE_MAX_SECONDS = 30.0
# Addresses of 127.0.0.0/8 that buyers come from, one each; from 127.1.0.1 on, so that 127.0.0.1 stays this machine's.
FIRST_ADDRESS = (127 << 24) + (1 << 16) + 1
ADDRESSES = 1 << 22


class NoAnswer(Exception):
    """The connection was refused, broke, or said nothing for too long: what was asked may have been done."""


class NoStream(Exception):
    """An answer that is no stream of events."""

    def __init__(self, answer: "Answer") -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    retry_after_seconds: float | None

    def json(self) -> Any:
        """The body; an empty object if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


class Door:
    """One buyer's connection. It is opened when it is needed, and again when it broke."""

    def __init__(self, url: str, buyer: int = 0, silence_max_seconds: float = SILENCE_MAX_SECONDS) -> None:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        address = _address_of(buyer) if is_loopback(parts.hostname or "") and _has_many_addresses() else None
        self._connection = kind(
            parts.hostname or "",
            parts.port,
            timeout=silence_max_seconds,
            source_address=(address, 0) if address else None,
        )

    def ask(self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None = None) -> Answer:
        """One request and its answer.

        Raises NoAnswer.
        """
        try:
            response = self._send(method, path, headers, body)
            return _answer(response, response.read())
        except (OSError, HTTPException) as error:
            self.close()
            raise NoAnswer(_describe(error)) from error

    def listen(self, path: str, headers: dict[str, str]) -> Iterator[tuple[str, Any]]:
        """Server-sent events as pairs of name and data, until the stream ends.

        Raises NoAnswer and NoStream.
        """
        try:
            response = self._send("GET", path, {**headers, "Accept": "text/event-stream"}, None)
            if response.status != 200:
                raise NoStream(_answer(response, response.read()))
            yield from _events(response)
        except (OSError, HTTPException) as error:
            raise NoAnswer(_describe(error)) from error
        finally:
            # Who stops listening leaves the rest of the stream unread.
            self.close()

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()

    def _send(self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None) -> HTTPResponse:
        payload = None if body is None else json.dumps(body)
        typed = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, path, payload, {**typed, **headers})
        return self._connection.getresponse()


def _events(response: HTTPResponse) -> Iterator[tuple[str, Any]]:
    name, data = "message", ""
    for line in iter(response.readline, b""):
        field, _, value = line.decode().rstrip("\r\n").partition(":")
        match field:
            case "event":
                name = value.strip()
            case "data":
                data += value.strip()
            case "" if data and not value:
                yield name, json.loads(data)
                name, data = "message", ""


def _answer(response: HTTPResponse, body: bytes) -> Answer:
    after = response.headers.get("Retry-After", "")
    return Answer(response.status, body, float(after) if after.isdecimal() else None)


def _describe(error: Exception) -> str:
    return "no answer: " + (str(error) or type(error).__name__)


def _address_of(buyer: int) -> str:
    return socket.inet_ntoa((FIRST_ADDRESS + buyer % ADDRESSES).to_bytes(4, "big"))


@cache
def _has_many_addresses() -> bool:
    """Linux takes all of 127.0.0.0/8 for this machine; elsewhere all buyers come from one address."""
    with socket.socket() as probe:
        try:
            probe.bind((_address_of(0), 0))
        except OSError:
            return False
        return True
