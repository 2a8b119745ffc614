"""The API behind a certificate of its own."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.api.server import running
from tests.integration.api.test_outages import start


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that is its own issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opmas-test")])
    noon = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(noon - timedelta(days=1))
        .not_valid_after(noon + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "api.crt", tmp_path / "api.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


def test_with_a_certificate_the_api_speaks_https_and_nothing_else(
    certificate: tuple[Path, Path], tmp_path: Path, nats_url: str
) -> None:
    cert, key = certificate
    with running(tmp_path / "home", nats_url, OPMAS_API__TLS__CERT=str(cert), OPMAS_API__TLS__KEY=str(key)) as api:
        context = ssl.create_default_context(cafile=str(cert))
        answer = httpx2.get(f"{api.url}/health", verify=context, trust_env=False)

        assert api.url.startswith("https://")
        assert answer.json()["version"]
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(f"{api.url}/health".replace("https", "http"), trust_env=False)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"OPMAS_API__TLS__CERT": "/nowhere.crt"}, "cert and key"),
        ({"OPMAS_API__TLS__CERT": "/nowhere.crt", "OPMAS_API__TLS__KEY": "/nowhere.key"}, "/nowhere.crt"),
        ({"OPMAS_API__TLS__CERT": __file__, "OPMAS_API__TLS__KEY": __file__}, "cannot speak TLS"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named_without_a_traceback(
    tmp_path: Path, nats_url: str, settings: dict[str, str], word: str
) -> None:
    ended = start(tmp_path, OPMAS_API__PORT="0", OPMAS_NATS__URL=nats_url, **settings)

    assert ended.returncode == 1
    assert word in ended.stderr
    assert "Traceback" not in ended.stderr
