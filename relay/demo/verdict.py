"""Whether everything came out as expected: what the sandbox counted against what the script says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.demo.script import STORIES, TROUBLES, Fate, Story
from relay.demo.watch import Job


@dataclass(frozen=True, slots=True)
class Post:
    """Something that the sandbox counted as live.

    Attributes:
        file_name: The last part of its media URL.
        published_at: In seconds of the epoch.
    """

    file_name: str
    published_at: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found in the end.

    Attributes:
        posts: What went live, in that order, once for each time.
        jobs: The events by the number of their story.
        fault_hits: How often each scripted fault was met, in the order of the script's troubles.
        settled: The relay's own counts, by outcome.
    """

    posts: Sequence[Post]
    jobs: Mapping[int, Job]
    fault_hits: Sequence[int]
    settled: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation, and what was found instead where it does not hold."""

    expected: str
    found: str = ""

    @property
    def holds(self) -> bool:
        """Nothing else was found."""
        return not self.found


def judge(evidence: Evidence, stories: Sequence[Story] = STORIES) -> list[Check]:
    """Return all checks, in the order in which to tell them."""
    by_fate = {fate: [story for story in stories if story.fate is fate] for fate in Fate}
    return [
        _once(evidence, by_fate[Fate.PUBLISHED]),
        _nothing_else(evidence, by_fate[Fate.PUBLISHED]),
        _rolled_back(evidence, by_fate[Fate.ROLLED_BACK]),
        _dead(evidence, by_fate[Fate.DEAD]),
        _in_order(evidence, stories),
        _in_time(evidence, stories),
        _reconciled(evidence),
        _troubles_met(evidence),
        _relay_agrees(evidence, len(by_fate[Fate.PUBLISHED]), len(by_fate[Fate.DEAD])),
    ]


def _once(evidence: Evidence, stories: Sequence[Story]) -> Check:
    counts = Counter(post.file_name for post in evidence.posts)
    wrong = [
        f"story {story.number:02} {counts[story.file_name]} times, {_state(evidence, story)}"
        for story in stories
        if counts[story.file_name] != 1 or _state(evidence, story) != "published"
    ]
    return Check(f"each of the {len(stories)} stories that were committed went live exactly once", _list(wrong))


def _nothing_else(evidence: Evidence, stories: Sequence[Story]) -> Check:
    expected = {story.file_name for story in stories}
    wrong = sorted({post.file_name for post in evidence.posts} - expected)
    return Check("nothing else went live", _list(wrong))


def _rolled_back(evidence: Evidence, stories: Sequence[Story]) -> Check:
    live = {post.file_name for post in evidence.posts}
    wrong = [
        f"story {story.number:02}" for story in stories if story.file_name in live or story.number in evidence.jobs
    ]
    return Check("the transaction that was rolled back left no event and no story", _list(wrong))


def _dead(evidence: Evidence, stories: Sequence[Story]) -> Check:
    live = {post.file_name for post in evidence.posts}
    wrong = [
        f"story {story.number:02} {'live' if story.file_name in live else _state(evidence, story)}"
        for story in stories
        if story.file_name in live or _state(evidence, story) != "dead"
    ]
    return Check("the story whose media is missing was tried again, then given up", _list(wrong))


def _in_order(evidence: Evidence, stories: Sequence[Story]) -> Check:
    sequences = sorted({story.sequence for story in stories if story.sequence is not None})
    number_of = {story.file_name: story.number for story in stories}
    wrong = []
    for sequence in sequences:
        expected = [story.number for story in stories if story.sequence == sequence]
        found = [
            number_of[post.file_name]
            for post in sorted(evidence.posts, key=lambda post: post.published_at)
            if number_of.get(post.file_name) in expected
        ]
        if found != expected:
            wrong.append(f"{sequence} as {found}")
    return Check(f"the slides of {len(sequences)} sequences went live in their order", _list(wrong))


def _in_time(evidence: Evidence, stories: Sequence[Story]) -> Check:
    scheduled = {story.file_name: story.number for story in stories if story.ahead_seconds is not None}
    wrong = []
    for post in evidence.posts:
        job = evidence.jobs.get(scheduled.get(post.file_name, 0))
        if job is not None and post.published_at < job.due_at.timestamp():
            wrong.append(f"story {scheduled[post.file_name]:02}")
    return Check(f"none of the {len(scheduled)} scheduled stories went live before its time", _list(wrong))


def _reconciled(evidence: Evidence) -> Check:
    expected = {trouble.number for trouble in TROUBLES if trouble.loses_answer}
    found = {number for number, job in evidence.jobs.items() if job.is_reconciled}
    wrong = [f"story {number:02}" for number in sorted(expected ^ found)]
    return Check(
        f"{len(expected)} stories whose answer was lost were looked for, found live, not published again", _list(wrong)
    )


def _troubles_met(evidence: Evidence) -> Check:
    wrong = [
        f"story {trouble.number:02} {hits} times"
        for trouble, hits in zip(TROUBLES, evidence.fault_hits, strict=True)
        if hits != 1
    ]
    return Check(f"each of the {len(TROUBLES)} scripted faults was met once", _list(wrong))


def _relay_agrees(evidence: Evidence, published: int, dead: int) -> Check:
    expected = {"published": published, "dead": dead}
    found = {outcome: count for outcome, count in evidence.settled.items() if count}
    wrong = [] if found == expected else [", ".join(f"{count} {outcome}" for outcome, count in found.items()) or "none"]
    return Check(f"the relay's /metrics agree: {published} published, {dead} dead", _list(wrong))


def _state(evidence: Evidence, story: Story) -> str:
    job = evidence.jobs.get(story.number)
    return "no event" if job is None else job.status


def _list(wrong: Sequence[str]) -> str:
    return "; ".join(wrong)
