"""What is asked all the time reads none of the runs that have ended: SQLite tells how it would go about it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, create_engine

from management_api.store import acceptance, cancellation, claims, frames, lists, sweep
from management_api.store.schema import METADATA
from opmas.wire.messages import now
from opmas.wire.runs import Frame
from tests.integration.ledger.making import INTERRUPT, new

LOOK = sweep.Look(now() + timedelta(hours=9), verdicts=True, grace_s=1)
FRAME = Frame(instance_id="echo-0", epoch=1, first_seq=1)

ACTS: dict[str, Callable[[Connection], object]] = {
    "accept by key": lambda on: acceptance.accept(on, [new(idempotency_key="k"), new(idempotency_key="l")]),
    "accept by correlation id": lambda on: acceptance.accept(on, [new(correlation_id="c"), new(correlation_id="d")]),
    "accept into a session": lambda on: acceptance.accept(on, [new(session_id="s", spec=INTERRUPT)]),
    "claim": lambda on: claims.claim(on, [claims.Claimant("echo", "echo-0", 1, 9, 30.0, unheard=True)]),
    "record": lambda on: frames.record(on, [frames.Report("echo", "r", FRAME, 30.0)]),
    "see who follows": lambda on: frames.followed(on, [1, 2, 3]),
    "cancel": lambda on: cancellation.cancel(on, [cancellation.Cancel("r", "ann")]),
    "sweep": lambda on: sweep.settle(on, LOOK, sweep.due(on, LOOK)),
    "settle older": lambda on: sweep.settle_older(on, "echo", "echo-0", 2, now()),
    "agents with work": sweep.agents_with_work,
    "agents with unheld": sweep.agents_with_unheld,
    "forget": lambda on: lists.forget_runs(on, now()),
}
# These hold only what has not ended, or are asked for rows of one value.
FIT = ("USING INDEX ix_api_runs_open", "USING INDEX ix_api_runs_correlation", "SEARCH")
UNFIT = "ix_api_runs_workspace"


@pytest.mark.parametrize("act", ACTS)
def test_what_has_ended_is_not_read(act: str) -> None:
    done: list[str] = []
    engine = create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.begin() as connection:
        acceptance.accept(connection, [new(run_id="r", session_id="s")])
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.set_trace_callback(done.append)
        ACTS[act](connection)
        driver.set_trace_callback(None)
        plans = [row[-1] for one in done for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}")]
    engine.dispose()

    of_runs = [step for step in plans if "api_runs" in step]
    assert of_runs
    assert [step for step in of_runs if UNFIT in step or not any(fit in step for fit in FIT)] == []
