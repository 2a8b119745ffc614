"""The client library: what a caller of the management API imports.

async with OpmasClient("http://127.0.0.1:8000", token) as opmas:
    await opmas.start("echo", wait=5)
    for line in (await opmas.logs("echo")).lines: ...
"""

from opmas.client.management import OpmasClient

__all__ = ["OpmasClient"]
