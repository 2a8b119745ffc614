"""Everything one launch needs: the slot's files, the environment, the template; the act itself is the template's.

Files and environment are made afresh at every launch, so that a changed manifest, variable or credential takes effect
at the next one and never in between.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import JsonValue

from agent_manager.installing import InstallFailed
from agent_manager.instance import Instance
from agent_manager.lifecycle import Phase
from agent_manager.models import Models, model_environment, wanted_models
from agent_manager.nats.minting import Grant
from agent_manager.nats.roles import Role
from agent_manager.nats.sources import CredentialSource, Login
from agent_manager.package import Package
from agent_manager.process.slot import Shim
from agent_manager.process.spec import InstanceSpec, Limits
from agent_manager.registry import AgentRecord
from agent_manager.store import AgentRow
from agent_manager.templates import Templates
from agent_manager.venvs import Venvs
from opmas.wire.errors import AgentFailed
from opmas.wire.manifest import AgnoStore, Isolation, Manifest, Runtime, needs_new_interpreter, validate_config

# What an instance inherits of the manager's own environment; everything else is named in the manifest.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "TZ", "TMPDIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip

_CREDS, _TOKEN, _CONFIG = "creds", "token", "config.json"


@dataclass(frozen=True, slots=True)
class Launch:
    """What is remembered of a launch beside the slot's own records: read again at adoption."""

    epoch: int
    token: str
    venv: Path | None = None


class Launcher:
    """Prepares slots and asks templates for processes."""

    def __init__(
        self,
        home: Path,
        credentials: CredentialSource,
        templates: Templates,
        venvs: Venvs,
        streams: tuple[str, ...] = (),
        models: Models = MappingProxyType({}),
    ) -> None:
        self._home = home
        self._venvs = venvs
        self.streams = streams
        self.models = models
        self._credentials = credentials
        self._templates = templates

    async def launch(self, record: AgentRecord, instance: Instance) -> Shim:
        """Start the instance, which proves itself with its `token`. Raises `OpmasError`s that say why it cannot be."""
        manifest = record.manifest()
        package = record.package
        assert package is not None  # noqa: S101  # manifest() refused a record without a package
        instance.venv = await self._installed(record, package, manifest, instance)
        await asyncio.to_thread(_make_slot, instance.slot.path)
        instance.login = await self._credentials.issue(self._grant(manifest, instance), instance.slot.path / _CREDS)
        own, named = await asyncio.to_thread(self._prepare, record, package, manifest, instance)
        env = instance.login.environment() | own | named
        forked = manifest.runtime is not Runtime.EXEC and not needs_new_interpreter(named)
        spec = self._spec(package, manifest, instance, env, forked=forked)
        models = wanted_models(manifest, self.models, manifest.config.defaults | record.row.config)
        return await self._templates.spawn(manifest, spec, models, _python(instance))

    async def _installed(
        self, record: AgentRecord, package: Package, manifest: Manifest, instance: Instance
    ) -> Path | None:
        """Wait until the agent's own dependencies are there; for no longer than it is to be launched."""
        if manifest.isolation is Isolation.NONE:
            return None
        found = await self._venvs.find(package, manifest)
        if isinstance(found, Path):
            return found
        instance.preparing = asyncio.shield(found)
        instance.reason = "installing dependencies"
        record.notify()
        try:
            made = await instance.preparing
        except asyncio.CancelledError:
            if not found.cancelled() and instance.phase is Phase.STOPPING:
                raise AgentFailed(f"{instance.id} was stopped while its dependencies were being installed") from None
            raise
        finally:
            instance.preparing, instance.reason = None, ""
        if isinstance(made, InstallFailed):
            raise made
        return made

    async def clean_up(self, in_use: Set[Path]) -> None:
        """Remove venvs that have not been used for long, but for those `in_use`."""
        for venv in await asyncio.to_thread(self._venvs.clean, in_use):
            await self._templates.forget(venv)

    async def renew(self, record: AgentRecord, instance: Instance) -> None:
        """Give a living instance fresh credentials; it reads them when it connects again."""
        manifest = record.manifest_of(instance)
        if manifest is not None:
            grant = self._grant(manifest, instance)
            instance.login = await self._credentials.renew(grant, instance.slot.path / _CREDS)

    def withdraw(self, instance: Instance) -> Login | None:
        """Take a dead instance's credentials and token away; returns the login whose connections are to be closed."""
        login, instance.login = instance.login, None
        for name in (_TOKEN, _CREDS):
            with contextlib.suppress(OSError):  # a disk that fails must not keep an instance from having ended
                (instance.slot.path / name).unlink()
        # Without its file, which the next process's credentials may lie in by the time.
        return login and dataclasses.replace(login, creds=None)

    async def disconnect(self, login: Login) -> None:
        """Close what connections a dead instance left; may take seconds while NATS is away."""
        await self._credentials.withdraw(login)

    def _grant(self, manifest: Manifest, instance: Instance) -> Grant:
        subjects = manifest.permissions.subjects
        role = Role.STREAMER if instance.agent_id in self.streams else Role.AGENT
        return Grant(role, instance.agent_id, instance.id, publish=subjects.publish, subscribe=subjects.subscribe)

    def _prepare(
        self, record: AgentRecord, package: Package, manifest: Manifest, instance: Instance
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Write the slot's files; return the environment, ours and the package's. Blocking: it waits for the disk."""
        slot = instance.slot.path
        data = self.data_dir(record.id)
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # `python3` in a command is the interpreter OPMAS itself runs on, with nats-py and the SDK.
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
        if instance.venv is not None:
            env |= {"PATH": f"{instance.venv / 'bin'}{os.pathsep}{env['PATH']}", "VIRTUAL_ENV": str(instance.venv)}
        env |= _own_names(record.row, instance, slot, data)
        if manifest.runtime is not Runtime.EXEC:
            env |= _runtime_names(manifest, package)
        env |= model_environment(manifest, self.models, os.environ)
        config = validate_config(manifest, dict(record.row.config))
        _write(slot / _CONFIG, _remembered(instance, manifest, config))
        _write(slot / _TOKEN, instance.token)
        return env, package.environment(os.environ)

    def _spec(
        self, package: Package, manifest: Manifest, instance: Instance, env: dict[str, str], *, forked: bool
    ) -> InstanceSpec:
        argv = manifest.command if manifest.runtime is Runtime.EXEC else (_python(instance), "-m", "opmas.agent")
        limits = manifest.resources.limits
        return InstanceSpec(
            agent_id=instance.agent_id,
            ordinal=instance.ordinal,
            slot_dir=str(instance.slot.path),
            start_count=instance.start_count,
            cwd=str(package.folder / manifest.working_dir),
            env=env,
            entry=("opmas.agent.runtime", "main") if forked else (),
            argv=() if forked else tuple(argv),
            stop_signal=signal.Signals[manifest.stop_signal].value,
            stop_grace_s=manifest.stop_grace_period,
            limits=Limits(
                nofile=limits.nofile,
                nproc=limits.nproc,
                address_space=limits.memory,
                file_size=limits.file_size,
                cpu_seconds=None if limits.cpu_time is None else int(limits.cpu_time),
            ),
            log_max_bytes=manifest.logging.max_size,
            log_max_files=manifest.logging.max_files,
            private_dir=str(self._home),
            readable=() if instance.venv is None else (str(instance.venv),),
            # Packages may lie inside the data directory, which is closed to instances otherwise.
            writable=(str(self.data_dir(instance.agent_id)), str(package.folder)),
        )

    def data_dir(self, agent_id: str) -> Path:
        """Where the agent keeps what must outlive its instances (`OPMAS_DATA_DIR`)."""
        return self._home / "data" / "agents" / agent_id


def recall(instance: Instance) -> Launch | None:
    """Read what the manager that launched the living process remembered of it."""
    try:
        content = json.loads((instance.slot.path / _CONFIG).read_text())
        venv = Path(content["venv"]) if content.get("venv") else None
        return Launch(epoch=int(content["epoch"]), token=(instance.slot.path / _TOKEN).read_text(), venv=venv)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def rewrite_config(instance: Instance, manifest: Manifest, config: dict[str, JsonValue]) -> None:
    """Let a living instance find another config where it found its own; it may be reading it. Blocking."""
    path = instance.slot.path / _CONFIG
    new = path.with_suffix(".new")
    _write(new, _remembered(instance, manifest, config))
    new.replace(path)


def _remembered(instance: Instance, manifest: Manifest, config: dict[str, JsonValue]) -> str:
    venv = None if instance.venv is None else str(instance.venv)
    content = {"config": config, "schema": manifest.config.json_schema, "epoch": instance.epoch, "venv": venv}
    return json.dumps(content)


def _python(instance: Instance) -> str:
    return sys.executable if instance.venv is None else str(instance.venv / "bin" / "python")


def _own_names(row: AgentRow, instance: Instance, slot: Path, data: Path) -> dict[str, str]:
    return {
        "AGENT_ID": instance.agent_id,
        "AGENT_NAME": row.name,
        "AGENT_TYPE": row.type,
        "AGENT_VERSION": row.version,
        "AGNO_TELEMETRY": "false",
        "OPMAS_INSTANCE_ID": instance.id,
        "OPMAS_START_COUNT": str(instance.start_count),
        "OPMAS_DATA_DIR": str(data),
        "OPMAS_CONFIG": str(slot / _CONFIG),
        "OPMAS_STATUS_TOKEN_FILE": str(slot / _TOKEN),
    }


def _make_slot(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    (path / _CREDS).unlink(missing_ok=True)  # see `_write`


def _runtime_names(manifest: Manifest, package: Package) -> dict[str, str]:
    return {
        "OPMAS_ENTRYPOINT": manifest.entrypoint or "",
        "OPMAS_RUNTIME": manifest.runtime.value,
        "OPMAS_PACKAGE_DIR": str(package.folder),
        "OPMAS_HEARTBEAT_INTERVAL_S": str(manifest.heartbeat.interval),
        "OPMAS_STOP_GRACE_S": str(manifest.stop_grace_period),
        "OPMAS_MAX_RUNS": str(manifest.max_runs),
        **({} if manifest.agno_store is AgnoStore.NONE else {"OPMAS_AGNO_STORE": manifest.agno_store.value}),
    }


def _write(path: Path, text: str) -> None:
    """Make a private file anew; nobody reads it yet.

    Not by replacing the old one: file systems then write the new one to disk at once, and a hundred starts wait for it.
    """
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
