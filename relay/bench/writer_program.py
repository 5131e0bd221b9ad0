"""Writers in Python, where there is no pgbench: `python -m relay.bench.writer_program`, an order on stdin.

A thread for each connection: psycopg lets the others run while it waits.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import psycopg


def main() -> None:
    """Obey the order on stdin, and print how many transactions there were in how many seconds."""
    order = orjson.loads(sys.stdin.buffer.read())
    connections: int = order["connections"]
    together = threading.Barrier(connections)

    def write(_: int) -> tuple[int, float]:
        try:
            return _write(order["dsn"], order["statement"], order["seconds"], together)
        except BaseException:
            together.abort()  # or the others would wait for one that never comes
            raise

    try:
        with ThreadPoolExecutor(connections) as threads:
            written = list(threads.map(write, range(connections)))
    except psycopg.Error as error:
        sys.exit(f"error: {error.diag.message_primary or str(error).splitlines()[0]}")
    except threading.BrokenBarrierError:
        sys.exit("error: not all writers could connect")
    count, seconds = sum(count for count, _ in written), max(seconds for _, seconds in written)
    print(orjson.dumps({"count": count, "seconds": seconds}).decode())


def _write(dsn: str, statement: str, seconds: float, together: threading.Barrier) -> tuple[int, float]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        together.wait()
        began_at = now = time.monotonic()
        count = 0
        while now < began_at + seconds:
            connection.execute(statement.encode(), prepare=True)
            count += 1
            now = time.monotonic()
        return count, now - began_at


if __name__ == "__main__":
    main()
