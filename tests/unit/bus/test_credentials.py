"""A credentials file is read afresh each time, and a broken one is an error, not an endless loop."""

import os
from pathlib import Path

import nkeys
import pytest
from nats.errors import InvalidUserCredentialsError

from opmas.bus.credentials import CredentialsFile


def creds(jwt: str, seed: str) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"************************* IMPORTANT *************************\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


SEED = bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()


def test_a_renewed_file_takes_effect(tmp_path: Path) -> None:
    file = tmp_path / "creds"
    credentials = CredentialsFile(file)
    file.write_text(creds("first", SEED))
    assert credentials.jwt() == b"first"

    file.write_text(creds("second", SEED))

    assert credentials.jwt() == b"second"
    assert len(credentials.sign("nonce")) == 88


@pytest.mark.parametrize("content", ["", "nonsense", creds("jwt", "SUBROKEN"), creds("", "")])
def test_a_broken_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "creds"
    file.write_text(content)
    credentials = CredentialsFile(file)

    with pytest.raises(InvalidUserCredentialsError):
        credentials.sign("nonce")


def test_a_missing_file_is_an_error_that_the_client_tries_again_over(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CredentialsFile(tmp_path / "absent").jwt()
