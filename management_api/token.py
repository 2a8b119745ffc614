"""The local admin token: a 0600 file in OPMAS_HOME, made by whichever of `opmas up` and `opmas api run` comes first.

There is no default secret: without the file there is no way in. Stdlib only, because the command line imports it too.
"""

import os
import secrets
from pathlib import Path

# 256 bits: guessing is hopeless, so attempts need no counting.
_TOKEN_BYTES = 32


def token_path(home: Path) -> Path:
    """Tell where the token of `home` lies."""
    return home / "admin.token"


def ensure_token(home: Path) -> str:
    """Return the admin token, made now if there is none yet; two processes that ask at once get the same one."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = token_path(home)
    if not path.exists():
        _place(path, f"opmas_{secrets.token_urlsafe(_TOKEN_BYTES)}")
    return path.read_text(encoding="ascii").strip()


def _place(path: Path, token: str) -> None:
    """Put the file there whole or not at all: a reader never sees it half written, and the first to link it wins."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # somebody else was first: theirs counts
    finally:
        draft.unlink()
