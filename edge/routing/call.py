"""One upstream being asked for one answer.

A call ends exactly once: `succeeded`, `failed`, `declined` (the request was at fault) or
`abandoned` (its client left, or another call was first). What it counted for ends with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge.errors import UpstreamError
from edge.routing import outliers
from edge.routing.headers import Told
from edge.routing.knee import Since
from edge.routing.need import Need, Usual
from edge.routing.upstream import Upstream
from index.entry import Instant

RESULTS = ("answered", "failed", "limited", "declined", "abandoned")
SPEED_TOKENS_MIN = 8
"""Shorter answers say nothing about speed."""
TAIL_ANSWERS_MIN = 20
"""So many answers it takes to say which are late."""


@dataclass(slots=True, eq=False)
class Call:
    upstream: Final[Upstream]
    need: Final[Need]
    usual: Final[Usual]
    everybody: Final[Sequence[Upstream]]
    number: Final[int]
    began: Final[Instant]
    on_answer: Final[Callable[["Call"], None]]
    """Told when the first token is here, before anybody sees it."""
    first_at: Instant | None = None
    whole: bool = False
    """Whether all of it came with the first token."""
    streams: bool = True
    """Whether its tokens are seen as they come."""
    tokens: int = 0
    """Of the answer, about, as far as it has come."""
    result: str = ""
    _since: Since = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.upstream.begins(self.number, self.need, self.began)

    def __repr__(self) -> str:
        state = self.result or ("waiting" if self.first_at is None else "streaming")
        return f"<Call {self.number} of {self.upstream.name} {state}>"

    @property
    def model(self) -> str:
        """What this upstream calls the model."""
        return self.upstream.calls(self.need.model)

    @property
    def ttft_s(self) -> float | None:
        """How long its first token took; None if it did not come, or not by itself."""
        return None if self.first_at is None or self.whole else self.first_at - self.began

    @property
    def late_after_s(self) -> float | None:
        """When its first token is later than 99 of 100 are; None while that is not known."""
        track = self.upstream.lane(self.need.model).latency.of(self.need.prompt_bytes)
        return track.tail_s if track.answers >= TAIL_ANSWERS_MIN else None

    def told(self, told: Told, now: Instant) -> None:
        """What its header fields said."""
        self.upstream.lane(self.need.model).allowances.heard(told.allowances, now)

    def answers(self, now: Instant, *, whole: bool = False) -> None:
        """The first token is here, or the `whole` answer at once."""
        self.on_answer(self)
        self.first_at, self.whole = now, whole
        if not whole:
            self.upstream.answers(self.number, self.need, now - self.began, self.began, now)

    def succeeded(self, now: Instant, tokens: int) -> None:
        """The answer is complete; it had about so many tokens."""
        if self.ttft_s is None:
            self._tell_apart(now, tokens)
        elif self.first_at is not None and tokens >= SPEED_TOKENS_MIN and now > self.first_at:
            self.upstream.speaks(self.need, tokens, now - self.first_at, now)
        self._over(now, tokens, left=False)
        self.usual.answered(tokens)
        self.upstream.breaker.succeeded(self.began)
        self._end("answered", now)

    def _tell_apart(self, now: Instant, tokens: int) -> None:
        """Of an answer that came in one piece, what its tokens do not explain was the wait."""
        took_s = now - self.began
        writing_s = tokens / self.upstream.speed(self.usual)
        if 0 < took_s < writing_s:
            self.upstream.speaks(self.need, tokens, took_s, now)
            writing_s = took_s
        self.upstream.answers(self.number, self.need, took_s - writing_s, self.began, now)

    def failed(self, now: Instant, error: UpstreamError) -> None:
        upstream = self.upstream
        if error.status == 429 or (error.status == 503 and error.retry_after_s is not None):
            error.crowded = upstream.refused(self.need, self.began, now, error.wait_s)
            self._end("limited", now)
        else:
            upstream.breaker.failed(self.began, now)
            upstream.record.note(now, good=False)
            if upstream.breaker.closed:  # else it is down, and out already
                outliers.eject(upstream, self.everybody, now)
            self._end("failed", now)

    def declined(self, now: Instant) -> None:
        """It works; the request was at fault."""
        lane = self.upstream.lane(self.need.model)
        for breaker in (self.upstream.breaker, lane.breaker):
            breaker.answers(self.began, now)
        self.upstream.breaker.succeeded(self.began)
        self._end("declined", now)

    def abandoned(self, now: Instant) -> None:
        """There was no outcome. Does nothing to a call that has ended."""
        if not self.result:
            self.upstream.abandoned(self.number, self.need, now - self.began, now)
            self._over(now, self.tokens, left=True)
            self._end("abandoned", now)

    def _over(self, now: Instant, tokens: int, *, left: bool) -> None:
        how = {"left": left, "streams": self.streams}
        self.upstream.over(self.need, tokens, self.usual, self._since, now, **how)

    def _end(self, result: str, now: Instant) -> None:
        assert not self.result, self
        self.result = result
        self.upstream.ends(self.number, self.need, result, now)
