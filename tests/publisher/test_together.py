"""One statement for all who ask, and a question that it fails for."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import psycopg
import pytest

from publisher.together import Together
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio


async def test_a_question_that_the_statement_fails_for_fails_alone(stage: Stage) -> None:
    """The others of its statement are answered, each by one of its own; those who ask later share one again."""
    asked: list[list[int]] = []

    async def divide(numbers: Sequence[int]) -> list[int]:
        asked.append(list(numbers))
        rows = await stage.rows(
            "select 12 / n from unnest(%s::integer[]) with ordinality as t (n, p) order by p", numbers
        )
        return [row[0] for row in rows]

    together, answers = Together(divide), dict[int, int | str]()

    async def ask(number: int) -> None:
        try:
            answers[number] = await together.ask(number)
        except psycopg.Error as error:
            answers[number] = type(error).__name__

    async def ask_all(*numbers: int) -> None:
        async with anyio.create_task_group() as group:
            for number in numbers:
                group.start_soon(ask, number)

    await ask_all(1, 2, 0, 3)
    assert answers == {1: 12, 2: 6, 0: "DivisionByZero", 3: 4}
    assert asked == [[1], [2, 0, 3], [2], [0], [3]]
    asked.clear()
    await ask_all(4, 6, 12)
    assert asked == [[4], [6, 12]]
