"""Which JWTs are believed, and what they say of their bearers."""

import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from management_api.auth.door import Unauthenticated
from management_api.auth.jwks import KeySet, KeySetUnavailable, read_keys
from management_api.auth.jwts import JwtVerifier
from management_api.auth.scopes import BUNDLES
from management_api.auth.settings import JwtSettings

SECRET = "s" * 32
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
CURVE = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JWT_SECRET", raising=False)


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "ann", "exp": time.time() + 60} | more


def signed(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **more: Any) -> str:
    return jwt.encode({k: v for k, v in claims(**more).items() if v is not None}, key, algorithm, headers)


def verifier(**settings: Any) -> JwtVerifier:
    return JwtVerifier(JwtSettings(**({"secret": SECRET} | settings)))


def key_set(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": entries}).encode()


def public(key: Any = RSA, key_id: str = "1", **more: Any) -> dict[str, Any]:
    kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return kind.to_jwk(key.public_key(), as_dict=True) | {"kid": key_id} | more


async def test_the_tokens_that_are_there_today_are_those_of_users() -> None:
    token = signed(workspaceId="acme", sessionId="s", email="ann@acme.example", name="Ann", iat=time.time())

    caller = await verifier().caller(token)

    assert (caller.subject, caller.workspace, caller.roles) == ("ann", "acme", {"user"})
    assert caller.scopes == BUNDLES["user"]


@pytest.mark.parametrize(
    ("more", "roles", "scope"),
    [
        ({"roles": ["operator", "painter"]}, {"operator"}, "agents:control"),
        ({"role": "viewer"}, {"viewer"}, "agents:read"),
        ({"scope": "openid metrics:read"}, set(), "metrics:read"),
        ({"scopes": ["audit:read"], "roles": ["viewer"]}, {"viewer"}, "audit:read"),
        ({"roles": {"operator": 1}, "scope": 7}, {"user"}, "runs:write"),
        ({"scope": "openid profile", "workspace_id": "w"}, {"user"}, "agents:read"),
    ],
)
async def test_roles_and_scopes_are_read_as_issuers_write_them(
    more: dict[str, Any], roles: set[str], scope: str
) -> None:
    caller = await verifier().caller(signed(**more))

    assert caller.roles == roles
    assert scope in caller.scopes
    assert "tokens:write" not in caller.scopes


REFUSED = [
    (signed(exp=None), "exp"),
    (signed(exp=time.time() - 60), "expired"),
    (signed(nbf=time.time() + 60), "not yet valid"),
    (signed(sub=None), "sub"),
    (signed(sub=""), "subject"),
    (signed(sub="x" * 300), "subject"),
    (signed(workspaceId=7), "workspace"),
    (signed(exp=float("inf")), ""),
    (signed(exp="soon"), ""),
    (signed(nbf=[1]), ""),
    (signed(sub={"a": 1}), ""),
    (signed(headers={"crit": ["x"]}), ""),
    (signed(key="o" * 32), "Signature"),
    (signed(key=b"s" * 64, algorithm="HS512"), "alg"),
    (signed(key="", algorithm="none"), "alg"),
    (signed(RSA, "RS256"), "alg"),
    (signed() + "x", "Signature"),
    ("a.b.c", ""),
    ("." * 2, ""),
    (f"{'W1tb' * 2000}.e30.x", ""),
    ("x" * 9000 + "..", "too long"),
    (signed().split(".")[0] + "..", ""),
]


# Numbered: a token in a test's name would be another in each process.
@pytest.mark.parametrize(("token", "why"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
async def test_a_token_that_proves_nothing_is_refused_with_the_reason(token: str, why: str) -> None:
    with pytest.raises(Unauthenticated, match=r"cannot let you in: the token is not valid") as refused:
        await verifier().caller(token)

    assert why.lower() in refused.value.message.lower()
    assert SECRET not in refused.value.message


@pytest.mark.parametrize(
    ("settings", "good", "bad"),
    [
        ({"issuer": "us"}, {"iss": "us"}, [{"iss": "them"}, {}]),
        ({"audience": "opmas"}, {"aud": ["opmas", "x"]}, [{"aud": "x"}, {}]),
        ({}, {"aud": "x", "iss": "y"}, []),
    ],
)
async def test_issuer_and_audience_count_where_they_are_set(
    settings: dict[str, str], good: dict[str, Any], bad: list[dict[str, Any]]
) -> None:
    await verifier(**settings).caller(signed(**good))
    for claim in bad:
        with pytest.raises(Unauthenticated):
            await verifier(**settings).caller(signed(**claim))


async def test_clocks_may_differ_a_little() -> None:
    await verifier(leeway=30).caller(signed(exp=time.time() - 10))


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (CURVE, "ES256")])
async def test_a_token_signed_by_a_key_of_the_set_is_believed(tmp_path: Path, key: Any, algorithm: str) -> None:
    (tmp_path / "jwks.json").write_bytes(key_set(public(key, "1"), public(OTHER, "2")))
    jwts = verifier(secret="", jwks_file=tmp_path / "jwks.json", algorithm=algorithm)

    assert (await jwts.caller(signed(key, algorithm, {"kid": "1"}))).subject == "ann"


@pytest.mark.parametrize(
    ("key", "algorithm", "headers"),
    [
        (OTHER, "RS256", {"kid": "1"}),
        (RSA, "RS256", {"kid": "9"}),
        (RSA, "RS256", {}),  # two keys, and it names none
        (RSA, "RS512", {"kid": "1"}),
        (WEAK, "RS256", {"kid": "weak"}),
        (SECRET, "HS256", {"kid": "shared"}),
    ],
)
@pytest.mark.filterwarnings("ignore:The .* key is:UserWarning")
async def test_a_token_of_no_usable_key_is_refused(
    tmp_path: Path, key: Any, algorithm: str, headers: dict[str, Any]
) -> None:
    shared = {"kty": "oct", "kid": "shared", "k": jwt.utils.base64url_encode(SECRET.encode()).decode()}
    (tmp_path / "jwks.json").write_bytes(key_set(public(RSA, "1"), public(WEAK, "weak"), shared))
    jwts = verifier(secret="", jwks_file=tmp_path / "jwks.json")

    with pytest.raises(Unauthenticated):
        await jwts.caller(signed(key, algorithm, headers))


async def test_a_token_signed_with_the_public_key_as_if_that_were_a_secret_is_refused(tmp_path: Path) -> None:
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body = signed(headers={"kid": "1"}).split(".")[:2]
    forged = jwt.utils.base64url_encode(hmac.digest(pem, f"{head}.{body}".encode(), "sha256")).decode()
    (tmp_path / "jwks.json").write_bytes(key_set(public()))

    with pytest.raises(Unauthenticated, match="alg"):
        await verifier(secret="", jwks_file=tmp_path / "jwks.json").caller(f"{head}.{body}.{forged}")


async def test_a_key_of_the_issuer_s_that_is_new_is_fetched_and_invented_ones_fetch_nothing_more() -> None:
    fetched: list[int] = []
    now = [public(RSA, "old")]

    async def fetch() -> bytes:
        fetched.append(1)
        return key_set(*now)

    keys = KeySet(fetch, "RS256", min_interval_s=0)
    assert await keys.find("old") is not None
    now.append(public(OTHER, "new"))
    assert await keys.find("new") is not None
    assert len(fetched) == 2

    patient = KeySet(fetch, "RS256")
    for number in range(50):
        assert await patient.find(f"invented-{number}") is None
    assert len(fetched) == 3


async def test_while_the_issuer_is_away_its_keys_go_on_counting_and_without_any_it_is_a_503() -> None:
    away: list[bool] = []

    async def fetch() -> bytes:
        if away:
            raise OSError("unreachable")
        return key_set(public())

    keys = KeySet(fetch, "RS256", min_interval_s=0)
    assert await keys.find("1") is not None
    away.append(True)
    assert await keys.find("2") is None
    assert await keys.find("1") is not None

    with pytest.raises(KeySetUnavailable):
        await KeySet(fetch, "RS256").find("1")


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1]}', b"[" * 100_000, b"\xff"])
def test_what_is_no_key_set_is_told_so(document: bytes) -> None:
    with pytest.raises(ValueError, match="no key set"):
        read_keys(document, "RS256")


def test_keys_for_other_purposes_and_broken_ones_are_passed_over() -> None:
    document = key_set(public(RSA, "a", use="enc"), public(RSA, "b", alg="RS512"), public(RSA, "c", n="!"), public())

    assert list(read_keys(document, "RS256")) == ["1"]


class Issuer(BaseHTTPRequestHandler):
    """Answers with a key set, a redirect, an error, or more than anybody wants to read."""

    def do_GET(self) -> None:
        status = {"/moved": 302, "/broken": 500}.get(self.path, 200)
        self.send_response(status)
        self.send_header("Location", "/keys")
        self.end_headers()
        with suppress(ConnectionError):  # a reader that has enough
            self.wfile.write(key_set(public()) + (b" " * (2 << 20) if self.path == "/endless" else b""))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
        """Say nothing."""


@pytest.fixture
def issuer() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Issuer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_the_issuer_s_keys_are_fetched_from_its_address(issuer: str) -> None:
    jwts = verifier(secret="", jwks_url=f"{issuer}/keys")

    assert (await jwts.caller(signed(RSA, "RS256", {"kid": "1"}))).subject == "ann"


@pytest.mark.parametrize("path", ["/moved", "/broken", "/endless"])
async def test_an_address_that_answers_anything_else_gives_no_keys(issuer: str, path: str) -> None:
    with pytest.raises(KeySetUnavailable):
        await verifier(secret="", jwks_url=issuer + path).caller(signed(RSA, "RS256", {"kid": "1"}))
