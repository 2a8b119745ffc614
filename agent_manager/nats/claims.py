"""NATS JWTs: encode, sign and read the claims of operators, accounts and users.

No JOSE library knows NATS's `ed25519-nkey` algorithm, hence these few lines. Nothing here verifies a signature:
nats-server does that, and what we read back is either our own file or what nats-server vouches for.
"""

import base64
import binascii
import hashlib
import json
import time
from typing import Any

from pydantic import JsonValue

from agent_manager.nats.keypair import KeyPair

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


def encode(
    issuer: KeyPair, subject: str, name: str, nats: dict[str, JsonValue], *, expires_at: int | None = None
) -> str:
    """Sign the claims `nats` about the public key `subject`; `expires_at` is in unix seconds."""
    claims: dict[str, Any] = {"iat": int(time.time()), "iss": issuer.public, "name": name, "sub": subject}
    if expires_at is not None:
        claims["exp"] = expires_at
    claims["nats"] = nats | {"version": 2}
    # nats-server takes two JWTs with one `jti` for the same, so it must follow from the content.
    digest = hashlib.new("sha512_256", _json(claims)).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    signed = f"{_base64url(_json(_HEADER))}.{_base64url(_json(claims))}"
    return f"{signed}.{_base64url(issuer.sign(signed.encode()))}"


def decode(token: str) -> dict[str, Any]:
    """Read a JWT's claims without verifying it; raises ValueError when it is none."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, binascii.Error, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the JWT: {error}") from error
    if not isinstance(claims, dict):
        raise ValueError("cannot read the JWT: its claims are not an object")  # noqa: TRY004 - one error for bad input
    return claims


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
