"""`BlockingClient`: the calls of `OpmasClient` without `await`, for scripts, threads, and code inside somebody's loop.

A thread of its own runs the event loop. The calls are made from the asynchronous ones, so that there is one text, one
signature and one behaviour of each.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import suppress
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from opmas.client.opmas import OpmasClient

# A call that is given up closes its connection, which takes no time; this only bounds it.
_CANCEL_S = 5.0

P = ParamSpec("P")
T = TypeVar("T")


def _waited(
    call: Callable[Concatenate[OpmasClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["BlockingClient", P], T]:
    @wraps(call)
    def waited(self: "BlockingClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(call(self._client, *args, **kwargs))

    return waited


def _iterated(
    call: Callable[Concatenate[OpmasClient, P], AsyncGenerator[T]],
) -> Callable[Concatenate["BlockingClient", P], Generator[T]]:
    @wraps(call)
    def iterated(self: "BlockingClient", /, *args: P.args, **kwargs: P.kwargs) -> Generator[T]:
        stream = call(self._client, *args, **kwargs)
        try:
            while True:
                try:
                    yield self._wait(_next(stream))
                except StopAsyncIteration:
                    return
        finally:
            self._leave(stream)

    return iterated


async def _next(stream: AsyncGenerator[T]) -> T:
    return await anext(stream)


async def _closed(stream: AsyncGenerator[Any]) -> None:
    """Close a stream whose last step may still be ending: whoever waited for it was interrupted, maybe twice."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CANCEL_S):
            while True:
                try:
                    return await stream.aclose()
                except RuntimeError:  # it is running
                    await asyncio.sleep(0.01)


async def _announced(call: Coroutine[Any, Any, T], over: threading.Event) -> T:
    try:
        return await call
    finally:
        over.set()


class BlockingClient:
    """`OpmasClient` for code that does not await; `with` closes it. Takes the same arguments; usable from any thread.

    Streams are plain iterators: close one that you leave early, or leave it to the garbage collector.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        workspace_id: str = "",
        user_id: str = "",
        timeout_s: float | None = None,
        retries: int | None = None,
    ) -> None:
        self._client = OpmasClient(
            url, token, workspace_id=workspace_id, user_id=user_id, timeout_s=timeout_s, retries=retries
        )
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a program that forgets `close` can end.
        self._thread = threading.Thread(target=self._loop.run_forever, name="opmas-client", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return repr(self._client).replace("OpmasClient", "BlockingClient", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread; calls under way in other threads are cancelled."""
        if self._loop.is_closed():
            return
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        """Give up calls of other threads, or they would wait for ever."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._client.close()

    def _leave(self, stream: AsyncGenerator[Any]) -> None:
        if self._loop.is_closed():
            return
        if threading.current_thread() is self._thread:  # collected as garbage here, where waiting would never end
            asyncio.run_coroutine_threadsafe(_closed(stream), self._loop)
        else:
            self._wait(_closed(stream))

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            call.close()
            raise RuntimeError("cannot call: the client is closed")
        over = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_announced(call, over), self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():  # Ctrl-C came while we waited: nobody does any more
                future.cancel()
                over.wait(_CANCEL_S)
            raise

    invoke = _waited(OpmasClient.invoke)
    get_run = _waited(OpmasClient.get_run)
    runs = _waited(OpmasClient.runs)
    poll_until_complete = _waited(OpmasClient.poll_until_complete)
    stream = _iterated(OpmasClient.stream)
    run_and_stream = _iterated(OpmasClient.run_and_stream)
    confirm = _waited(OpmasClient.confirm)
    cancel = _waited(OpmasClient.cancel)
    sessions = _waited(OpmasClient.sessions)
    create_session = _waited(OpmasClient.create_session)
    session = _waited(OpmasClient.session)
    rename_session = _waited(OpmasClient.rename_session)
    delete_session = _waited(OpmasClient.delete_session)
    export_session = _waited(OpmasClient.export_session)
    upload = _waited(OpmasClient.upload)
    check_health = _waited(OpmasClient.check_health)

    agents = _waited(OpmasClient.agents)
    agent = _waited(OpmasClient.agent)
    register = _waited(OpmasClient.register)
    update = _waited(OpmasClient.update)
    delete = _waited(OpmasClient.delete)
    status = _waited(OpmasClient.status)
    why = _waited(OpmasClient.why)
    config = _waited(OpmasClient.config)
    metrics = _waited(OpmasClient.metrics)
    logs = _waited(OpmasClient.logs)
    events = _waited(OpmasClient.events)
    follow_events = _iterated(OpmasClient.follow_events)
    audit = _waited(OpmasClient.audit)
    nodes = _waited(OpmasClient.nodes)
    packages = _waited(OpmasClient.packages)
    start = _waited(OpmasClient.start)
    stop = _waited(OpmasClient.stop)
    restart = _waited(OpmasClient.restart)
    scale = _waited(OpmasClient.scale)
    enable = _waited(OpmasClient.enable)
    disable = _waited(OpmasClient.disable)
    reload = _waited(OpmasClient.reload)
    batch = _waited(OpmasClient.batch)
