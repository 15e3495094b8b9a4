"""API keys. Without any, everybody shares one scope; with them, each tenant has its own.

Keys are kept and found as SHA-256 digests: what is compared is never the key, so the time that a
comparison takes tells a guesser nothing about one (security findings C1, B17).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from edge.errors import ClientError, Unauthorized
from index.entry import SHARED, Scope

KEY_CHARS_MAX = 512


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request is from, as far as that matters."""

    scope: Scope
    """What it may read and write."""
    residency: tuple[str, ...] | None = None
    """The regions that its answers may be kept in; None: all."""


class KeyRing:
    """Tenant names by key. Empty: no key is asked for."""

    def __init__(
        self, keys: Mapping[str, str], residency: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        """`keys` maps a key to the name of its tenant, `residency` some to the regions allowed."""
        regions = residency or {}
        self._callers = {
            sha256(key.encode()).digest(): Caller(Scope(f"tenant:{tenant}"), regions.get(key))
            for key, tenant in keys.items()
        }

    def __len__(self) -> int:
        return len(self._callers)

    def caller(self, authorization: str | None) -> Caller:
        """Whom a request with this `Authorization` field is from.

        Raises:
            Unauthorized: keys are in use and this is none of them. Every failure looks the same.
        """
        if not self._callers:
            return _ANYBODY
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or len(key) > KEY_CHARS_MAX:
            raise _unauthorized()
        offered = sha256(key.strip().encode("utf-8", "replace")).digest()
        caller = self._callers.get(offered)
        if caller is None:
            raise _unauthorized()
        return caller

    def tenant(self, name: str | None) -> Caller:
        """The tenant that the operator names, for whom something is put into the cache; None where
        tenants are not told apart. What is put there may be kept where all of its keys allow it.

        Raises:
            ClientError: nobody could read what is put there.
        """
        if name is None:
            if self._callers:
                raise _no_tenant("This node has API keys: say which tenant's answers these are")
            return _ANYBODY
        if not self._callers:
            raise _no_tenant("This node has no API keys, so its answers are no tenant's")
        scope = Scope(f"tenant:{name}")
        allowed = [one.residency for one in self._callers.values() if one.scope == scope]
        if not allowed:
            raise _no_tenant("No API key of this node belongs to that tenant")
        bound = [regions for regions in allowed if regions is not None]
        if not bound:
            return Caller(scope)
        return Caller(scope, tuple(one for one in bound[0] if all(one in each for each in bound)))


_ANYBODY = Caller(SHARED)


def _no_tenant(message: str) -> ClientError:
    return ClientError(f"{message}.", code="no_such_tenant", param="tenant")


def _unauthorized() -> Unauthorized:
    return Unauthorized(
        "This node asks for an API key, and this is not one of them. "
        "Send it as `Authorization: Bearer KEY`; the operator hands them out.",
        fields=(("www-authenticate", 'Bearer realm="edge"'),),
    )
