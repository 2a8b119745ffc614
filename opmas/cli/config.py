"""Verbs about an agent's own settings: `config get`, `config set`, `config unset`.

Text typed at a shell becomes what the package's schema asks for; whether the whole is allowed, the manager judges.
"""

import json as encoding
from typing import Any

from opmas.cli import connection, paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.failure import Failure
from opmas.cli.selection import Json

_KINDS = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}


def get_config(agent: str, key: str | None = None, /, *, json: Json = False) -> None:
    """Show an agent's settings: its package's defaults, and above them what was set.

    Args:
        agent: the agent's id
        key: only this one; dots lead into objects: limits.depth
        json: one JSON document: {config, given, defaults, json_schema}; with a key, the value
    """
    found = _config("show the config of", agent)
    if key is not None:
        value = _at(found["config"], agent, key)
        if json:
            paper.document(value)
        else:
            paper.line(paper.value(value))
    elif json:
        paper.document(found)
    else:
        rows = [(name, paper.value(value), _source(found, name)) for name, value in found["config"].items()]
        paper.table(("KEY", "VALUE", "FROM"), rows)


def set_config(agent: str, /, *settings: str, json: Json = False) -> None:
    """Change an agent's settings; instances that run get them at once.

    Args:
        agent: the agent's id
        settings: key=value; dots in the key lead into objects, values are JSON or text: interval=5 hosts='["a"]'
        json: one JSON document: the config as it is now
    """
    if not settings:
        raise Failure("cannot set the config: no setting is given", f"opmas config set {agent} KEY=VALUE…", "usage")
    found = _config("set the config of", agent)
    given: Document = found["given"]
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not key or not separator:
            raise Failure(f"cannot set '{setting}': a setting has the form KEY=VALUE", "interval=5", "usage")
        *way, last = key.split(".")
        place, schema = given, found["json_schema"]
        for step in way:
            below = place.get(step)
            place[step] = place = dict(below) if isinstance(below, dict) else {}
            schema = _property(schema, step)
        place[last] = typed(text, _property(schema, last))
    _put(agent, given, json=json)


def unset_config(agent: str, /, *keys: str, json: Json = False) -> None:
    """Forget settings, so that the package's defaults hold again.

    Args:
        agent: the agent's id
        keys: which
        json: one JSON document: the config as it is now
    """
    given: Document = _config("change the config of", agent)["given"]
    for key in keys:
        *way, last = key.split(".")
        place: Any = given
        for step in way:
            place = place.get(step) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise Failure(f"cannot unset '{key}': it was not set", f"`opmas config get {agent}` shows what was")
        del place[last]
    _put(agent, given, json=json)


def _config(act: str, agent: str) -> Document:
    try:
        return get(agent_path(agent, "/config"))
    except Failure as failure:
        raise no_such_agent(act, agent) if failure.code == "agent_not_found" else failure from failure


def _put(agent: str, given: Document, *, json: bool) -> None:
    connection.send("PUT", agent_path(agent), {"config": given})
    get_config(agent, json=json)


def _at(config: Document, agent: str, key: str) -> object:
    value: Any = config
    for step in key.split("."):
        if not isinstance(value, dict) or step not in value:
            raise Failure(
                f"cannot find '{key}' in the config of '{agent}'", f"`opmas config get {agent}` lists all", "not_found"
            )
        value = value[step]
    return value


def _source(found: Document, name: str) -> str:
    if name not in found["given"]:
        return "package"
    return "both" if isinstance(found["given"][name], dict) and name in found["defaults"] else "operator"


def _property(schema: object, name: str) -> Document:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    found = properties.get(name) if isinstance(properties, dict) else None
    return found if isinstance(found, dict) else {}


def typed(text: str, schema: Document) -> object:
    """Read `text` as the schema's type asks: as JSON where that fits, else as it stands."""
    kinds = schema.get("type", [])
    wanted = {kinds} if isinstance(kinds, str) else set(kinds)
    try:
        value = encoding.loads(text)
    except ValueError:
        return text
    kind = "null" if value is None else _KINDS[type(value)]
    fits = not wanted or kind in wanted or (kind == "integer" and "number" in wanted)
    return value if fits or "string" not in wanted else text
