"""The verb `test`: is everything there that a caller needs? One line for each check, the last one a run."""

import sys
import time
from collections.abc import Callable

from opmas.cli import connection, home, paper
from opmas.cli.connection import Document, agent_path, get, no_such_agent
from opmas.cli.failure import Exit, Failure
from opmas.cli.selection import WAIT_S, Json

_MESSAGE = "Hello! This is a test: please answer in one short sentence."


def smoke(
    agent: str | None = None,
    /,
    *,
    agent_id: str | None = None,
    user_id: str | None = None,
    timeout: float = WAIT_S,
    json: Json = False,
) -> int:
    """Try everything that a caller needs: health, info, agents, a session, a run.

    Args:
        agent: the agent to ask; without it, one that runs
        agent_id: the same, by name
        user_id: the user whom the run is for
        timeout: how many seconds the run may take
        json: one JSON document: {passed, checks: [{check, passed, ms, detail}, …]}
    """
    run = Smoke(agent or agent_id, user_id, timeout)
    checks: list[Document] = []
    for name, check in run.checks():
        checks.append(_tried(name, check))
        if not json:
            _tell(checks[-1])
        if not checks[-1]["passed"]:
            break  # each needs the one before
    run.clean_up()
    passed = all(check["passed"] for check in checks)
    if json:
        paper.document({"passed": passed, "checks": checks})
    return Exit.OK if passed else Exit.FAILED


def _tried(name: str, check: Callable[[], str]) -> Document:
    began = time.monotonic()
    try:
        detail, hint, passed = check(), "", True
    except Failure as failure:
        detail, hint, passed = failure.message, failure.hint, False
    ms = round((time.monotonic() - began) * 1000)
    return {"check": name, "passed": passed, "ms": ms, "detail": detail} | ({"hint": hint} if hint else {})


def _tell(check: Document) -> None:
    mark = paper.paint("✓", "32") if check["passed"] else paper.paint("✗", "31")
    paper.line(f"{mark} {check['check']:<8} {check['ms']:>6} ms  {paper.plain(check['detail'])}")
    if check.get("hint"):
        paper.line(f"  hint: {paper.plain(check['hint'])}")
    sys.stdout.flush()


class Smoke:
    """The checks in their order; what one finds out, the next one uses."""

    def __init__(self, agent: str | None, user: str | None, timeout_s: float) -> None:
        self._agent = agent
        self._user = user
        self._timeout_s = timeout_s
        self._session = ""

    def checks(self) -> tuple[tuple[str, Callable[[], str]], ...]:
        """Name every check."""
        return (
            ("health", self._health),
            ("info", self._info),
            ("agents", self._agents),
            ("session", self._new_session),
            ("run", self._run),
        )

    def clean_up(self) -> None:
        """Take away the session that was made, if it can be."""
        if self._session:
            try:
                connection.send("DELETE", f"/api/v1/sessions/{self._session}")
            except Failure as failure:
                paper.note(f"opmas: {failure.message}")

    def _health(self) -> str:
        found = get("/health")
        if found.get("status") != "ok":
            bad = ", ".join(f"{part}: {word}" for part, word in (found.get("parts") or {}).items() if word != "ok")
            raise Failure(f"{found.get('status')}: {bad}", "`opmas doctor` looks for the cause")
        return f"ok, {found['registered_agents']} agents registered"

    def _info(self) -> str:
        found = get("/api/v1/system")
        return f"OPMAS {found['versions']['opmas']} at {home.api_url()}"

    def _agents(self) -> str:
        agents = {agent["id"]: agent for agent in get("/api/v1/agents")["agents"]}
        able = [agent_id for agent_id, agent in agents.items() if _takes_runs(agent)]
        if self._agent is not None and self._agent not in agents:
            raise no_such_agent("test", self._agent)
        if self._agent is None and not able:
            raise Failure(
                "no agent that takes runs is running", "`opmas ls` lists agents, `opmas start AGENT` starts one"
            )
        self._agent = self._agent or able[0]
        return f"{len(agents)} agents, {len(able)} ready for runs; asking {self._agent}"

    def _new_session(self) -> str:
        body: Document = {"agentId": self._agent, "title": "opmas test"}
        made = connection.send("POST", "/api/v1/sessions", body | ({"userId": self._user} if self._user else {}))
        self._session = made["sessionId"]
        return f"session {self._session}"

    def _run(self) -> str:
        body: Document = {"message": _MESSAGE, "sessionId": self._session}
        body |= {"userId": self._user} if self._user else {}
        path = agent_path(str(self._agent), f"/runs?wait={self._timeout_s:g}")
        run = connection.send("POST", path, body, self._timeout_s + connection.ANSWER_S)
        if run["status"] == "failed":
            raise Failure(run.get("error") or "the run has failed", f"`opmas runs show {run['runId']}` shows more")
        if run["status"] != "completed" and not (run.get("data") or {}).get("requiresConfirmation"):
            raise Failure(f"no answer within {self._timeout_s:g} s", f"`opmas runs show {run['runId']}`; --timeout")
        return run.get("content") or "waits for a human, as it may"


def _takes_runs(agent: Document) -> bool:
    return any(one["status"] == "running" and one.get("takes_runs") for one in agent["instances"])
