"""One ed25519 key pair in NATS's spelling; the only module that imports the untyped `nkeys`."""

import os
from typing import Self

import nkeys  # type: ignore[import-untyped]  # it ships no annotations

OPERATOR: int = nkeys.PREFIX_BYTE_OPERATOR
ACCOUNT: int = nkeys.PREFIX_BYTE_ACCOUNT
USER: int = nkeys.PREFIX_BYTE_USER


class KeyPair:
    """Signs; `public` (`O…`, `A…`, `U…`) names it in claims, `seed` (`SO…`, `SA…`, `SU…`) is its secret."""

    def __init__(self, seed: str) -> None:
        try:
            self._pair = nkeys.from_seed(seed.encode())
            self.public: str = self._pair.public_key.decode()
        except (nkeys.NkeysError, ValueError) as error:
            raise ValueError("not the seed of a NATS key") from error
        self.seed = seed

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"

    @classmethod
    def new(cls, kind: int) -> Self:
        """Make one: `OPERATOR`, `ACCOUNT` or `USER`."""
        seed: bytes = nkeys.encode_seed(os.urandom(32), kind)
        return cls(seed.decode())

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`."""
        signature: bytes = self._pair.sign(data)
        return signature
