"""Who may join: invites, each good for one node, kept until they are used or run out.

A secret is never written down, only its hash, so that whoever reads the disk or a copy of it can
join no fleet; 128 random bits need no slow hash. An invite that was used stays until it runs out,
bound to the key that used it: a newcomer whose answer was lost on the way asks again.
"""

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from index.entry import Timestamp
from sync.private_files import write_private

OPEN_MAX = 256
"""Invites at a time. More are not given by hand."""


class InviteError(Exception):
    """No such invite, or no longer; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an invite allows."""

    name: str | None = None
    """The name that the newcomer must have; None: any."""
    region: str | None = None
    """The region that it must be in; None: any."""
    may_publish: bool = True
    """May its answers reach others?"""
    may_invite: bool = True
    """May it invite others, and revoke? Then the operator's key travels to it."""
    scopes: tuple[str, ...] = ("*",)
    """Patterns of the scopes whose answers it may hold."""


@dataclass(frozen=True, slots=True)
class Invite:
    hash: str
    """SHA-256 of the secret, in hexadecimal."""
    until: Timestamp
    terms: Terms
    used_by: str = ""
    """The public key of the node that used it, in hexadecimal."""


_LIST = TypeAdapter(list[Invite])


class Invites:
    """The invites of one node, in one file that it alone writes."""

    def __init__(self, path: Path) -> None:
        """A file that cannot be read is one without invites: they are easily made again."""
        self._path = path
        try:
            self._invites = _LIST.validate_json(path.read_bytes())
        except (OSError, ValidationError):
            self._invites = []

    def add(self, secret: bytes, terms: Terms, until: Timestamp, now: Timestamp) -> None:
        """Whoever has `secret` may join until then. Raises InviteError when there are too many."""
        still = [one for one in self._invites if one.until > now]
        if len(still) >= OPEN_MAX:
            raise InviteError(f"{OPEN_MAX} invites are open already: wait until one runs out")
        self._save([*still, Invite(_hash(secret), until, terms)])

    def open(self, now: Timestamp) -> bool:
        """May anybody still join?"""
        return any(one.until > now for one in self._invites)

    def find(self, secret: bytes, now: Timestamp) -> Invite:
        """The invite that was made with `secret`, used or not. Raises InviteError."""
        asked = _hash(secret)
        found = None
        for one in self._invites:  # all of them: how long it takes says nothing
            if hmac.compare_digest(one.hash, asked):
                found = one
        if found is None:
            raise InviteError(
                "This token is not known here: it may have run out, or its node lost its data. "
                "Make a new one with promptedge invite"
            )
        if found.until <= now:
            raise InviteError("This token has run out: make a new one with promptedge invite")
        return found

    def use(self, invite: Invite, public_key: bytes) -> None:
        """It is that key's from now on, also after a crash. Raises InviteError: another's."""
        current = next(one for one in self._invites if one.hash == invite.hash)
        if current.used_by not in ("", public_key.hex()):
            raise InviteError(
                "This token was used, by another node: make a new one with promptedge invite. "
                "If nobody you know used it, revoke that node"
            )
        used = replace(current, used_by=public_key.hex())
        self._save([used if one is current else one for one in self._invites])

    def _save(self, invites: list[Invite]) -> None:
        write_private(self._path, json.dumps([asdict(one) for one in invites]).encode())
        self._invites = invites

    def __len__(self) -> int:
        return len(self._invites)


def _hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
