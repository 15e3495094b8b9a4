"""What an upstream is for one model: providers limit, and models answer, each on its own."""

from dataclasses import dataclass, field

from edge.routing.allowances import Allowances
from edge.routing.breaker import Breaker
from edge.routing.latency import Latency, Track
from edge.routing.norm import Norm
from index.entry import Instant

OLD_NEWS_S = 3.0
BAD_NEWS = 1.5
"""Times as slow as usual."""


@dataclass(slots=True)
class Lane:
    latency: Latency
    allowances: Allowances = field(default_factory=Allowances)
    breaker: Breaker = field(default_factory=Breaker)
    """Shut while the model's rate limit is reached."""
    norm: Norm = field(default_factory=Norm)
    waiting: int = 0
    """Requests without a first token."""
    news: Track | None = None

    def doubted(self, now: Instant) -> bool:
        """The last news was bad and is old: what has decayed since is hope, not knowledge. A crowd
        that followed the hope would all wait for what one request can find out."""
        news = self.news
        if news is None or news.at is None or now - news.at < OLD_NEWS_S:
            return False
        return news.expect(now) > BAD_NEWS * news.usual_s
