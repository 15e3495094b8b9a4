"""Where a request meets what its address may do, before its body is read.

Requests without an API key are counted by source, and so are wrong keys; what may be done with a
right key is its plan's (`edge.gate`). Wrong keys are logged in the form that the fail2ban filter in
`deploy/` reads: what was sent is not in it, and its address comes from the connection.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from random import Random
from typing import Any

from edge.admission import key_format
from edge.admission.rate import Limit, Meter
from edge.admission.source import Networks, Source, source_of
from edge.errors import SourceLimited, Unauthorized, after_s
from edge.intake import Intake
from edge.metrics import Metrics
from edge.protection.lockout import Lockout
from edge.protection.rates import Rates
from edge.protection.settings import ProtectionSettings
from edge.request import Head, Response
from index.entry import Instant

log = logging.getLogger("auth")

LINES_PER_MINUTE = 6000
"""Of wrong keys, from all sources together: a guesser with many addresses must not fill disks."""
GUESSES = frozenset({"malformed", "unknown"})
"""What is held against a source. Whoever brings no key guesses none, and a key that was revoked or
has expired was somebody's."""


class Door:
    def __init__(
        self,
        intake: Intake,
        settings: ProtectionSettings,
        metrics: Metrics,
        *,
        monotonic: Callable[[], Instant],
        chance: Random,
    ) -> None:
        trusted = Networks(settings.trusted)
        self._intake = intake
        self._metrics = metrics
        self._monotonic = monotonic
        self._chance = chance
        self._rates = Rates(settings.anonymous_requests_per_minute)
        self._lockout = Lockout(settings)
        self._lines = Meter(Limit(LINES_PER_MINUTE))
        self._source = lru_cache(4096)(lambda peer: None if peer in trusted else source_of(peer))
        self._told_at = Instant(float("-inf"))
        self.failures = 0
        """Wrong keys."""

    def admit(self, head: Head, peer: str) -> Response | None:
        """As `Intake.admit`, for a client at the address `peer`.

        Raises:
            SourceLimited: its source may do no more now.
            EdgeError: what the intake refuses.
        """
        source, now = self._source(peer), self._monotonic()
        key = head.headers.get("authorization")
        if key is not None and not self._intake.asks_for_key(head):
            key = None
        if source is not None and key is None:
            self._count(source, peer, now)
        try:
            answer = self._intake.admit(head)
        except Unauthorized as error:
            self._failed(source, peer, error, now)
            raise
        if source is not None and key is not None:
            self._opens(source, key, now)
        return answer

    @property
    def lockouts(self) -> int:
        """How often somebody was locked out."""
        return self._lockout.locked_out

    def facts(self) -> Mapping[str, Any]:
        """For operators."""
        return {
            "wrong_keys": self.failures,
            "lockouts": self.lockouts,
            "sources_of_wrong_keys": len(self._lockout),
        }

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        yield "wrong_keys", "Requests with a wrong API key or none.", lambda: self.failures
        yield "lockouts", "Times somebody was locked out.", lambda: self.lockouts

    # Requests without a key.

    def _count(self, source: Source, peer: str, now: Instant) -> None:
        if wait_s := self._rates.wait_s(source, now):
            self._metrics.turned_away("address")
            if now - self._told_at >= 1.0:
                self._told_at = now
                log.warning("event=too_many_requests src=%s see=protection.trusted", peer)
            raise self._refusal("Too many requests came from your address.", wait_s)
        self._rates.spend(source, now)

    # Keys.

    def _failed(self, source: Source | None, peer: str, error: Unauthorized, now: Instant) -> None:
        """Raises SourceLimited while the source is locked out."""
        guessed = source is not None and error.reason in GUESSES
        self.failures += 1
        if source is not None and guessed:
            self._refuse_while_locked_out(source, now)
        if not self._lines.wait_s(1, now):
            self._lines.spend(1, now)
            level = logging.WARNING if guessed else logging.INFO
            what = "event=auth_fail kind=api_key src=%s key_id=%s reason=%s"
            log.log(level, what, peer, error.key_id, error.reason)
        if source is not None and guessed and (lock_s := self._lockout.failed(source, now)):
            log.warning("event=lockout kind=api_key src=%s seconds=%d", peer, lock_s)

    def _opens(self, source: Source, authorization: str, now: Instant) -> None:
        """A right key was brought. Raises SourceLimited if it must not open now."""
        if authorization.partition(" ")[2].strip().startswith(key_format.PREFIX):
            return  # nobody guesses such a one
        key = hash(authorization)
        if not self._lockout.knows(source, key):
            self._refuse_while_locked_out(source, now)
        self._lockout.used(source, key)

    def _refuse_while_locked_out(self, source: Source, now: Instant) -> None:
        if wait_s := self._lockout.wait_s(source, now):
            self._metrics.turned_away("lockout")
            raise self._refusal("Too many wrong API keys came from your address.", wait_s)

    def _refusal(self, why: str, wait_s: float) -> SourceLimited:
        wait = after_s(wait_s, self._chance.random())
        return SourceLimited(f"{why} Try again in {wait} s.", retry_after_s=wait)
