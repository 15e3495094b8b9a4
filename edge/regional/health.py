"""Whether the server is worth asking: what all who ask it learn of it, together."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge.regional.client import Declined, Unreachable
from edge.routing.breaker import Breaker
from index.entry import Instant

log = logging.getLogger("redis")

DECLINED_LOG_S = 60.0
"""How often at most the log says that it declines something."""


class Health:
    def __init__(self, url: str, monotonic: Callable[[], Instant]) -> None:
        self.trouble = ""
        """What went wrong last, until it is back."""
        self._url = url
        self._monotonic = monotonic
        self._breaker = Breaker()
        self._tell_at = Instant(0.0)

    @property
    def good(self) -> bool:
        return self._breaker.closed

    @property
    def state(self) -> str:
        """For people."""
        state = self._breaker.state(self._monotonic())
        return {"closed": "ready", "open": "lost", "half-open": "trying"}[state]

    def lets(self) -> bool:
        """May it be asked?"""
        return self._breaker.lets(self._monotonic())

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around one call, of which it learns; what is raised is raised."""
        self._breaker.asked()
        began = self._monotonic()
        try:
            yield
        except Declined as exc:
            self._answered(began)
            self._declined(began, exc)
            raise
        except Unreachable as exc:
            self._failed(began, exc)
            raise
        except BaseException:  # nobody waits for it any more, or it was not even asked (`Full`)
            self._breaker.abandoned()
            raise
        else:
            self._answered(began)

    def _answered(self, began: Instant) -> None:
        lost = not self._breaker.closed
        self._breaker.answers(began, self._monotonic())
        self._breaker.succeeded(began)
        if lost and self._breaker.closed:
            self.trouble = ""
            log.warning("event=redis_back url=%s", self._url)

    def _declined(self, began: Instant, exc: Exception) -> None:
        """It is there; that it does not do this may be a full memory, or one value's fault."""
        self.trouble = str(exc)
        if began >= self._tell_at:
            self._tell_at = Instant(began + DECLINED_LOG_S)
            log.warning("event=redis_declined url=%s why=%s", self._url, exc)

    def _failed(self, began: Instant, exc: Exception) -> None:
        was = self._breaker.closed
        self._breaker.failed(began, self._monotonic())
        self.trouble = str(exc)
        if was and not self._breaker.closed:
            log.warning("event=redis_lost url=%s why=%s", self._url, exc)
