"""Whose turn is it: requests that share what is one's, tenants or, where nobody says who they are,
addresses.

Tenants have a queue each. Addresses are as many as an attacker likes, so they are dealt a hand of
`HAND` out of `SHARDS` queues (shuffle sharding, as in Kubernetes' API priority and fairness), and
each request goes to the shortest of its hand: whoever floods fills its own hand, and hardly anybody
else has the same one.
"""

from collections.abc import Callable
from hashlib import blake2b

from edge.admission.source import source_of

SHARDS = 64
HAND = 8


def hand(client: str, secret: bytes) -> list[int]:
    """The queues of a client; the secret keeps others from working out whom they would hit."""
    drawn = int.from_bytes(
        blake2b(source_of(client).name.encode(), digest_size=8, key=secret).digest()
    )
    left = list(range(SHARDS))
    dealt = []
    for cards in range(SHARDS, SHARDS - HAND, -1):
        drawn, card = divmod(drawn, cards)
        dealt.append(left.pop(card))
    return dealt


def anonymous(client: str, secret: bytes, length: Callable[[object], int]) -> str:
    """The name of the queue that a client's request goes to; `length` tells how long each is."""
    return min((f"shard:{card}" for card in hand(client, secret)), key=length)
