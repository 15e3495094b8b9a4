"""What the servers have to know of the nodes: the `accounts` of a nats-server.conf.

A node's key is an Ed25519 key, and so is an nkey: the server asks whoever connects to sign a
challenge, and there is no password to hand out. Each node may speak under its own name, read what
its region may keep, and nothing else; streams are made, changed and deleted by the operator alone.

What a server enforces here is the second fence. The first is the signature on every frame.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence

from sync.jetstream.subjects import Source, Subjects, inbox, scope_tokens, speaker
from sync.roster import Enrolment

_USER = 20 << 3
"""The first byte of a user's public key: the text then begins with U."""


def nkey(public_key: bytes) -> str:
    """An Ed25519 public key as NATS writes a user's: base32 of kind, key, CRC-16/XMODEM."""
    raw = bytes([_USER]) + public_key
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).rstrip(b"=").decode()


def configuration(
    subjects: Subjects, operator: bytes | None, members: Iterable[Enrolment], account: str
) -> str:
    """The snippet, to be included in nats-server.conf. `operator` is the fleet's public key."""
    lines = [
        "# Written by `promptedge nats-permissions`: write it again when a node joins or leaves,",
        "# then `nats-server --signal reload`.",
        "accounts {",
        f"  {account} {{",
        "    jetstream: enabled",
        "    users: [",
    ]
    if operator is not None:
        lines += ["      # The operator: makes and changes the streams.", *_operator(operator)]
    for member in members:
        lines += [f"      # {_plain(member.name)}, region {_plain(member.region)}"]
        lines += _user(subjects, member)
    return "\n".join([*lines, "    ]", "  }", "}", ""])


def user(subjects: Subjects, member: Enrolment) -> str:
    """One node's entry of `users`."""
    return "\n".join([*_user(subjects, member), ""])


def _operator(public_key: bytes) -> list[str]:
    return [f"      {{ nkey: {nkey(public_key)} }}"]


def _user(subjects: Subjects, member: Enrolment) -> list[str]:
    return [
        f"      {{ nkey: {nkey(member.public_key)}, permissions: {{",
        *_allowed("publish", publishes(subjects, member)),
        *_allowed("subscribe", listens(subjects, member)),
        "      } }",
    ]


def _plain(text: str) -> str:
    """On one line: a comment must not become a setting."""
    return text.encode("unicode_escape").decode()


def _allowed(verb: str, subjects: Sequence[str]) -> list[str]:
    return [
        f"        {verb}: {{ allow: [",
        *(f'          "{subject}"' for subject in subjects),
        "        ] }",
    ]


def publishes(subjects: Subjects, member: Enrolment) -> list[str]:
    """Where a node may speak: under its own name, and to the server about its own consumers."""
    name, root = speaker(member.name), subjects.root
    entries = [
        f"{root}.entries.{place}.{scope}.{name}"
        for scope in scope_tokens(member.scopes)
        for place in ("fleet", "region.*")
    ]
    spoken = [subjects.purges(member.name), subjects.presence(member.name)]
    asked = [
        f"$JS.API.STREAM.INFO.{stream}"
        for stream in (subjects.purges_stream, subjects.entries_stream)
    ]
    asked += [consumer(source, "*") for source in subjects.sources(member.region, member.scopes)]
    return [
        *(entries if member.may_publish else []),
        *spoken,
        subjects.canaries(member.name),
        *asked,
        # Flow control: the subject that a consumer names to say that its messages have arrived.
        f"$JS.FC.{subjects.purges_stream}.>",
        f"$JS.FC.{subjects.entries_stream}.>",
    ]


def listens(subjects: Subjects, member: Enrolment) -> list[str]:
    return [
        f"{inbox(member.name)}.>",
        f"{subjects.root}.purges.>",
        f"{subjects.root}.presence.>",
        f"{subjects.root}.canaries.>",
    ]


def consumer(source: Source, name: str) -> str:
    """Where a consumer is asked for. The server compares its filter with the end of this."""
    return f"$JS.API.CONSUMER.CREATE.{source.stream}.{name}.{source.filter}"
