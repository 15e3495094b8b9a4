"""API keys as text: `pe_live_`, 30 characters of chance, 6 that check them.

The form of GitHub's tokens: the prefix lets scanners find a leaked key, the checksum lets a node
refuse a mistyped one without looking anything up. 30 characters of 62 are 178 bits: nobody guesses
them, so that a plain SHA-256 is enough to keep a key by (OWASP ASVS 6.5.2), and what is kept is
that alone.
"""

import zlib
from collections.abc import Callable
from hashlib import sha256
from string import ascii_lowercase, ascii_uppercase, digits

PREFIX = "pe_live_"
CHANCE_CHARS = 30
CHECK_CHARS = 6

_ALPHABET = digits + ascii_uppercase + ascii_lowercase


def make(choice: Callable[[str], str]) -> str:
    """A new key; `choice` draws one character, such as `secrets.choice`."""
    body = "".join(choice(_ALPHABET) for _ in range(CHANCE_CHARS))
    return PREFIX + body + _check(PREFIX + body)


def well_formed(key: str) -> bool:
    """Could it be a key that was made here? Costs two microseconds, and says nothing of others."""
    return (
        len(key) == len(PREFIX) + CHANCE_CHARS + CHECK_CHARS
        and key.startswith(PREFIX)
        and key[-CHECK_CHARS:] == _check(key[:-CHECK_CHARS])
    )


def digest(key: str) -> bytes:
    """What a key is kept and found by."""
    return sha256(key.encode("utf-8", "replace")).digest()


def _check(text: str) -> str:
    """CRC-32 in base 62."""
    number = zlib.crc32(text.encode("utf-8", "replace"))
    found = ""
    for _ in range(CHECK_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        found = _ALPHABET[digit] + found
    return found
