"""API keys. Without any, everybody shares one scope; with them, each tenant has its own.

Keys are kept and found as SHA-256 digests: what is compared is never the key, so the time that a
comparison takes tells a guesser nothing about one (security findings C1, B17).
"""

from collections.abc import Mapping
from hashlib import sha256

from edge.errors import Unauthorized
from index.entry import SHARED, Scope

KEY_CHARS_MAX = 512


class KeyRing:
    """Tenant names by key. Empty: no key is asked for."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """`keys` maps a key to the name of its tenant."""
        self._tenants = {sha256(key.encode()).digest(): tenant for key, tenant in keys.items()}

    def __len__(self) -> int:
        return len(self._tenants)

    def scope(self, authorization: str | None) -> Scope:
        """The scope that a request with this `Authorization` field may read and write.

        Raises:
            Unauthorized: keys are in use and this is none of them. Every failure looks the same.
        """
        if not self._tenants:
            return SHARED
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or len(key) > KEY_CHARS_MAX:
            raise _unauthorized()
        offered = sha256(key.strip().encode("utf-8", "replace")).digest()
        tenant = self._tenants.get(offered)
        if tenant is None:
            raise _unauthorized()
        return Scope(f"tenant:{tenant}")


def _unauthorized() -> Unauthorized:
    return Unauthorized(
        "This node asks for an API key, and this is not one of them. "
        "Send it as `Authorization: Bearer KEY`; the operator hands them out.",
        fields=(("www-authenticate", 'Bearer realm="edge"'),),
    )
