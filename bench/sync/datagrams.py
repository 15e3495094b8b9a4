"""What the way itself does meanwhile: a bare datagram every 20 ms, timed by this process.

Beside other work on the same cores nothing comes sooner than these, whatever carries it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import SOCK_DGRAM
from threading import Event, Thread

from tests.fleet.wan import Site

EVERY_S = 0.02


@contextmanager
def datagrams(one: Site, other: Site) -> Iterator[list[float]]:
    """Milliseconds that each took, so far. Those lost are not among them."""
    late: list[float] = []
    over = Event()
    thread = Thread(target=_send, args=(one, other, over, late), name="datagrams")
    thread.start()
    try:
        yield late
    finally:
        over.set()
        thread.join()


def _send(one: Site, other: Site, over: Event, late: list[float]) -> None:
    with one.plug(SOCK_DGRAM) as mine, other.plug(SOCK_DGRAM) as theirs:
        theirs.bind((other.address, 0))
        while not over.is_set():
            sent = time.monotonic_ns()
            mine.sendto(sent.to_bytes(8), theirs.getsockname())
            while (left_s := EVERY_S - (time.monotonic_ns() - sent) / 1e9) > 0:
                theirs.settimeout(left_s)
                try:
                    came = int.from_bytes(theirs.recv(8))
                except TimeoutError:
                    break
                late.append((time.monotonic_ns() - came) / 1e6)
