"""An embedded server of each test's own, and clients that remember what they were refused."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_manager.nats import EmbeddedServer, EmbeddedSource, Grant, Login, Role
from opmas.bus.client import SafeClient


@dataclass
class Guest:
    """A connected client and the errors nats-server sent it."""

    client: SafeClient
    login: Login
    errors: list[str] = field(default_factory=list)

    async def settle(self) -> None:
        """Return when the server has seen all that was sent; nats-py's `flush` lets its PING overtake a waiting SUB."""
        await self.client._flush_pending(force_flush=True)
        await self.client.flush()

    async def refused(self) -> list[str]:
        """Return the violations of all that was sent so far, each as the server words it."""
        await self.client.publish("canary", b"")  # nobody may: its refusal comes after all others
        await until(lambda: any('"canary"' in error for error in self.errors))
        violations = [error for error in self.errors if "permissions violation" in error and '"canary"' not in error]
        self.errors.clear()
        return violations


Join = Callable[..., Awaitable[Guest]]
Visit = Callable[[Login], Awaitable[Guest]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    embedded = EmbeddedServer(tmp_path, port=0)
    await embedded.start()
    yield embedded
    await embedded.stop()


@pytest.fixture
async def source(server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[EmbeddedSource]:
    async with EmbeddedSource(tmp_path, server.url) as embedded:
        yield embedded


async def connect(login: Login, *, inbox_prefix: str = "", reconnect: bool = False) -> Guest:
    guest = Guest(SafeClient(), login)

    async def remember(error: Exception) -> None:
        guest.errors.append(str(error))

    try:
        async with asyncio.timeout(10):
            await guest.client.connect(
                login.url,
                user_credentials=login.creds,
                user=login.username,
                password=login.password,
                inbox_prefix=inbox_prefix or login.inbox_prefix,
                error_cb=remember,
                allow_reconnect=reconnect,
                max_reconnect_attempts=-1 if reconnect else 0,
                reconnect_time_wait=0.02,
            )
    except BaseException:
        await guest.client.end(politely=False)
        raise
    return guest


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    """Connect with a login once, or raise what the server says."""
    guests: list[Guest] = []

    async def guest(login: Login) -> Guest:
        guests.append(await connect(login))
        return guests[-1]

    yield guest
    for one in guests:
        await one.client.end(politely=False)


@pytest.fixture
async def join(source: EmbeddedSource, tmp_path: Path) -> AsyncIterator[Join]:
    """Connect as an agent (`join("a")`), or in any other role."""
    guests: list[Guest] = []

    async def guest(
        name: str,
        role: Role = Role.AGENT,
        ordinal: int = 0,
        *,
        publish: tuple[str, ...] = (),
        subscribe: tuple[str, ...] = (),
        inbox_prefix: str = "",
        reconnect: bool = False,
    ) -> Guest:
        grant = Grant(role, name, f"{name}-{ordinal}" if role.is_agent else "", publish, subscribe)
        login = await source.issue(grant, tmp_path / "creds" / f"{role}-{name}-{ordinal}")
        guests.append(await connect(login, inbox_prefix=inbox_prefix, reconnect=reconnect))
        return guests[-1]

    yield guest
    for one in guests:
        await one.client.end(politely=False)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that nothing announces."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


@pytest.fixture(name="until")
def until_fixture() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    return until
