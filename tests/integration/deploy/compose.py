"""docker-compose.yml without containers: its services' own environment, commands and health checks, as plain processes.

What a container would add (names that resolve, ports and folders of its own) is put in by replacing text.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.node import ROOT, environment

Document = dict[str, Any]

SECRETS = {"OPMAS_NATS_PASSWORD": "p0f2e9c1", "POSTGRES_PASSWORD": "p77aa01"}
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<word>[^}]*))?\}")


class Compose:
    """The file, its variables filled in from `variables` as compose would do it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
        self.document: Document = yaml.safe_load(_VARIABLE.sub(lambda found: _fill(found, variables), text))

    def service(self, name: str) -> Document:
        """Return one service."""
        found: Document = self.document["services"][name]
        return found

    def health_check(self, name: str) -> list[str]:
        """Return the command of a service's health check."""
        kind, *command = self.service(name)["healthcheck"]["test"]
        assert kind == "CMD"
        return [str(word) for word in command]


def _fill(found: "re.Match[str]", variables: Mapping[str, str]) -> str:
    value = variables.get(found["name"], "")
    if not value and found["kind"] == ":?":
        raise ValueError(f"{found['name']}: {found['word']}")
    return value or (found["word"] if found["kind"] == ":-" else "")


class Machine:
    """One home and the places where this machine has what the file's names stand for."""

    def __init__(self, compose: Compose, home: Path, packages: Path, places: Mapping[str, str]) -> None:
        self._compose = compose
        self._home = home
        self._packages = packages
        self._places = places

    def environment(self, service: str) -> dict[str, str]:
        """Return what the service's processes would have, with the secrets it was given."""
        given = {name: self.here(str(value)) for name, value in self._compose.service(service)["environment"].items()}
        return environment(self._home / service, self._packages, **given)

    def run(self, service: str) -> "subprocess.Popen[bytes]":
        """Start the service's command."""
        command = self._compose.service(service)["command"]
        with self.log(service).open("ab") as log:
            return subprocess.Popen(command, env=self.environment(service), cwd=self._home, stdout=log, stderr=log)

    def log(self, service: str) -> Path:
        """Where the service's lines go."""
        return self._home / f"{service}.log"

    def is_healthy(self, service: str) -> bool:
        """Run the service's health check."""
        return self.check(service).returncode == 0

    def check(self, service: str) -> "subprocess.CompletedProcess[str]":
        """Run the service's health check and return what it said."""
        command = [self.here(word) for word in self._compose.health_check(service)]
        return subprocess.run(
            [sys.executable if command[0] == "python" else command[0], *command[1:]],
            env=self.environment(service) | {"NO_PROXY": "*", "no_proxy": "*"},
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def here(self, text: str) -> str:
        """Replace the names of the file by what stands for them on this machine."""
        for name, place in self._places.items():
            text = text.replace(name, place)
        return text


def nats_configuration(folder: Path, port: int, monitor: int) -> Path:
    """Write deploy/nats.conf for this machine: ports and folder replaced, all else as it is."""
    text = (ROOT / "deploy" / "nats.conf").read_text(encoding="utf-8")
    for old, new in (("0.0.0.0:4222", f"127.0.0.1:{port}"), (":8222", f":{monitor}"), ("/data", str(folder / "js"))):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "nats.conf"
    path.write_text(text)
    return path


def nats_environment() -> dict[str, str]:
    """Return what the file gives to nats-server."""
    return {"PATH": os.defpath, **Compose(SECRETS).service("nats")["environment"]}
