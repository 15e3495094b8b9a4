"""Which keys a node holds, in ten bits each, for nodes that may ask it for them.

A Bloom filter (1970) with seven hashes: it never says no to a key that it was made of, and says
yes to one key in 120 that it was not, which costs a question in vain. What came after it was made
is a list of short hashes beside it, of which a peer is sent what it has not got; after a while, or
when the list is as large as a filter, another filter is made with another salt, so that no key is
mistaken for long.

Keys are digests made with the fleet's secret, and so are the hashes here: it tells nothing to who
does not have the secret, and to nodes that have it only of answers that they may hold. Whoever
makes it gives it those keys alone, so one is made for each audience.

    full:  "D" | salt 8 | keys 4 | added 4 | filter | added x 8
    more:  "M" | salt 8 | from 4 | added 4 |          added x 8
"""

import hashlib
import struct
from array import array
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index.entry import CacheKey

BITS_PER_KEY: Final = 10
HASHES: Final = 7
SALT_BYTES: Final = 8
KEYS_MAX: Final = 4_000_000
"""A filter of 5 MB."""
ADDED_MAX: Final = 2 << 20
"""Beside a filter. An honest node makes another filter long before."""
BYTES_MAX: Final = KEYS_MAX * BITS_PER_KEY // 8 + 8 * ADDED_MAX

_HEAD: Final = struct.Struct(">c8sII")
_WORDS: Final = np.dtype("<u8")
_MASK: Final = (1 << 64) - 1


class DigestError(ValueError):
    """Bytes that are no digest, or not the next part of this one."""


class Hashes:
    """Two hashes of a key, from which all others are made; another salt gives others.

    Keys are uniform already: what is needed is that the salt decides which of them collide, and
    that it takes the secret to know it.
    """

    def __init__(self, secret: bytes, salt: bytes) -> None:
        stream = hashlib.blake2b(salt, key=secret[:64], person=b"promptedge bloom").digest()
        words = [int.from_bytes(stream[at : at + 8], "little") for at in range(0, 32, 8)]
        self._one, self._two, self._by_one, self._by_two = (
            words[0],
            words[1],
            words[2] | 1,
            words[3] | 1,
        )

    def of(self, key: CacheKey) -> tuple[int, int]:
        one = (int.from_bytes(key[:8], "little") ^ self._one) * self._by_one & _MASK
        two = (int.from_bytes(key[8:16], "little") ^ self._two) * self._by_two & _MASK
        return one ^ one >> 32, two ^ two >> 32 | 1

    def of_all(self, keys: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The same for keys (n, 32)."""
        words = np.ascontiguousarray(keys[:, :16]).view(_WORDS)
        one = (words[:, 0] ^ np.uint64(self._one)) * np.uint64(self._by_one)
        two = (words[:, 1] ^ np.uint64(self._two)) * np.uint64(self._by_two)
        return one ^ one >> np.uint64(32), two ^ two >> np.uint64(32) | np.uint64(1)


class Digest:
    """What a node tells of its keys. `secret` is the fleet's, `salt` was never used before."""

    def __init__(self, keys: Iterable[CacheKey], secret: bytes, salt: bytes) -> None:
        joined = b"".join(keys)
        every = np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)[:KEYS_MAX]
        self.salt = salt
        self.keys = len(every)
        self._hashes = Hashes(secret, salt)
        bits = np.zeros(_bits(self.keys), dtype=bool)
        one, two = self._hashes.of_all(every)
        for number in range(HASHES):
            bits[(one + np.uint64(number) * two) % np.uint64(len(bits))] = True
        self._filter = np.packbits(bits, bitorder="little").tobytes()
        self._added = array("Q")

    def add(self, key: CacheKey) -> None:
        """The node holds one more."""
        self._added.append(self._hashes.of(key)[0])

    @property
    def full(self) -> bool:
        """Has so much been added that another should be made?"""
        return 8 * len(self._added) > max(len(self._filter), 4096)

    def told(self, salt: bytes = b"", added: int = 0) -> bytes:
        """All of it; or for who has that of this salt with so many added, what is more."""
        more = salt == self.salt and 0 <= added <= len(self._added)
        start = added if more else 0
        tail = np.array(self._added[start:]).astype(_WORDS).tobytes()
        if more:
            return _HEAD.pack(b"M", salt, start, len(tail) // 8) + tail
        return _HEAD.pack(b"D", self.salt, self.keys, len(tail) // 8) + self._filter + tail


class Holdings:
    """What another node holds, as it told it last."""

    def __init__(self, secret: bytes) -> None:
        self.salt = b""
        self.added = 0
        """To ask for more with."""
        self._secret = secret
        self._hashes: Hashes | None = None
        self._filter = b""
        self._bits = 1
        self._more: set[int] = set()

    def hear(self, told: bytes) -> None:
        """Raises DigestError, and is then as before."""
        if not _HEAD.size <= len(told) <= BYTES_MAX:
            raise DigestError("no digest")
        kind, salt, count, added = _HEAD.unpack_from(told)
        if kind == b"D" and count <= KEYS_MAX:
            filter_bytes = _bits(count) // 8
        elif kind == b"M" and salt == self.salt and count == self.added:
            filter_bytes = 0
        else:
            raise DigestError("not the next part")
        if len(told) != _HEAD.size + filter_bytes + 8 * added:
            raise DigestError("of another size than it says")
        if added + (self.added if kind == b"M" else 0) > ADDED_MAX:
            raise DigestError("more than anybody tells beside a filter")
        tail = np.frombuffer(told[_HEAD.size + filter_bytes :], dtype=_WORDS).tolist()
        if kind == b"D":
            self.salt, self.added = salt, 0
            self._hashes = Hashes(self._secret, salt)
            self._filter, self._bits = (
                told[_HEAD.size : _HEAD.size + filter_bytes],
                8 * filter_bytes,
            )
            self._more = set()
        self._more.update(tail)
        self.added += added

    def __contains__(self, key: CacheKey) -> bool:
        """Does it seem to hold this? No is certain, as of when it told."""
        if self._hashes is None:
            return False
        one, two = self._hashes.of(key)
        if one in self._more:
            return True
        for number in range(HASHES):
            place = (one + number * two & _MASK) % self._bits
            if not self._filter[place >> 3] >> (place & 7) & 1:
                return False
        return True


def _bits(keys: int) -> int:
    """A whole number of bytes, one at least."""
    return max(64, -(-keys * BITS_PER_KEY // 8) * 8)
