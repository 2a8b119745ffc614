"""A credentials file: a user's JWT and the seed that signs for it.

Read at every connect, so that a renewed file takes effect by itself. nats-py could read it too, but it loops for ever
over a file without a JWT and gives up reconnecting over one without a seed.
"""

import base64
import re
from pathlib import Path

from nats.errors import InvalidUserCredentialsError

_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----\s*(\S+)\s*-+END")


class CredentialsFile:
    """The file at `path`; nothing of it is kept in memory between connects."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _block(self, title: bytes) -> bytes:
        for found, text in _BLOCK.findall(self.path.read_bytes()):
            if found == title:
                return bytes(text)
        raise InvalidUserCredentialsError

    def jwt(self) -> bytearray:
        """Return the user's JWT."""
        return bytearray(self._block(b"NATS USER JWT"))

    def sign(self, nonce: str) -> bytes:
        """Sign the server's challenge."""
        import nkeys  # type: ignore[import-untyped]  # noqa: PLC0415 - only connections with credentials need it

        try:
            pair = nkeys.from_seed(bytearray(self._block(b"USER NKEY SEED")))
        except (nkeys.NkeysError, ValueError) as error:
            raise InvalidUserCredentialsError from error
        try:
            return base64.b64encode(pair.sign(nonce.encode()))
        finally:
            pair.wipe()
