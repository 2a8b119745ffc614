"""API keys and the database that knows them: a PostgreSQL that stops, freezes and comes back while the API serves."""

import asyncio
from pathlib import Path

import httpx2

from tests.conftest import Postgres
from tests.integration.api.peer import Peer
from tests.integration.api.server import running
from tests.integration.auth.conftest import SECRET, bearer

# Within it, everything that hangs shows.
_PATIENCE_S = 30.0


async def test_keys_come_back_by_themselves_and_nobody_waits_for_ever(
    tmp_path: Path, nats_url: str, peer: Peer, postgres: Postgres, postgres_url: str
) -> None:
    postgres.stop()
    try:
        with running(tmp_path, nats_url, JWT_SECRET=SECRET, DATABASE_URL=postgres_url) as api:
            async with httpx2.AsyncClient(base_url=api.url, timeout=60, trust_env=False) as http:

                async def made() -> httpx2.Response:
                    return await http.post("/api/v1/tokens", headers=api.headers, json={"name": "x", "role": "viewer"})

                async def asked(headers: dict[str, str]) -> int:
                    async with asyncio.timeout(_PATIENCE_S):
                        return (await http.get("/api/v1/agents", headers=headers)).status_code

                assert (await made()).status_code == 503
                postgres.start()
                async with asyncio.timeout(_PATIENCE_S):
                    while (answer := await made()).status_code == 503:  # noqa: ASYNC110 - nothing announces it
                        await asyncio.sleep(0.1)
                key = {"Authorization": f"Bearer {answer.json()['token']}"}
                assert await asked(key) == 200

                postgres.pause()
                try:
                    statuses = await asyncio.gather(*map(asked, (key, key, bearer(), api.headers)))
                finally:
                    postgres.resume()
                assert statuses == [503, 503, 200, 200]
                async with asyncio.timeout(_PATIENCE_S):
                    while await asked(key) == 503:  # noqa: ASYNC110 - as above
                        await asyncio.sleep(0.1)
                assert await asked(key) == 200
    finally:
        postgres.start()
