"""When a host is not called, and when it is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from publisher.breaker import PAUSE_SECONDS as PAUSES
from publisher.breaker import PROBE_SECONDS, Breaker, Circuit

PAUSE_SECONDS, PAUSE_SECONDS_MAX = PAUSES


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(3)
    assert [breaker.failed(now) for _ in range(3)] == [False, False, True]
    return breaker


def test_a_burst_of_failures_opens_it() -> None:
    """And then nothing is called until the pause is over."""
    breaker = opened(100.0)
    assert breaker.state is Circuit.OPEN
    assert breaker.admit(101.0) == PAUSE_SECONDS - 1
    assert breaker.admit(100.0 + PAUSE_SECONDS) == 0


def test_failures_that_lie_far_apart_open_nothing() -> None:
    """What is older than the window does not count."""
    breaker = Breaker(3, window_seconds=10)
    assert not any(breaker.failed(now) for now in (0, 6, 12, 18, 24, 30))
    assert breaker.admit(30) == 0


def test_an_answer_between_them_makes_failures_begin_anew() -> None:
    """A host that answers some of its calls is up."""
    breaker = Breaker(3)
    for _ in range(5):
        assert not breaker.failed(1.0)
        assert not breaker.failed(1.0)
        assert not breaker.answered()


def test_a_probe_that_tells_nothing_makes_room_for_another() -> None:
    """It ended for a reason of its own: nobody waits until it would count as lost."""
    breaker = opened()
    assert breaker.admit(PAUSE_SECONDS) == 0
    breaker.told_nothing(PAUSE_SECONDS + 1)
    assert breaker.admit(PAUSE_SECONDS + 1) == 0
    assert breaker.admit(PAUSE_SECONDS + 1) > 0


def test_one_call_goes_first() -> None:
    """The others wait for what it finds."""
    breaker = opened()
    assert breaker.admit(PAUSE_SECONDS) == 0
    assert breaker.state is Circuit.PROBING
    assert breaker.admit(PAUSE_SECONDS) > 0
    assert breaker.answered()
    assert (breaker.state, breaker.admit(PAUSE_SECONDS)) == (Circuit.CLOSED, 0)


def test_a_probe_that_fails_doubles_the_pause_up_to_a_minute() -> None:
    """And opens it without a word: it was open."""
    breaker, now = opened(), 0.0
    pauses = []
    for _ in range(6):
        pause = breaker.admit(now)
        pauses.append(pause)
        now += pause
        assert breaker.admit(now) == 0
        assert not breaker.failed(now)
    assert pauses == [5, 10, 20, 40, PAUSE_SECONDS_MAX, PAUSE_SECONDS_MAX]


def test_a_probe_that_is_never_heard_of_again_does_not_keep_it_shut() -> None:
    """A call that was cancelled tells nothing: after a while another one goes."""
    breaker = opened()
    assert breaker.admit(PAUSE_SECONDS) == 0
    assert breaker.admit(PAUSE_SECONDS + 1) > 0
    assert breaker.admit(PAUSE_SECONDS + PROBE_SECONDS) == 0


def test_calls_under_way_when_it_opens_do_not_lengthen_the_pause() -> None:
    """Their failures are the same burst."""
    breaker = opened()
    assert not breaker.failed(4.9)
    assert breaker.admit(PAUSE_SECONDS) == 0


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["admit", "failed", "answered"]))))
def test_it_never_stays_shut_for_longer_than_a_minute(steps: list[tuple[float, str]]) -> None:
    """Whatever happens in whatever order."""
    breaker, now = Breaker(3), 0.0
    for pause, step in steps:
        now += pause
        match step:
            case "admit":
                assert 0 <= breaker.admit(now) <= PAUSE_SECONDS_MAX
            case "failed":
                breaker.failed(now)
            case _:
                breaker.answered()
                assert breaker.admit(now) == 0
    assert breaker.admit(now + PROBE_SECONDS) == 0
