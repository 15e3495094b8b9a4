"""What `promptedge invite` prints and `promptedge join` takes: all that a node needs to join, once.

    pej_ base64url( version | until, 4 | secret, 16 | host's key, 16 | address | authority | check )

The authority's certificate proves the host to the newcomer before a byte is exchanged, the secret
proves the newcomer to the host. The check at the end only finds what was copied in part.
"""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass, field

from index.entry import Timestamp
from sync.certificates import HASH_BYTES

PREFIX = "pej_"
VERSION = 1
SECRET_BYTES = 16
"""128 bits: nobody guesses it, at whatever rate."""
CHECK_BYTES = 4
TOKEN_CHARS_MAX = 4096
ADDRESS_BYTES_MAX = 255

_HEAD = struct.Struct(f">BI{SECRET_BYTES}s{HASH_BYTES}sB")


class TokenError(Exception):
    """A text that is no token, or no longer; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Token:
    address: str
    """Where the host listens: HOST:PORT."""
    host: bytes
    """Hash of the host's public key: nobody else may answer for it."""
    authority: bytes
    """The certificate that everybody in the fleet is proven with, as DER."""
    until: Timestamp
    """Seconds since the epoch, whole."""
    secret: bytes = field(repr=False)


def spell(token: Token) -> str:
    """The token as text. Whoever has it may join."""
    address = token.address.encode()
    if len(address) > ADDRESS_BYTES_MAX:
        raise ValueError("an address that long is none")
    head = _HEAD.pack(VERSION, int(token.until), token.secret, token.host, len(address))
    content = head + address + token.authority
    return PREFIX + base64.urlsafe_b64encode(content + _check(content)).rstrip(b"=").decode()


def read(text: str, now: Timestamp) -> Token:
    """The token that `text` spells. Raises TokenError."""
    content = _content(text.strip())
    try:
        version, until, secret, host, length = _HEAD.unpack_from(content)
        address = content[_HEAD.size : _HEAD.size + length].decode()
    except (struct.error, UnicodeDecodeError) as exc:
        raise TokenError(
            "This token makes no sense; make a new one with promptedge invite"
        ) from exc
    if version != VERSION:
        raise TokenError(f"This token is of version {version}: join with a newer promptedge")
    if now >= until:
        raise TokenError(
            f"This token ran out {int(now - until)} s ago: make a new one with promptedge invite. "
            "If it is new, the clock of this machine or of the other is wrong"
        )
    authority = content[_HEAD.size + length :]
    return Token(address, host, authority, Timestamp(until), secret)


def _content(text: str) -> bytes:
    if not text.startswith(PREFIX):
        raise TokenError(f"This is no token: one begins with {PREFIX}")
    if len(text) > TOKEN_CHARS_MAX:
        raise TokenError("This is no token: it is too long")
    encoded = text.removeprefix(PREFIX)
    try:
        content = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise TokenError("This token is damaged: copy it again, the whole of it") from exc
    content, check = content[:-CHECK_BYTES], content[-CHECK_BYTES:]
    if check != _check(content):
        raise TokenError("This token is not whole: copy it again, to its last character")
    return content


def _check(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:CHECK_BYTES]
