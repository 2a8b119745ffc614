"""Where this OPMAS is: the data directory, what `opmas up` wrote there, and the addresses and keys that follow.

The environment (`OPMAS_URL`, `OPMAS_TOKEN`, `NATS_URL`, `NATS_CREDS`) stands above the files, so that one shell can
talk to another machine's.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from opmas.cli.failure import Failure


def home() -> Path:
    """Tell the data directory."""
    return Path(os.environ.get("OPMAS_HOME") or ".opmas").absolute()


def up_record() -> dict[str, Any]:
    """Read what `opmas up` wrote of itself (`url`, `nats_url`, `pids`); empty when it did not run here."""
    try:
        record = json.loads((home() / "up.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or from something else than `up`: then there is nothing to go by
        return {}
    return record if isinstance(record, dict) else {}


def lock_holder(lock: Path) -> int | None:
    """Tell the pid of who holds a lock file, if anybody does; the holder writes it there. Raises `Failure`."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        hint = "run this as the user whose data directory it is, or set OPMAS_HOME"
        raise Failure(f"cannot look at {lock}: {error.strerror}", hint, "permission_denied") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        words = os.read(fd, 100).decode(errors="replace").replace(",", " ").split()
        return next((int(word) for word in words if word.isdecimal()), None)
    else:
        return None
    finally:
        os.close(fd)


def named_url() -> str:
    """Tell which API the environment names; empty when it names none."""
    return os.environ.get("OPMAS_URL") or ""


def api_url() -> str:
    """Tell where the management API listens."""
    url = named_url() or up_record().get("url")
    return str(url or f"http://127.0.0.1:{os.environ.get('OPMAS_API__PORT') or 8000}").rstrip("/")


def named_token() -> str:
    """Return the token that the environment gives; empty when it gives none."""
    return os.environ.get("OPMAS_TOKEN") or ""


def token() -> str:
    """Return the token to use, the admin's unless the environment gives one; empty when there is none to be found."""
    if given := named_token():
        return given
    try:
        return (home() / "admin.token").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def nats_url() -> str:
    """Tell where NATS listens."""
    url = os.environ.get("OPMAS_NATS__URL") or os.environ.get("NATS_URL") or up_record().get("nats_url")
    return str(url or f"nats://127.0.0.1:{os.environ.get('OPMAS_NATS__PORT') or 4222}")


def nats_creds() -> Path | None:
    """Tell the credentials file for publishers, if there is one."""
    if given := os.environ.get("NATS_CREDS"):
        return Path(given)
    own = home() / "nats" / "cli.creds"
    return own if own.exists() else None
