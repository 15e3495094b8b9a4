"""Making, changing and revoking API keys, for all nodes of the fleet at once.

Whoever has the operator's key may: it signs what is said of keys as it signs who belongs to the
fleet. A key itself is told once, to who asked for it to be made, and kept nowhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.admission import key_format
from edge.admission.keys import USES
from index.entry import Timestamp, Version
from sync.application import Refused
from sync.keybook import KEYS_MAX, NEVER, KeyBook, KeyRecord, sign
from sync.messages import NAME_CHARS_MAX, REGIONS_MAX

OVERLAP_S = 3600.0
"""How long the old key goes on working when it is rotated, unless said otherwise."""
_ID_CHARS_MIN = 6


@dataclass(frozen=True, slots=True)
class Terms:
    """What a key is to be good for."""

    tenant: str
    plan: str = ""
    valid_s: float | None = None
    """None: until it is revoked."""
    scopes: tuple[str, ...] = ()
    """Empty: everything."""
    residency: tuple[str, ...] | None = None
    """Regions that its answers may be kept in; None: all."""
    regions: tuple[str, ...] | None = None
    """Regions whose upstreams may be sent its prompts; None: all."""


class Issuer:
    def __init__(
        self,
        book: KeyBook,
        operator: Ed25519PrivateKey | None,
        plans: frozenset[str],
        *,
        tick: Callable[[], Version],
        tell: Callable[[bytes], object],
        choice: Callable[[str], str],
    ) -> None:
        """`tell` is given each new line: it is to be merged, kept and told to the others. `choice`
        draws a character of a key."""
        self._book = book
        self._operator = operator
        self._plans = plans
        self._tick = tick
        self._tell = tell
        self._choice = choice

    def create(self, terms: Terms, now: Timestamp) -> tuple[str, KeyRecord]:
        """A new key, and what is kept of it. Raises Refused."""
        self._check(terms)
        expires_at = NEVER if terms.valid_s is None else Timestamp(now + terms.valid_s)
        key = key_format.make(self._choice)
        record = KeyRecord(
            digest=key_format.digest(key),
            tenant=terms.tenant,
            plan=terms.plan,
            scopes=terms.scopes,
            residency=terms.residency,
            regions=terms.regions,
            last=key[-4:],
            made_at=Timestamp(float(now)),
            expires_at=Timestamp(float(expires_at)),
            version=self._tick(),
        )
        self._say(record)
        return key, record

    def rotate(self, id_: str, overlap_s: float, now: Timestamp) -> tuple[str, KeyRecord]:
        """Another key like it; the old one ends after `overlap_s`. Raises Refused."""
        old = self.find(id_)
        if old.revoked or now >= old.expires_at:
            raise Refused(f"The key {old.id} is of no use any more: make a new one", 409)
        if not overlap_s >= 0:
            raise Refused("An overlap is a time from now on")
        valid_s = None if old.expires_at == NEVER else old.expires_at - old.made_at
        terms = Terms(old.tenant, old.plan, valid_s, old.scopes, old.residency, old.regions)
        made = self.create(terms, now)
        ends_at = Timestamp(min(old.expires_at, float(now + overlap_s)))
        self._say(replace(old, expires_at=ends_at, version=self._tick()))
        return made

    def revoke(self, id_: str) -> KeyRecord:
        """It works no more. Raises Refused."""
        record = replace(self.find(id_), revoked=True, version=self._tick())
        self._say(record)
        return record

    def find(self, id_: str) -> KeyRecord:
        """By its id, or the beginning of that. Raises Refused."""
        given = id_.lower()
        found = [one for one in self._book if one.digest.hex().startswith(given)]
        if len(given) < _ID_CHARS_MIN or not found:
            raise Refused(f"There is no key {id_}: see promptedge keys list", 404)
        if len(found) > 1:
            raise Refused(f"Several keys begin with {id_}: give more of it", 409)
        return found[0]

    def _check(self, terms: Terms) -> None:
        """Raises Refused."""
        if len(self._book) >= KEYS_MAX:
            raise Refused(f"There are {KEYS_MAX} keys, revoked ones too: no more fit", 409)
        if not (0 < len(terms.tenant) <= NAME_CHARS_MAX // 2 and terms.tenant.isprintable()):
            raise Refused("tenant: a name, 128 characters at most")
        if terms.plan and terms.plan not in self._plans:
            known = ", ".join(sorted(self._plans)) or "none"
            raise Refused(f"There is no plan {terms.plan}; [[plans]] on this node: {known}")
        if terms.valid_s is not None and not 0 < terms.valid_s < NEVER:
            raise Refused("A key expires in some time from now, or never")
        if unknown := set(terms.scopes) - USES:
            raise Refused(f"scopes: {', '.join(sorted(unknown))} is none of {_listed(USES)}")
        for what, names in (("residency", terms.residency), ("regions", terms.regions)):
            if not _are_regions(names or ()):
                raise Refused(f"{what}: names of regions")
        if terms.regions == ():
            raise Refused("regions: one at least, or its prompts could be sent nowhere")

    def _say(self, record: KeyRecord) -> None:
        if self._operator is None:
            raise Refused(
                "This node has not the operator's key, so it may not say which keys there are: "
                "ask one that may invite (may_invite in promptedge status)",
                403,
            )
        self._tell(sign(record, self._operator))


def _are_regions(names: tuple[str, ...]) -> bool:
    return len(names) <= REGIONS_MAX and all(0 < len(one) <= NAME_CHARS_MAX for one in names)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
