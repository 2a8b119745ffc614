"""What an operator has told pip about where packages come from, in the words of uv, which reads none of it itself.

pip's environment variables stand above its configuration files, as with pip; what uv has been told itself above both.
"""

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_SECTIONS = ("global", "install")
# Of pip's options, what uv calls the variable, and what stands between several values.
_NAMES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_EXTRA_INDEX_URL", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
}
_OLDER_NAMES = {"UV_DEFAULT_INDEX": "UV_INDEX_URL"}
_TRUE = frozenset({"1", "true", "yes", "on"})


def pip_options(environ: Mapping[str, str]) -> dict[str, str]:
    """Collect pip's options, several values apart by spaces. Blocking."""
    options: dict[str, str] = {}
    for path in _files(environ):
        parser = configparser.RawConfigParser(strict=False)
        with suppress(OSError, UnicodeDecodeError, configparser.Error):  # pip itself says what is wrong with it
            parser.read(path, encoding="utf-8")
        for section in _SECTIONS:
            if parser.has_section(section):
                options |= {name.replace("_", "-"): value for name, value in parser.items(section) if value}
    given = {name.removeprefix("PIP_"): value for name, value in environ.items() if name.startswith("PIP_") and value}
    return options | {name.lower().replace("_", "-"): value for name, value in given.items()}


def uv_environment(environ: Mapping[str, str], options: Mapping[str, str]) -> dict[str, str]:
    """Say to uv by its environment what pip's `options` say; a list's order is kept."""
    defaults = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    translated = {name: value for name, value in defaults.items() if name not in environ}
    for option, (name, between) in _NAMES.items():
        if option in options and name not in environ and _OLDER_NAMES.get(name, name) not in environ:
            translated[name] = between.join(options[option].split())
    return translated


def has_no_index(options: Mapping[str, str]) -> bool:
    """Say whether only links may be looked at; uv has no variable for that."""
    return options.get("no-index", "").lower() in _TRUE


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    """pip's configuration files, the last on top."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(environ.get("HOME") or "/nonexistent")
    yield from (Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip" / "pip.conf")
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if named:
        yield Path(named)
