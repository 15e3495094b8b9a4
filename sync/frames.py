"""What a node says to the fleet: signed by it, verified before anything in it is read.

    magic and version 1 B | kind 1 B | length 1 B, origin | Version 8 B | signature 64 B | payload

Ed25519 over the fleet's id, the header and the payload, so that a frame is worth nothing in another
fleet, under another name or with another date. It travels as it is, over any number of hops: a
relay can drop it and repeat it, and nothing else. To sign takes 40 us and to verify 110 (some
250 for 64 answers): by the frame, not by the answer.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from index.entry import NodeName, Version
from sync.messages import Message, MessageError, kind_of, pack, unpack

FRAME_BYTES_MAX = 1 << 20
ORIGIN_BYTES_MAX = 128

_MAGIC = 0xE0
_VERSION = 1
_SIGNATURE = 64
_CONTEXT = b"promptedge frame\0"


class UnknownVersion(MessageError):  # noqa: N818  reads as what happened
    """A frame of a later version than this node speaks."""


class Forged(MessageError):  # noqa: N818  reads as what happened
    """The signature is not that of its origin."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a frame says of itself; true only once `opened` did not raise."""

    kind: int
    origin: NodeName
    version: Version
    size: int
    """Bytes up to the signature."""


def signed(
    message: Message, origin: NodeName, version: Version, key: Ed25519PrivateKey, fleet: bytes
) -> bytes:
    """The frame. Raises MessageError for what does not fit or may not be said."""
    name = origin.encode("ascii")
    if not 0 < len(name) <= ORIGIN_BYTES_MAX:
        raise MessageError("a name too long")
    head = bytes((_MAGIC | _VERSION, kind_of(message), len(name))) + name + version.to_bytes(8)
    payload = pack(message)
    return head + key.sign(_CONTEXT + fleet + head + payload) + payload


def peek(frame: bytes) -> Header:
    """The header, unverified. Raises MessageError."""
    if len(frame) > FRAME_BYTES_MAX:
        raise MessageError("too large")
    if len(frame) < 3 or frame[0] & 0xF0 != _MAGIC:
        raise MessageError("no frame")
    if frame[0] != _MAGIC | _VERSION:
        raise UnknownVersion("unknown version")
    end = 3 + frame[2]
    if not 0 < frame[2] <= ORIGIN_BYTES_MAX or len(frame) < end + 8 + _SIGNATURE:
        raise MessageError("cut short")
    try:
        origin = frame[3:end].decode("ascii")
    except UnicodeDecodeError as exc:
        raise MessageError("no name") from exc
    version = int.from_bytes(frame[end : end + 8])
    return Header(frame[1], NodeName(origin), Version(version), end + 8)


def payload_of(frame: bytes, header: Header) -> bytes:
    return frame[header.size + _SIGNATURE :]


def opened(frame: bytes, header: Header, key: Ed25519PublicKey, fleet: bytes) -> Message:
    """The message, of whom the header says it is. Raises Forged, or MessageError."""
    payload = payload_of(frame, header)
    signature = frame[header.size : header.size + _SIGNATURE]
    try:
        key.verify(signature, _CONTEXT + fleet + frame[: header.size] + payload)
    except InvalidSignature as exc:
        raise Forged("forged") from exc
    if not 0 < header.version < 1 << 63:
        raise MessageError("number out of range")
    return unpack(header.kind, payload, header.origin, header.version)
