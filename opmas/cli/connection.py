"""Calls to the management API, over the stdlib's HTTP client: JSON documents in and out, errors raised as `Failure`.

Not `OpmasClient`: importing httpx2 and pydantic takes 0.3 s, and `opmas ls` as a whole may take no longer than that.
For the same reason answers stay the documents that came, the API having checked them already.
"""

import difflib
import http.client
import json
import re
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from opmas.cli import home
from opmas.cli.failure import Failure

# The API answers from a manager's memory; what takes longer has a `wait` of its own.
ANSWER_S = 15.0

Document = dict[str, Any]


def get(path: str, query: Mapping[str, object] | None = None, timeout_s: float = ANSWER_S) -> Document:
    """Fetch one document; parameters that are None are left out. Raises `Failure`."""
    return _checked(*_exchange("GET", path, query or {}, None, timeout_s))


def send(method: str, path: str, body: Document | None = None, timeout_s: float = ANSWER_S) -> Document:
    """Send a document, or none, and return the one that comes back, empty when none does. Raises `Failure`."""
    return _checked(*_exchange(method, path, {}, body, timeout_s))


def control(command: str, agent_id: str, wait: float = 0.0, body: Document | None = None) -> Document:
    """Send a command and return its response, an error's too. Raises `Failure` when no manager could be asked."""
    status, document = _exchange(
        "POST", agent_path(agent_id, f"/{command}"), {"wait": wait or None}, body, ANSWER_S + wait
    )
    return document if "command" in document else _checked(status, document)


def text(path: str, query: Mapping[str, object] | None = None) -> str:
    """Fetch what is no JSON document. Raises `Failure`."""
    status, content = _sent("GET", path, query or {}, None, ANSWER_S)
    if status >= http.client.BAD_REQUEST:
        _checked(status, _document(content))
    return content.decode(errors="replace")


def agent_path(agent_id: str, part: str = "") -> str:
    """Spell the path of an agent. Raises `Failure` for an id that would lead elsewhere; the API judges the others."""
    if not re.fullmatch(r"[\w-]+", agent_id, re.ASCII):
        raise Failure(f"cannot find '{agent_id}': no such agent", "`opmas ls` lists all", "agent_not_found")
    return f"/api/v1/agents/{agent_id}{part}"


def no_such_agent(act: str, agent_id: str) -> Failure:
    """Explain an unknown id, with the nearest known one."""
    try:
        known = [agent["id"] for agent in get("/api/v1/agents")["agents"]]
        packages = get("/api/v1/packages", {"registered": False})["packages"]
    except Failure:  # that the agent is unknown was the answer; a suggestion is an extra
        known, packages = [], []
    if package := next((package for package in packages if agent_id in {package["name"], package["folder"]}), None):
        why = (
            f"its package cannot be used: {package['error']}"
            if package["error"]
            else "there is only a package of that name"
        )
        hint = package["hint"] or f"`opmas register {package['name']}` makes an agent of it"
        return Failure(f"cannot {act} '{agent_id}': no such agent; {why}", hint, "agent_not_found")
    near = difflib.get_close_matches(agent_id, known, n=1)
    hint = (f"did you mean '{near[0]}'? " if near else "") + "`opmas ls` lists all"
    return Failure(f"cannot {act} '{agent_id}': no such agent", hint, "agent_not_found")


def _exchange(
    method: str, path: str, query: Mapping[str, object], body: Document | None, timeout_s: float
) -> tuple[int, Document]:
    status, content = _sent(method, path, query, body, timeout_s)
    return status, _document(content)


def _document(content: bytes) -> Document:
    try:
        document = json.loads(content or b"{}")  # DELETE answers nothing
    except ValueError as error:
        why = f"cannot understand {home.api_url()}: it does not answer JSON"
        raise Failure(why, "is it OPMAS? see OPMAS_URL") from error
    return document if isinstance(document, dict) else {}


def _sent(
    method: str, path: str, query: Mapping[str, object], body: Document | None, timeout_s: float
) -> tuple[int, bytes]:
    url, token = home.api_url(), home.token()
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    given = {name: _spelled(value) for name, value in query.items() if value is not None}
    connection = _open(url, timeout_s)
    try:
        connection.request(method, path + (f"?{urlencode(given, doseq=True)}" if given else ""), _text(body), headers)
        answer = connection.getresponse()
        content = answer.read()
    except TimeoutError as error:
        raise Failure(f"cannot wait longer: {url} did not answer within {timeout_s:g} s", "", "unreachable") from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise Failure(
            f"cannot reach the management API at {url}: {_reason(error)}",
            "start it (`opmas up`), or say where it is (OPMAS_URL or OPMAS_HOME)",
            "unreachable",
        ) from error
    finally:
        connection.close()
    return answer.status, content


def _open(url: str, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    try:
        if parts.scheme == "http" and parts.hostname:
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        if parts.scheme == "https" and parts.hostname:
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s)
    except ValueError:
        pass  # a port that is none
    raise Failure(f"cannot use OPMAS_URL '{url}'", "it has the form http://host:port", "usage")


def _checked(status: int, document: Document) -> Document:
    if status < http.client.BAD_REQUEST:
        return document
    message = document.get("message") or f"cannot go on: the API answered {status}"
    raise Failure(message, document.get("hint") or "", document.get("error") or "failed")


def _text(body: Document | None) -> str | None:
    return None if body is None else json.dumps(body)


def _spelled(value: object) -> str | list[str]:
    if isinstance(value, list | tuple):
        return [str(part) for part in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, socket.gaierror):
        return "no such host"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
