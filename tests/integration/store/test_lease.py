"""One manager at a time runs a node."""

import asyncio

import pytest

from agent_manager.store import NodeRow, Store
from opmas.wire.errors import Conflict


async def test_of_many_managers_that_race_for_a_node_one_wins(database_url: str) -> None:
    async with asyncio.timeout(20), Store.open(database_url) as first, Store.open(database_url) as second:
        await first.migrate()

        results = await asyncio.gather(
            *(store.claim_node("n1", f"life-{i}", 30) for i, store in enumerate([first, second] * 5)),
            return_exceptions=True,
        )

        winners = [result for result in results if isinstance(result, NodeRow)]
        assert len(winners) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 9
        assert await first.nodes() == winners


async def test_a_living_lease_is_refused_and_the_holder_may_claim_again(store: Store) -> None:
    await store.claim_node("n1", "one", 30)

    with pytest.raises(Conflict, match="cannot claim node n1: another manager runs it"):
        await store.claim_node("n1", "two", 30)

    again = await store.claim_node("n1", "one", 30, version="0.2")
    assert (again.incarnation, again.generation, again.version) == ("one", 2, "0.2")


async def test_a_lease_that_ran_out_is_taken_over_and_its_holder_told(store: Store) -> None:
    await store.claim_node("n1", "one", 0)

    taken = await store.claim_node("n1", "two", 30)

    assert (taken.incarnation, taken.generation) == ("two", 2)
    with pytest.raises(Conflict, match="cannot renew the lease of node n1"):
        await store.renew_node("n1", "one", 30)


async def test_a_lease_that_ran_out_is_renewed_as_long_as_nobody_took_it(store: Store) -> None:
    ran_out = await store.claim_node("n1", "one", 0)

    renewed = await store.renew_node("n1", "one", 30)

    assert renewed.lease_until > ran_out.lease_until
    with pytest.raises(Conflict):
        await store.claim_node("n1", "two", 30)


async def test_a_released_node_is_free_and_releasing_anothers_changes_nothing(store: Store) -> None:
    await store.claim_node("n1", "one", 30)
    await store.release_node("n1", "stranger")
    with pytest.raises(Conflict):
        await store.claim_node("n1", "two", 30)

    await store.release_node("n1", "one")

    assert (await store.claim_node("n1", "two", 30)).generation == 2


async def test_who_can_prove_the_holder_dead_takes_over_by_force(store: Store) -> None:
    await store.claim_node("n1", "one", 30)

    assert (await store.claim_node("n1", "two", 30, force=True)).generation == 2
