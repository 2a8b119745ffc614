"""`nats_url` for a folder of tests whose APIs must not share runs with those of another: a nats-server of its own.

Its `conftest.py` says `from tests.own_nats import nats_url`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest


@pytest.fixture(scope="package")
def nats_url(another_nats: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """Run a plain nats-server for this folder alone."""
    with another_nats() as url:
        yield url
