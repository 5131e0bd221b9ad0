"""From evidence to a verdict."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.placement import HandleState, HandleStatus, LivePost, PostType, Sight
from publisher.reconcile import Absent, Evidence, Live, Person, Undecided, decide

INTENT_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
AGAIN = {"negative_looks": 1, "seconds_after_intent": 61.0}
ALL = list(HandleState)
TELLS_LITTLE = [HandleState.FAILED, HandleState.EXPIRED, HandleState.GONE]


def story(
    number: int, *, minutes: float = 0, post_type: PostType | None = PostType.IMAGE, handle: str | None = None
) -> LivePost:
    return LivePost(str(number), handle, post_type, None, INTENT_AT + timedelta(minutes=minutes))


def evidence(state: HandleState, *live: LivePost, **changes: object) -> Evidence:
    exact = bool(changes.get("names_its_handle"))
    base = Evidence(
        handles=("900",),
        names_its_handle=False,
        post_type=PostType.IMAGE,
        text_digest=None,
        intent_at=INTENT_AT,
        seconds_after_intent=0.5,
        live_before=frozenset({"1", "2"}),
        known_elsewhere=frozenset({"3"}),
        sight=Sight(HandleStatus(state), live, exact),
        negative_looks=0,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_published_is_proof_and_one_new_story_is_it() -> None:
    """The container says so, the list says which."""
    assert decide(evidence(HandleState.PUBLISHED, story(1), story(7)), 60, 900) == Live("7")


@pytest.mark.parametrize("live", [[], [story(7), story(8)]])
def test_published_without_a_single_new_story_is_live_all_the_same(live: list[LivePost]) -> None:
    """The id stays unknown: none is ever guessed."""
    assert decide(evidence(HandleState.PUBLISHED, *live), 60, 900) == Live(None)


@pytest.mark.parametrize("state", [state for state in ALL if state is not HandleState.PUBLISHED])
def test_one_new_story_that_fits_is_ours(state: HandleState) -> None:
    """One in flight an account makes it so."""
    assert decide(evidence(state, story(1), story(7)), 60, 900) == Live("7")


@pytest.mark.parametrize("state", [state for state in ALL if state is not HandleState.PUBLISHED])
def test_several_new_stories_need_a_person(state: HandleState) -> None:
    """Somebody posted by hand."""
    assert isinstance(decide(evidence(state, story(7), story(8)), 60, 900), Person)


@pytest.mark.parametrize(
    "other",
    [
        story(1),
        story(3),
        story(7, minutes=-65.1),
        story(7, minutes=75.1),
        story(7, post_type=PostType.VIDEO),
    ],
)
def test_what_does_not_fit_is_not_ours(other: LivePost) -> None:
    """Live before, another event's, outside the window, or of another kind."""
    assert decide(evidence(HandleState.READY, other, **AGAIN), 60, 900) == Absent()


@pytest.mark.parametrize("minutes", [-4.9, 14.9])
def test_the_window_reaches_from_five_minutes_before_to_fifteen_after(minutes: float) -> None:
    """Meta's clock is not ours."""
    assert decide(evidence(HandleState.READY, story(7, minutes=minutes)), 60, 900) == Live("7")


@pytest.mark.parametrize("minutes", [-64.9, -5.1, 15.1, 74.9])
@pytest.mark.parametrize("state", [HandleState.READY, *TELLS_LITTLE])
def test_a_new_story_that_fits_but_for_its_time_is_for_a_person(state: HandleState, minutes: float) -> None:
    """Clocks that differ have hidden our own: it was published again."""
    seen = evidence(state, story(7, minutes=minutes), gone_seconds=900.0, **AGAIN)
    assert isinstance(decide(seen, 60, 900), Person)


def test_a_new_text_at_another_time_is_for_a_person() -> None:
    """Without a handle, whatever text Meta made of it."""
    post = LivePost("7", text_digest="other", published_at=INTENT_AT + timedelta(minutes=16))
    seen = evidence(HandleState.READY, post, handles=(), text_digest="ours", post_type=PostType.TEXT, **AGAIN)
    assert isinstance(decide(seen, 60, 900), Person)


def test_a_new_story_without_time_or_kind_fits() -> None:
    """What the answer leaves out excludes nothing."""
    assert decide(evidence(HandleState.READY, LivePost("7")), 60, 900) == Live("7")


@pytest.mark.parametrize("state", [HandleState.READY, *TELLS_LITTLE])
@pytest.mark.parametrize(("looks", "seconds"), [(0, 0.0), (0, 1000.0), (1, 59.9), (5, 59.9)])
def test_nothing_found_is_undecided_at_first(state: HandleState, looks: int, seconds: float) -> None:
    """A first look counts little, and so does a second one that comes too early."""
    verdict = decide(evidence(state, negative_looks=looks, seconds_after_intent=seconds), 60, 900)
    assert verdict == Undecided()


def test_nothing_found_twice_with_a_ready_container_is_absent() -> None:
    """The same container may be published again."""
    assert decide(evidence(HandleState.READY, **AGAIN), 60, 900) == Absent()


def test_nothing_is_absent_while_meta_works_on_it() -> None:
    """A video that was accepted may go live when its processing ends."""
    seen = evidence(HandleState.PROCESSING, negative_looks=9, seconds_after_intent=900.0)
    assert decide(seen, 60, 900) == Undecided()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("state", [state for state in ALL if state is not HandleState.PUBLISHED])
def test_nothing_found_a_day_later_needs_a_person(state: HandleState, exact: bool) -> None:
    """A story has left every list by then, and what is at work for so long will not tell."""
    seen = evidence(
        state, negative_looks=9, seconds_after_intent=23 * 3600.0 + 1, gone_seconds=900.0, names_its_handle=exact
    )
    assert isinstance(decide(seen, 60, 900), Person)
    just_before = dataclasses.replace(seen, seconds_after_intent=23 * 3600.0)
    tells = exact or state is HandleState.READY
    expected = Undecided if state is HandleState.PROCESSING else Absent if tells else Person
    assert isinstance(decide(just_before, 60, 900), expected)


@pytest.mark.parametrize("state", TELLS_LITTLE)
def test_nothing_found_twice_with_a_container_that_can_not_tell_needs_a_person(state: HandleState) -> None:
    """It may have been published and be gone."""
    assert isinstance(decide(evidence(state, gone_seconds=900.0, **AGAIN), 60, 900), Person)


@pytest.mark.parametrize("looks", [1, 5])
def test_a_container_that_can_not_be_read_just_now_asks_nobody(looks: int) -> None:
    """100/33 has been an outage of reads: a quarter of an hour is given to it before a person is woken."""
    seen = evidence(HandleState.GONE, negative_looks=looks, seconds_after_intent=9000.0, gone_seconds=899.0)
    assert decide(seen, 60, 900) == Undecided()


@pytest.mark.parametrize("state", ALL)
def test_a_story_that_names_the_handle_is_ours_whatever_else_is_live(state: HandleState) -> None:
    """Facebook's list is exact."""
    seen = evidence(state, story(7, handle="899"), story(8, minutes=300, handle="900"), names_its_handle=True)
    assert decide(seen, 60, 900) == Live("8")


@pytest.mark.parametrize("state", [HandleState.READY, *TELLS_LITTLE])
def test_an_exact_list_without_the_handle_is_absence(state: HandleState) -> None:
    """Twice not there is not there; other stories are no candidates."""
    assert decide(evidence(state, story(7, handle="899"), names_its_handle=True, **AGAIN), 60, 900) == Absent()


@given(
    state=st.sampled_from(ALL),
    ids=st.sets(st.integers(1, 9)),
    looks=st.integers(0, 4),
    seconds=st.floats(0, 200),
    exact=st.booleans(),
)
def test_absent_is_never_said_early_nor_with_a_candidate(
    state: HandleState, ids: set[int], looks: int, seconds: float, exact: bool
) -> None:
    """Publishing again needs two negative looks, the time, and nothing that might be ours."""
    live = [story(number, handle="900" if exact and number == 9 else None) for number in ids]
    seen = evidence(state, *live, negative_looks=looks, seconds_after_intent=seconds, names_its_handle=exact)
    if isinstance(decide(seen, 60, 900), Absent):
        assert looks >= 1
        assert seconds >= 60
        assert state not in {HandleState.PUBLISHED, HandleState.PROCESSING}
        assert not (ids - {1, 2, 3}) or exact
        assert not (exact and 9 in ids)
