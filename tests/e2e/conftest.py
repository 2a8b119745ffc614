"""One node for all tests that leave it standing; those that kill it bring their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.rascals import Caller, write_rascals
from tests.node import Node


@pytest.fixture(scope="package")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Run `opmas up`; at the end `opmas down` must leave nothing, whatever the tests have started there."""
    one = Node(tmp_path_factory.mktemp("node"))
    try:
        yield one.up()
        ended = one.down()
        assert ended.returncode == 0, ended.stderr
        assert not one.processes()
    finally:
        one.close()


@pytest.fixture(scope="package")
def caller(node: Node) -> Caller:
    """The operator, at the node's port of runs, with agents there that misbehave."""
    write_rascals(node)
    return Caller(node, node.token)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A place for a node of the test's own: `Node(root)`; ended after the test, however that went."""
    yield tmp_path
    Node(tmp_path).close()
