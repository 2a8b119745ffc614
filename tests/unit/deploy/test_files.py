"""What can be read off the deployment's files; whether they work is for tests/integration/deploy to show."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_manager.settings import ManagerSettings
from management_api.settings import ApiSettings

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
UNITS = ("opmas.service", "opmas-api.service")

# The words of the compose specification that this file may use; one that it does not know, compose refuses.
KNOWN = {
    "image", "build", "restart", "init", "read_only", "tmpfs", "cap_drop", "security_opt", "logging", "command",
    "environment", "volumes", "healthcheck", "shm_size", "stop_grace_period", "hostname", "ulimits", "depends_on",
    "ports",
}  # fmt: skip


def test_the_compose_file_has_nothing_that_compose_does_not_know() -> None:
    assert {name for name in COMPOSE if not name.startswith("x-")} == {"name", "services", "volumes"}
    for service in SERVICES.values():
        assert service.keys() <= KNOWN
        assert service["healthcheck"].keys() == {"test", "interval", "timeout", "retries", "start_period"}
        assert all(isinstance(value, str) for value in service["environment"].values())


def test_every_service_restarts_and_starts_after_healthy_others() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == "unless-stopped", name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES
            assert how == {"condition": "service_healthy"}
    assert SERVICES["manager"]["init"] is True


def test_every_volume_that_is_used_is_declared_and_every_mounted_file_is_there() -> None:
    mounts = [str(mount).split(":")[0] for service in SERVICES.values() for mount in service["volumes"]]

    assert {mount for mount in mounts if mount.isalpha()} == COMPOSE["volumes"].keys()
    for mount in mounts:
        assert not mount.startswith("./") or (ROOT / mount).exists(), mount


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    asked_for = set(re.findall(r"\$\{(\w*PASSWORD\w*):\?", text))
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / "deploy" / "env.example").read_text(), re.MULTILINE))

    assert set(re.findall(r"\$\{(\w*PASSWORD\w*)", text)) == asked_for == example.keys()
    assert not any(example.values())
    assert "PASSWORD" not in (ROOT / "Dockerfile").read_text()
    assert re.findall(r"password: (\S+)", (ROOT / "deploy" / "nats.conf").read_text()) == ["$OPMAS_NATS_PASSWORD"]


@pytest.mark.parametrize("example", ["opmas.env.example"])
def test_servers_take_every_setting_of_the_example(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (ROOT / "deploy" / example).read_text().splitlines()
    for name, _, value in (line.lstrip("#").partition("=") for line in lines if re.match(r"#?[A-Z_]+=", line)):
        monkeypatch.setenv(name, value)

    assert ManagerSettings.load().nats.url.startswith("nats://")
    assert ApiSettings.load().nats.tls is True


@pytest.mark.parametrize("service", ["manager", "api"])
def test_servers_take_every_setting_of_the_compose_file(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES[service]["environment"].items():
        monkeypatch.setenv(name, value)

    (ManagerSettings if service == "manager" else ApiSettings).load()


def test_the_stop_of_a_unit_or_container_leaves_the_manager_time_to_drain() -> None:
    service = ManagerSettings().service
    needed = service.drain_timeout + 10 + 5  # the agents, those that had to be killed, the last writes
    unit = (ROOT / "deploy" / "opmas.service").read_text()

    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > needed
    assert int(str(SERVICES["manager"]["stop_grace_period"]).removesuffix("s")) > needed


def test_the_image_is_made_of_what_the_build_may_see() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    seen = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert {word.removesuffix("/") for words in copied for word in words.split()} == seen
    assert all((ROOT / name).exists() for name in seen)


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert users == ["opmas"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_the_units(name: str, tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / name).read_text()
    # Programs are checked for being there, which those of a deployment are not.
    (tmp_path / name).write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit))

    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, timeout=60, check=False
    )

    assert [line for line in done.stderr.splitlines() if name in line] == []
    assert done.returncode == 0


@pytest.mark.skipif(shutil.which("nginx") is None or shutil.which("openssl") is None, reason="needs nginx and openssl")
def test_nginx_understands_its_configuration(tmp_path: Path) -> None:
    key, certificate = tmp_path / "privkey.pem", tmp_path / "fullchain.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=opmas.example.com", "-keyout", key, "-out", certificate],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    site = site.replace("/etc/ssl/opmas", str(tmp_path)).replace("/var/log/nginx", str(tmp_path))
    (tmp_path / "site.conf").write_text(site)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/error; events {{}} http {{ include {tmp_path}/site.conf; }}"
    )

    done = subprocess.run(
        ["nginx", "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
