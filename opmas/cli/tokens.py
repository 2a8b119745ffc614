"""Verbs about credentials: API keys (`token create`, `ls`, `revoke`) and NATS publishers' (`token create --nats`).

API keys are made by the API and work wherever it is. NATS credentials are signed here, with the keys in OPMAS_HOME: so
only on the machine of the embedded server, or with a signing key of an external one.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from opmas.cli import connection, home, paper
from opmas.cli.connection import Document
from opmas.cli.failure import Failure
from opmas.cli.selection import Json

_PATH = "/api/v1/tokens"
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# Nobody can revoke a publisher's credentials one by one, so they do not live long unless somebody wants that.
_KEY_LIFE, _NATS_LIFE = "90d", "1d"


def create(
    *,
    name: str,
    role: Literal["admin", "operator", "user", "viewer"] = "viewer",
    workspace: str | None = None,
    expires: str | None = None,
    nats: Annotated[bool, Parameter(negative=())] = False,
    file: Path | None = None,
    json: Json = False,
) -> None:
    """Make an API key, shown this once; with --nats, NATS credentials for a publisher, in a file.

    Args:
        name: what to call it: in lists, and in the audit
        role: viewer reads; user runs agents too; operator also starts, stops, registers and changes them, and reads the
            audit; admin may do everything. Over NATS: operator commands and asks, viewer only asks
        workspace: the workspace its bearer acts for; without it the default one, or for an admin all
        expires: how long it lives: 30m, 12h, 90d, 4w, or never; an API key 90d, NATS credentials 1d unless said here
        nats: make NATS credentials; they see the agents of every workspace
        file: where to write NATS credentials (OPMAS_HOME/nats/publishers/NAME.creds)
        json: one JSON document: the key as the API answers it, or {file, name, role, expires_at}
    """
    life = _life(expires or (_NATS_LIFE if nats else _KEY_LIFE))
    if nats:
        _create_nats(name, role, life, file, workspace, json=json)
        return
    if file is not None:
        raise Failure("cannot write an API key to a file", "leave --file out; the key is printed", "usage")
    body: Document = {"name": name, "role": role}
    body |= {"workspace": workspace} if workspace else {}
    body |= {"expires_at": (datetime.now(UTC) + life).isoformat()} if life else {}
    made = connection.send("POST", _PATH, body)
    if json:
        paper.document(made)
        return
    paper.line(made["token"])
    ends = f"until {paper.when(made['expires_at'])}" if made["expires_at"] else "for ever"
    paper.note(f"{made['id']}, {role} of {made['workspace'] or 'every workspace'}, {ends}; it is not shown again")


def ls(*, json: Json = False) -> None:
    """List API keys, those that have expired or were revoked too.

    Args:
        json: one JSON document, as the API answers it
    """
    found = connection.get(_PATH)
    if json:
        paper.document(found)
        return
    head = ("ID", "NAME", "ROLE", "WORKSPACE", "STATUS", "EXPIRES", "LAST USED", "MADE BY")
    paper.table(head, [_row(key) for key in found["tokens"]], ("MADE BY", "LAST USED"))


def _row(key: Document) -> tuple[object, ...]:
    role = " ".join(filter(None, [key["role"], *key["scopes"]]))
    expires = paper.when(key["expires_at"]) if key["expires_at"] else "never"
    used = paper.when(key["last_used_at"])
    return key["id"], key["name"], role, key["workspace"] or "(all)", _status(key), expires, used, key["created_by"]


def _status(key: Document) -> str:
    if key["revoked_at"]:
        return "revoked"
    return "expired" if key["expires_at"] and paper.moment(key["expires_at"]) <= datetime.now(UTC) else "valid"


def revoke(*ids: str, json: Json = False) -> None:
    """Revoke API keys; their next request is refused.

    Args:
        ids: their ids, as `opmas token ls` shows them
        json: one JSON document: {revoked}
    """
    if not ids:
        raise Failure("cannot revoke: no id is given", "`opmas token ls` lists them", "usage")
    for key_id in ids:
        if not re.fullmatch(r"\w{1,64}", key_id, re.ASCII):
            raise Failure(f"cannot revoke '{key_id}': that is no key's id", "`opmas token ls` lists them", "not_found")
        connection.send("DELETE", f"{_PATH}/{key_id}")
    if json:
        paper.document({"revoked": ids})
    else:
        paper.line("\n".join(f"{key_id}: revoked" for key_id in ids))


def _life(text: str) -> timedelta | None:
    if text == "never":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", text)
    if not found:
        raise Failure(f"cannot use --expires '{text}'", "write 30m, 12h, 90d, 4w or never", "usage")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _create_nats(
    name: str, role: str, life: timedelta | None, file: Path | None, workspace: str | None, *, json: bool
) -> None:
    if role not in {"operator", "viewer"} or life is None or workspace:
        what = "a workspace" if workspace else f"role {role}" if life else "credentials that never expire"
        raise Failure(
            f"cannot make NATS credentials with {what}",
            "over NATS there are --role operator and viewer, of the whole fleet, for a limited time",
            "usage",
        )
    path = (file or home.home() / "nats" / "publishers" / f"{name}.creds").absolute()
    expires_at = _mint(name, role, life, path)
    if json:
        paper.document({"file": str(path), "name": name, "role": role, "expires_at": expires_at.isoformat()})
        return
    paper.line(str(path))
    paper.note(f"{role}, until {paper.when(expires_at.isoformat())}; try `nats --creds {path} sub agent.status`")


def _mint(name: str, role: str, life: timedelta, path: Path) -> datetime:
    # Imported late: the manager's modules take longer to load than every other verb takes to run.
    import asyncio  # noqa: PLC0415

    from agent_manager.connection import credential_source  # noqa: PLC0415
    from agent_manager.nats import Grant, Role  # noqa: PLC0415
    from agent_manager.settings import CONFIG_FILE, ManagerSettings  # noqa: PLC0415
    from opmas.wire.errors import OpmasError  # noqa: PLC0415

    try:
        source = credential_source(ManagerSettings.load(CONFIG_FILE), home.nats_url())
        login = asyncio.run(source.issue(Grant(Role(role), name, life_s=life.total_seconds()), path))
    except OpmasError as error:
        raise Failure(error.message, error.hint, error.code) from error
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}", "choose another --file") from error
    if login.creds != path or login.expires_at is None:
        raise Failure(
            "cannot make NATS credentials: the settings have one login for all, and no key to sign others with",
            "set nats.signing_key and nats.account (config/agent_manager.yaml)",
        )
    return datetime.fromtimestamp(login.expires_at, UTC)
