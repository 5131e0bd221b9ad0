"""One statement for all who ask: under load it answers dozens of questions, at rest a single one at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

import anyio

Question = TypeVar("Question")
Answer = TypeVar("Answer")

TOGETHER_MAX = 500
"""How many questions one statement answers at most."""


class Together(Generic[Question, Answer]):
    """Puts questions together: what is asked while a statement is under way goes into the next one."""

    def __init__(self, answer: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]]) -> None:
        """Have `answer` answer all questions that it is given, in their order."""
        self._answer = answer
        self._asked: dict[_Asked[Question, Answer], None] = {}
        self._answering = anyio.Lock(fast_acquire=True)

    async def ask(self, question: Question) -> Answer:
        """Return the answer of the next statement; where that fails each who asked asks alone, and raises."""
        mine: _Asked[Question, Answer] = _Asked(question)  # bare: a parametrised class costs ten times as much to make
        self._asked[mine] = None
        try:
            async with self._answering:
                if not mine.answers:
                    await self._answer_with(mine)
        finally:
            self._asked.pop(mine, None)
        return mine.answers[0]

    async def _answer_with(self, mine: _Asked[Question, Answer]) -> None:
        together = [mine] if mine.is_alone else list(islice(self._asked, TOGETHER_MAX))
        try:
            answers = await self._answer([each.question for each in together])
        except Exception:
            if len(together) == 1:
                raise
            # One question may be what the statement fails for: it is not to harm the others.
            for each in together:
                each.is_alone = True
                self._asked.pop(each, None)
            together, answers = [mine], await self._answer([mine.question])
        for each, answer in zip(together, answers, strict=True):
            each.answers.append(answer)
            self._asked.pop(each, None)


class _Asked(Generic[Question, Answer]):
    """A question, its answer once there is one, and whether it is asked alone."""

    __slots__ = ("answers", "is_alone", "question")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.is_alone = False
        self.answers: list[Answer] = []
