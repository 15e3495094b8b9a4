"""Who guesses wrong too often has to wait: a leaky bucket for each address (GCRA).

Each failure moves an address's next turn `EVERY_S` further into the future; who is `BURST` turns
ahead is not heard until it has come back. Secrets are 128 bits, so this is not what keeps guessers
out: it keeps them cheap, and their lines in the log few.
"""

import ipaddress
from collections import OrderedDict

from index.entry import Instant

EVERY_S = 6.0
BURST = 10
ADDRESSES_MAX = 1024
"""Remembered; the one that failed longest ago is forgotten first."""


class Attempts:
    def __init__(self) -> None:
        self._turns: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, address: str, now: Instant) -> float:
        """How long until this address is heard again; 0: now."""
        turn = self._turns.get(_network(address), 0.0)
        return max(0.0, turn - now - (BURST - 1) * EVERY_S)

    def failed(self, address: str, now: Instant) -> None:
        network = _network(address)
        self._turns[network] = max(self._turns.pop(network, 0.0), now) + EVERY_S
        if len(self._turns) > ADDRESSES_MAX:
            self._turns.popitem(last=False)

    def __len__(self) -> int:
        return len(self._turns)


def _network(address: str) -> str:
    """Who has one IPv6 address has 2^64 of them."""
    try:
        read = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(read) if read.version == 4 else str(ipaddress.ip_network((read, 64), strict=False))
