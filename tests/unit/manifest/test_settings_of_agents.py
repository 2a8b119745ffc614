"""An agent's config against its schema, its environment, and the schema of the manifest itself."""

import jsonschema
import pytest
import yaml

from opmas.wire.errors import InvalidRequest
from opmas.wire.manifest import (
    Manifest,
    manifest_schema,
    merge_environment,
    needs_new_interpreter,
    parse_env_file,
    parse_manifest,
    validate_config,
)

CONFIGURED = """\
name: sentinel
entrypoint: agent.py
config:
  schema:
    type: object
    properties:
      threshold: {type: integer, minimum: 1}
      notify: {type: object, properties: {mail: {type: string}, loud: {type: boolean}}}
    additionalProperties: false
  defaults: {threshold: 5, notify: {mail: root}}
"""


@pytest.fixture
def configured() -> Manifest:
    return parse_manifest(CONFIGURED, "agent.yaml")


def test_config_lies_over_the_defaults_key_by_key(configured: Manifest) -> None:
    assert validate_config(configured, {"notify": {"loud": True}}) == {
        "threshold": 5,
        "notify": {"mail": "root", "loud": True},
    }
    assert configured.config.defaults == {"threshold": 5, "notify": {"mail": "root"}}


def test_config_that_breaks_the_schema_names_every_path(configured: Manifest) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate_config(configured, {"threshold": 0, "notify": {"loud": "very"}, "extra": 1})

    assert "config.threshold: 0 is less than the minimum of 1" in caught.value.message
    assert "config.notify.loud: 'very' is not of type 'boolean'" in caught.value.message
    assert "'extra' was unexpected" in caught.value.message


def test_without_a_schema_any_config_is_fine() -> None:
    manifest = parse_manifest("name: a\nentrypoint: a.py\n", "agent.yaml")

    assert validate_config(manifest, {"anything": [1]}) == {"anything": [1]}


def test_an_env_file_is_read_as_written() -> None:
    text = "# c\n\nexport A=1\nB = two words # c\nC='x # y'\nD=\"q\" # c\nE=\nHOME\nF=$A\n"

    assert parse_env_file(text, ".env") == {
        "A": "1", "B": "two words", "C": "x # y", "D": "q", "E": "", "HOME": None, "F": "$A",
    }  # fmt: skip


@pytest.mark.parametrize("line", ["1A=2", "A B", "=x", "A='x", 'A="x" y', "NATS_CREDS=x", "A=\0"])
def test_a_line_that_is_no_variable_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=r"^\.env:2: "):
        parse_env_file(f"OK=1\n{line}\n", ".env")


def test_a_name_without_a_value_takes_the_hosts_and_vanishes_when_it_has_none() -> None:
    layers = [{"A": "file", "B": "file", "KEY": "file"}, {"A": "manifest", "KEY": None, "GONE": None}]

    assert merge_environment(layers, {"KEY": "host"}) == {"A": "manifest", "B": "file", "KEY": "host"}


def test_what_is_read_at_interpreter_start_asks_for_a_new_one() -> None:
    assert needs_new_interpreter(["A", "PYTHONHASHSEED"])
    assert needs_new_interpreter(["LC_ALL"])
    assert not needs_new_interpreter(["TZ", "MY_PYTHON"])


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (CONFIGURED, True),
        ("name: a\ncommand: [./x]\nheartbeat: process\nrestart: always\nx-a: 1\ndepends_on: [b]\n", True),
        ("name: a\nruntime: agno\nstart_timeout: 1m30s\nenvironment: [A=1]\nlogging: {max_size: 1GiB}\n", True),
        ("name: a\nentrypoint: a.py\nenvironment: {A: 1, B: }\ndepends_on: {b: {condition: healthy}}\n", True),
        ("name: a\n", False),
        ("name: a\nentrypoint: a.py\nreplicsa: 1\n", False),
        ("name: a\nentrypoint: a.py\nstart_timeout: 5 min\n", False),
        ("name: a\nentrypoint: a.py\nreplicas: 0\n", False),
    ],
)
def test_the_published_schema_agrees_with_the_reader(text: str, valid: bool) -> None:
    schema = manifest_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    problems = list(jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(text)))

    assert (problems == []) is valid, problems
