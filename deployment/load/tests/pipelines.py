"""What is loaded in the tests: the pipeline of `make run`, and one that does not keep its word."""

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

# For how long anything is waited for, also on a busy machine.
DEADLINE_SECONDS = 60.0
PAUSE_SECONDS = 0.02


def eventually(what: str, condition: Callable[[], Any]) -> Any:
    """What the condition gives, as soon as it gives something."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(PAUSE_SECONDS)
    raise AssertionError(f"{what}: not within {DEADLINE_SECONDS:g} s")


class Embedded:
    """`make run` in a folder of its own, on free ports."""

    def __init__(self, **settings: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "log"
        program = Path(os.environ["RELEASE"]) / "embedded"
        fixed = {
            "DATA_DIR": f"{self._folder.name}/data",
            "WEB_LISTEN_ADDRESS": "127.0.0.1:0",
            "MANAGEMENT_LISTEN_ADDRESS": "127.0.0.1:0",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([program], env={**os.environ, **fixed, **settings}, stderr=log, stdout=log)
        self.web = eventually("web-server listens", lambda: self._address("buy and read"))
        self.management = eventually("management-api listens", lambda: self._address("management-api"))

    def close(self) -> None:
        """Ends it, and leaves nothing behind."""
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()

    def _address(self, what: str) -> str | None:
        found = re.search(rf"{what}\s+(http://[0-9.:]+)", self._log.read_text(encoding="utf-8"))
        return found[1] if found else None


class Unfaithful:
    """Answers as web-server does, slowly, and records as many times as it is told to."""

    def __init__(self, copies: Callable[[int], int], answer_seconds: float = 0.0) -> None:
        """`copies`: how often the purchase of this number, from 1, is recorded."""
        purchases: list[dict[str, Any]] = []
        count = iter(range(1, 1_000_000))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(answer_seconds)
                price = float(body["price"])
                purchase = {
                    **body,
                    "price": price,
                    "purchase_id": str(uuid4()),
                    "timestamp": "2026-01-01T00:00:00.000Z",
                }
                for copy in range(copies(next(count))):
                    purchases.append(purchase if copy == 0 else {**purchase, "purchase_id": str(uuid4())})
                self._answer(202, "application/json", json.dumps({"data": purchase}))

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                if url.path.endswith("/events"):
                    told = {"purchase_id": url.path.split("/")[2]}
                    self._answer(200, "text/event-stream", f"event: recorded\ndata: {json.dumps(told)}\n\n")
                    return
                user = parse_qs(url.query).get("userid", [""])[0]
                page = [purchase for purchase in purchases if purchase["userid"] == user]
                self._answer(200, "application/json", json.dumps({"purchases": page, "next_cursor": None}))

            def _answer(self, status: int, kind: str, body: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.web = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
