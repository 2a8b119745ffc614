"""The same Agno agent under Agno's own AgentOS, for `benchmarks.runs`: `agentos.py PORT [DATABASE]`."""

import sys

import uvicorn
from agent import agent
from agno.db.sqlite import SqliteDb
from agno.os import AgentOS

if len(sys.argv) > 2:
    agent.db = SqliteDb(db_file=sys.argv[2])
uvicorn.run(
    AgentOS(agents=[agent], telemetry=False).get_app(),
    port=int(sys.argv[1]),
    log_level="warning",  # no line for each request: that would cost it a fifth of its speed
)
