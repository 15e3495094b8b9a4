"""What others see of an answer in a shared store: a name that tells nothing, a value that says
nothing, and neither is of any use elsewhere.

The store may belong to somebody else, and whoever writes to it is trusted with nothing but losing
answers. So, of each answer's region, scope and key:

    BLAKE2b, keyed with the fleet's secret ─┬─ 24 bytes: its name there
                                            └─ 32 bytes: the key of its value (AES-256-GCM)

Who lacks the secret cannot tell whether somebody asked a question, nor read an answer, nor make
one. A value that is put under another name, be it of another tenant or another region, has another
key, and does not open. What opens was put there by a node of the fleet for this very place; it is
a frame that this node signed (`sync.frames`), and is judged as what is heard from any other.

What remains to whoever writes there: to delete, and to put back a value that was there before. Its
time to live is absolute and it is dead if it was purged, as that is decided by what is in it.
"""

from dataclasses import dataclass
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from index.entry import CacheKey, Scope

PREFIX = "promptedge:1:"
"""Of all names; the number is that of the format."""
NONCE_BYTES = 12
OVERHEAD_BYTES = NONCE_BYTES + 16
_NAME_BYTES = 24


@dataclass(frozen=True, slots=True)
class Place:
    """Where one answer lies."""

    name: str
    key: bytes

    def seal(self, frame: bytes, nonce: bytes) -> bytes:
        """`nonce`: NONCE_BYTES of chance; a place is written to far too seldom for two to meet."""
        return nonce + AESGCM(self.key).encrypt(nonce, frame, None)

    def opened(self, value: bytes) -> bytes | None:
        """The frame; None if this is not what was sealed for this place."""
        if len(value) <= OVERHEAD_BYTES:
            return None
        try:
            return AESGCM(self.key).decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], None)
        except InvalidTag:
            return None


def quota_name(secret: bytes, *what: str) -> str:
    """Where it is counted what one tenant used; no more to be guessed than the others."""
    mac = blake2b(key=secret[:64], person=b"promptedge quota", digest_size=_NAME_BYTES)
    for part in what:
        mac.update(len(part.encode()).to_bytes(4) + part.encode())
    return f"{PREFIX}quota:{mac.hexdigest()}"


def place(secret: bytes, region: str, scope: Scope, key: CacheKey) -> Place:
    """Of an answer in a region."""
    mac = blake2b(key=secret[:64], person=b"promptedge tier1")
    for part in (region.encode(), scope.encode(), key):
        mac.update(len(part).to_bytes(4) + part)
    digest = mac.digest()
    return Place(PREFIX + digest[:_NAME_BYTES].hex(), digest[-32:])
