"""Where a client goes and how patient it is: what the program says, else what the environment says, else a default."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from opmas.wire.errors import InvalidRequest

URL = "http://127.0.0.1:8000"
# A model may think for half a minute before its first word; who waits for longer polls or streams.
TIMEOUT_S = 60.0
RETRIES = 3


@dataclass(frozen=True)
class ClientSettings:
    """The settings of one client."""

    url: str = URL
    token: str = field(default="", repr=False)
    timeout_s: float = TIMEOUT_S
    """Of one attempt."""
    retries: int = RETRIES
    """Attempts after the first one."""
    workspace_id: str = ""
    user_id: str = ""

    @classmethod
    def of(
        cls,
        url: str | None = None,
        token: str | None = None,
        timeout_s: float | None = None,
        retries: int | None = None,
        *,
        workspace_id: str = "",
        user_id: str = "",
        environment: Mapping[str, str] = os.environ,
    ) -> Self:
        """Take what is given, and the rest from the environment. Raises `InvalidRequest` for what makes no sense.

        `OPMAS_URL` or `AGENTOS_URL`, `OPMAS_TOKEN`, `AGENTOS_TIMEOUT_MS`, `AGENTOS_RETRY_ATTEMPTS`.
        """
        named = environment.get("OPMAS_URL") or environment.get("AGENTOS_URL") or URL
        milliseconds = _number(environment, "AGENTOS_TIMEOUT_MS", TIMEOUT_S * 1000)
        attempts = _number(environment, "AGENTOS_RETRY_ATTEMPTS", RETRIES)
        made = cls(
            url=named if url is None else url,
            token=(environment.get("OPMAS_TOKEN") or "") if token is None else token,
            timeout_s=milliseconds / 1000 if timeout_s is None else timeout_s,
            retries=int(attempts) if retries is None else retries,
            workspace_id=workspace_id,
            user_id=user_id,
        )
        return made._checked()

    def _checked(self) -> Self:
        if not self.url.startswith(("http://", "https://")):
            raise InvalidRequest(f"cannot use the URL {self.url!r}", "it has the form http://host:port")
        if not 0 < self.timeout_s < math.inf:
            raise InvalidRequest(
                f"cannot use a timeout of {self.timeout_s:g} s", "give more than none: AGENTOS_TIMEOUT_MS"
            )
        if not 0 <= self.retries <= 100:
            raise InvalidRequest(f"cannot try again {self.retries} times", "AGENTOS_RETRY_ATTEMPTS is from 0 to 100")
        return self


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or ""
    if not text:
        return default
    if not text.strip().isdecimal():
        raise InvalidRequest(f"cannot use {name}={text[:40]!r}", "it is a whole number")
    return float(text)
