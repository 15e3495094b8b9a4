"""API keys. Without any, everybody shares one scope; with them, each tenant has its own.

Keys are kept and found as SHA-256 digests: what is compared is never the key, so the time that a
comparison takes tells a guesser nothing about one (security findings C1, B17). There are those of
the configuration, of this node alone, and those of the fleet (`sync.keybook`), which come and go
while it runs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from edge.admission import key_format
from edge.errors import ClientError, EdgeError, Unauthorized
from index.entry import SHARED, Scope, Timestamp
from sync.keybook import NEVER, KeyBook, KeyRecord

KEY_CHARS_MAX = 512

Use = Literal["prompts", "models", "feedback"]
USES = frozenset(get_args(Use))
"""What a key may be good for."""


LOST_RETRY_S = 30
"""For whoever comes while keys are lost: an operator has to do something about it."""


class KeysLost(EdgeError):  # noqa: N818  a state, and fail-closed is what it is for
    status = 503
    code = "auth_unavailable"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request is from, as far as that matters."""

    scope: Scope
    """What it may read and write."""
    residency: tuple[str, ...] | None = None
    """The regions that its answers may be kept in; None: all."""
    tenant: str = ""
    """Empty: anybody."""
    plan: str = ""
    """Empty: none, nothing is limited."""
    uses: frozenset[str] = USES
    """What it may use the node for."""
    expires_at: Timestamp = NEVER
    regions: tuple[str, ...] | None = None
    """The regions whose upstreams may be sent its prompts; None: all."""

    def may(self, use: Use) -> None:
        """Raises ClientError when it may not."""
        if use not in self.uses:
            raise ClientError(
                f"This key may not be used for {use}. It is good for: "
                f"{', '.join(sorted(self.uses))}. The operator hands out others.",
                status=403,
                code="insufficient_scope",
            )


class KeyRing:
    """Callers by key. Empty: no key is asked for."""

    def __init__(
        self,
        keys: Mapping[str, str],
        residency: Mapping[str, tuple[str, ...]] | None = None,
        plans: Mapping[str, str] | None = None,
        regions: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """`keys` maps a key to the name of its tenant, `residency` and `regions` some to the
        regions allowed, `plans` some to the names of their plans."""
        kept, named, computed = residency or {}, plans or {}, regions or {}
        self._callers = {
            key_format.digest(key): Caller(
                tenant_scope(tenant),
                kept.get(key),
                tenant,
                named.get(key, ""),
                regions=computed.get(key),
            )
            for key, tenant in keys.items()
        }
        self._book: KeyBook | None = None
        self._expected = False

    def follow(self, book: KeyBook, *, expected: bool = False) -> None:
        """Take the fleet's keys as well, as they are from then on. `expected`: there were some."""
        self._book = book
        self._expected = expected

    @property
    def lost(self) -> bool:
        """Have the fleet's keys been lost, so that nobody can say who may ask?"""
        return self._expected and not self._book

    @property
    def edition(self) -> int:
        """Another one whenever a key was made, changed or revoked."""
        return self._book.edition if self._book is not None else 0

    def __len__(self) -> int:
        """Revoked and expired ones too: when the last has gone, nobody is let in, not everybody."""
        return len(self._callers) + (len(self._book) if self._book is not None else 0)

    def caller(self, authorization: str | None, now: Timestamp) -> Caller:
        """Whom a request with this `Authorization` field is from.

        Raises:
            Unauthorized: keys are in use and this is none of them. Every failure looks the same.
            KeysLost: it may be one of those that were lost.
        """
        if not (len(self) or self.lost):
            return ANYBODY
        if authorization is None:
            raise _unauthorized("missing")
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or len(key) > KEY_CHARS_MAX:
            raise _unauthorized("malformed")
        key = key.strip()
        if key.startswith(key_format.PREFIX) and not key_format.well_formed(key):
            raise _unauthorized("malformed")  # mistyped: nothing is looked up
        digest = key_format.digest(key)
        caller = self._callers.get(digest)
        return caller if caller is not None else self._of_the_fleet(digest, now)

    def _of_the_fleet(self, digest: bytes, now: Timestamp) -> Caller:
        record = self._book.get(digest) if self._book is not None else None
        if record is None and self.lost:
            raise KeysLost(
                "This node has lost its API keys and lets nobody in until it has them again.",
                retry_after_s=LOST_RETRY_S,
            )
        if record is None:
            raise _unauthorized("unknown")
        if record.revoked:
            raise _unauthorized("revoked", record.id)
        if now >= record.expires_at:
            raise _unauthorized("expired", record.id)
        return _caller(record)

    def tenant(self, name: str | None) -> Caller:
        """The tenant that the operator names, for whom something is put into the cache; None where
        tenants are not told apart. What is put there may be kept where all of its keys allow it.

        Raises:
            ClientError: nobody could read what is put there.
        """
        if name is None:
            if len(self) or self.lost:
                raise _no_tenant("This node has API keys: say which tenant's answers these are")
            return ANYBODY
        if not len(self):
            raise _no_tenant("This node has no API keys, so its answers are no tenant's")
        allowed = [one.residency for one in self._everybody() if one.tenant == name]
        if not allowed:
            raise _no_tenant("No API key of this node belongs to that tenant")
        bound = [regions for regions in allowed if regions is not None]
        whole = Caller(tenant_scope(name), tenant=name)
        if not bound:
            return whole
        common = tuple(one for one in bound[0] if all(one in each for each in bound))
        return replace(whole, residency=common)

    def _everybody(self) -> Iterator[Caller]:
        yield from self._callers.values()
        yield from (_caller(one) for one in self._book or () if not one.revoked)


def tenant_scope(tenant: str) -> Scope:
    return Scope(f"tenant:{tenant}")


ANYBODY = Caller(SHARED)


def _caller(record: KeyRecord) -> Caller:
    return Caller(
        tenant_scope(record.tenant),
        record.residency,
        record.tenant,
        record.plan,
        frozenset(record.scopes) or USES,
        record.expires_at,
        record.regions,
    )


def _no_tenant(message: str) -> ClientError:
    return ClientError(f"{message}.", code="no_such_tenant", param="tenant")


def _unauthorized(reason: str, key_id: str = "-") -> Unauthorized:
    error = Unauthorized(
        "This node asks for an API key, and this is not one of them. "
        "Send it as `Authorization: Bearer KEY`; the operator hands them out.",
        fields=(("www-authenticate", 'Bearer realm="edge"'),),
    )
    error.reason, error.key_id = reason, key_id
    return error
