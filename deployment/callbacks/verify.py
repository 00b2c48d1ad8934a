"""For a receiver of callbacks. The standard library is enough for whsec_; whpk_ needs `pip install cryptography`."""

import base64
import hashlib
import hmac
import time

# Seconds that the sender's clock and ours may be apart: what is older was kept by somebody and sent again.
TOLERANCE_SECONDS = 300


def is_genuine(key: str, headers, body: bytes) -> bool:
    """Whether a callback is genuine. `key` is the whsec_... that you share with the sender, or a whpk_... that it publishes;
    `body` is what came, byte for byte."""
    identifier, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    kind, _, text = key.partition("_")
    secret = base64.b64decode(text)
    signed = f"{identifier}.{timestamp}.".encode() + body
    for part in headers["webhook-signature"].split(" "):
        version, _, signature = part.partition(",")
        if (kind, version) == ("whsec", "v1"):
            expected = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
            if hmac.compare_digest(expected.encode(), signature.encode()):
                return True
        elif (kind, version) == ("whpk", "v1a") and is_signed(secret, signed, signature):
            return True
    return False


def is_signed(public_key: bytes, signed: bytes, signature: str) -> bool:
    """Whether this is the Ed25519 signature of what was signed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(base64.b64decode(signature), signed)
    except (InvalidSignature, ValueError):
        return False
    return True
