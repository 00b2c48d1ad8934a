"""Follows live what is recorded, with the standard library alone: python3 follow.py http://localhost:30080/users/u1/events"""

import http.client
import json
import sys
import time
import urllib.request


def follow(url, headers={}):
    """Gives each purchase once, for ever; None where some may have been missed: read anew then."""
    last_id, pause_ms = "", 1000
    while True:
        event = {}
        try:
            request = urllib.request.Request(url, headers={**headers, "Last-Event-ID": last_id})
            # Something comes every 15 s: who hears nothing for 45 s has lost the connection.
            with urllib.request.urlopen(request, timeout=45) as answer:
                for line in answer:
                    field, _, value = line.decode().rstrip("\n").partition(": ")
                    event[field] = value
                    if field:
                        continue
                    # Only an empty line makes an event whole: one that was cut off is told again.
                    last_id, pause_ms = event.get("id", last_id), int(event.get("retry", pause_ms))
                    if event.get("event") in ("recorded", "reset"):
                        yield json.loads(event["data"]) or None
                    event = {}
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "code", 503) in (400, 401, 403, 404):
                raise
        time.sleep(pause_ms / 1000)


if __name__ == "__main__":
    for purchase in follow(sys.argv[1]):
        print(json.dumps(purchase), flush=True)
