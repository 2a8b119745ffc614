"""The life of an instance: every phase against every event, and what no order of events can bring about."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_manager.lifecycle import ALIVE, SETTLED, Action, Event, Phase, status_of, step, worst
from opmas.wire.status import AgentStatus

# Rows are phases, columns events; a cell is the phase that follows, with the action after a slash; `.` is no change.
GOLDEN = """
            START             STOP           LAUNCHED       ADOPTED   READY    BEAT     SILENCE  HANG          RETRY_DUE
IDLE        LAUNCHING/LAUNCH  .              .              STARTING  .        .        .        .             .
LAUNCHING   .                 STOPPING       STARTING       .         .        .        .        .             .
STARTING    .                 STOPPING/STOP  .              .         RUNNING  .        .        STARTING/STOP .
RUNNING     .                 STOPPING/STOP  .              .         .        .        SILENT   .             .
SILENT      .                 STOPPING/STOP  .              .         .        RUNNING  .        SILENT/STOP   .
STOPPING    .                 .              STOPPING/STOP  .         .        .        .        .             .
WAITING     LAUNCHING/LAUNCH  IDLE/CANCEL    .              .         .        .        .        .             LAUNCHING/LAUNCH
FAILED      LAUNCHING/LAUNCH  IDLE           .              STARTING  .        .        .        .             .
FINISHED    LAUNCHING/LAUNCH  IDLE           .              STARTING  .        .        .        .             .

            ENDED    ENDED_RETRY       ENDED_FAILED  ENDED_WELL
IDLE        .        .                 .             .
LAUNCHING   IDLE     WAITING/SCHEDULE  FAILED        FINISHED
STARTING    IDLE     WAITING/SCHEDULE  FAILED        FINISHED
RUNNING     IDLE     WAITING/SCHEDULE  FAILED        FINISHED
SILENT      IDLE     WAITING/SCHEDULE  FAILED        FINISHED
STOPPING    IDLE     IDLE              IDLE          IDLE
WAITING     .        .                 .             .
FAILED      .        .                 .             .
FINISHED    .        .                 .             .
"""  # noqa: E501 - a table


def golden() -> dict[tuple[Phase, Event], tuple[Phase, Action]]:
    cells = {}
    for block in GOLDEN.strip("\n").split("\n\n"):
        head, *rows = block.splitlines()
        events = [Event[name] for name in head.split()]
        for row in rows:
            name, *words = row.split()
            phase = Phase[name]
            for event, word in zip(events, words, strict=True):
                to, _, action = word.partition("/")
                follows = phase if to == "." else Phase[to]
                cells[phase, event] = follows, Action[action] if action else Action.NONE
    return cells


def test_every_phase_answers_every_event_as_the_table_says() -> None:
    answers = {(phase, event): tuple(step(phase, event)) for phase in Phase for event in Event}

    assert answers == golden()


class Slot(RuleBasedStateMachine):
    """What an instance's shell would do: carries the actions out against a process that may do as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = Phase.IDLE
        self.launch_pending = False
        self.process = False
        self.stop_sent = False
        self.timer = False

    def happen(self, event: Event) -> None:
        before = self.phase
        self.phase, action = step(before, event)
        if action is Action.LAUNCH:
            assert not self.process, "a second copy of a living instance"
            assert not self.launch_pending, "two launches at once"
            self.timer = False
            self.launch_pending = True
        elif action is Action.STOP:
            assert self.process, "a signal to nobody"
            self.stop_sent = True
        elif action is Action.SCHEDULE:
            assert not self.timer, "two timers"
            self.timer = True
        elif action is Action.CANCEL:
            assert self.timer, "no timer to cancel"
            self.timer = False
        if self.phase is before and action is Action.NONE:
            assert step(self.phase, event) == (self.phase, action), "doubled, it would have changed something"

    @rule(event=st.sampled_from([Event.START, Event.STOP]))
    def someone_wants(self, event: Event) -> None:
        self.happen(event)

    @rule(event=st.sampled_from([Event.READY, Event.BEAT, Event.SILENCE, Event.HANG]))
    def a_word_comes_late_or_twice(self, event: Event) -> None:
        if self.process or event in {Event.READY, Event.BEAT}:
            self.happen(event)

    @precondition(lambda self: self.launch_pending)
    @rule()
    def the_launch_succeeds(self) -> None:
        self.launch_pending, self.process, self.stop_sent = False, True, False
        self.happen(Event.LAUNCHED)

    @precondition(lambda self: self.launch_pending)
    @rule(end=st.sampled_from([Event.ENDED_RETRY, Event.ENDED_FAILED]))
    def the_launch_fails(self, end: Event) -> None:
        self.launch_pending = False
        self.happen(end)

    @precondition(lambda self: self.process)
    @rule(end=st.sampled_from([Event.ENDED, Event.ENDED_RETRY, Event.ENDED_FAILED, Event.ENDED_WELL]))
    def the_process_ends(self, end: Event) -> None:
        self.process = False
        self.happen(end)

    @precondition(lambda self: self.timer)
    @rule()
    def the_timer_fires(self) -> None:
        self.timer = False
        self.happen(Event.RETRY_DUE)

    @invariant()
    def a_phase_tells_whether_there_is_a_process(self) -> None:
        if self.phase is Phase.STOPPING:
            assert self.process or self.launch_pending
        elif self.phase is Phase.LAUNCHING:
            assert self.launch_pending
            assert not self.process
        else:
            assert self.process is (self.phase in ALIVE)
            assert not self.launch_pending

    @invariant()
    def a_timer_runs_exactly_while_waiting(self) -> None:
        assert self.timer is (self.phase is Phase.WAITING)

    @invariant()
    def who_is_to_be_stopped_and_lives_has_been_told(self) -> None:
        if self.phase is Phase.STOPPING and self.process:
            assert self.stop_sent

    def teardown(self) -> None:
        """From wherever it got to, a stop ends at rest once the launch or the process under way has ended."""
        self.happen(Event.STOP)
        if self.launch_pending:
            self.the_launch_succeeds()
        if self.process:
            assert self.stop_sent
            self.the_process_ends(Event.ENDED_FAILED)
        assert self.phase is Phase.IDLE
        assert not self.timer


TestSlot = Slot.TestCase
TestSlot.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_every_phase_shows_as_one_of_the_five_public_words() -> None:
    assert {status_of(phase) for phase in Phase} == set(AgentStatus)


def test_phases_that_pass_by_themselves_are_not_called_settled() -> None:
    assert {Phase.LAUNCHING, Phase.STARTING, Phase.SILENT, Phase.STOPPING, Phase.WAITING}.isdisjoint(SETTLED)


def test_the_worst_instance_speaks_for_the_agent() -> None:
    order = [AgentStatus(word) for word in ("stopped", "running", "starting", "inactive", "error")]

    assert worst([]) is AgentStatus.STOPPED
    for better, status in enumerate(order):
        assert worst([*order[:better], status, *order[:better]]) is status
