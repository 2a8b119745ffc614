import os
import socket
from pathlib import Path

import pytest

from agent_manager.ports import port_holder, require_free
from opmas.wire.errors import Conflict


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0"])  # noqa: S104 - a test of just that
def test_the_holder_of_a_port_is_found_by_pid_and_command(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        holder = port_holder(server.getsockname()[1])

    assert holder is not None
    assert holder.pid == os.getpid()
    own = Path("/proc/self/cmdline").read_bytes().decode().replace("\0", " ")
    assert holder.command
    assert own.startswith(holder.command)


def test_a_port_nobody_listens_on_has_no_holder_and_is_free() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert port_holder(port) is None

    require_free("127.0.0.1", port, "SETTING")


def test_a_taken_port_is_an_error_with_holder_and_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Conflict, match=rf"cannot listen on 127.0.0.1:{port}: it is taken by pid") as refused:
            require_free("127.0.0.1", port, "OPMAS_API__PORT")

    assert "OPMAS_API__PORT" in refused.value.hint


def test_an_address_of_another_machine_is_an_error_that_says_so() -> None:
    with pytest.raises(Conflict, match=r"(?i)cannot assign requested address"):
        require_free("192.0.2.1", 0, "SETTING")
