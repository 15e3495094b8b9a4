"""Ports for servers of other processes, and for those that are told where they will listen.

What the kernel gives out for port 0 it gives to the next socket as well once that one is closed,
outgoing connections among them. These are below the ports it chooses from, and none is given twice,
nor to another process that does the same: a socket of ours stays bound to each. It does not listen,
so that a server may, which like all servers reuses addresses.
"""

import os
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

NOWHERE = ".".join(["n" * 63] * 3 + ["n" * 62])
"""A letter longer than a name may be: nobody is asked for it, whatever DNS there is, or none."""

FIRST, LAST = 10_000, 32_000
"""Linux chooses from 32768, and the IANA would have everybody choose from 49152."""


def free_port() -> int:
    """A port that nobody has on 127.0.0.1, neither of TCP nor of UDP."""
    return next(port for port in _PORTS if _is_free(port) and _keep(port))


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


def has_ipv6() -> bool:
    """Containers often have none, and some kernels know nothing of it."""
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


def _all_once() -> Iterator[int]:
    """From a place that another process which does the same has hardly begun at."""
    many = LAST - FIRST
    for number in count(os.getpid() * 101):
        yield FIRST + number % many


def _is_free(port: int) -> bool:
    with ExitStack() as bound:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                bound.enter_context(socket.socket(type=kind)).bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def _keep(port: int) -> bool:
    """False if another process was faster."""
    kept = socket.socket()
    try:
        kept.bind(("127.0.0.1", port))
    except OSError:
        kept.close()
        return False
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if len(_KEPT) == _KEPT.maxlen:
        _KEPT.popleft().close()
    _KEPT.append(kept)
    return True


_PORTS = _all_once()
_KEPT: deque[socket.socket] = deque(maxlen=64)
"""Those that tests may still want: descriptors are few."""
