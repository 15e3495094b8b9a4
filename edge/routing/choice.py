"""Which of several upstreams: the one where a client would wait least.

    sound       those that work, as far as is known; where there are none, those that may be tried
    tier        of these the first tier; the next when all of it are full
    spread      those that run out of their rate limit stand back, in proportion
    cheapest    of all, if they are few and it has no queue. What is cheapest is the same for
                everybody and is known late, so a crowd would run from one to the next: from ten on,
                or once it is busy, two are drawn and the cheaper taken (Mitzenmacher, 2001)

Now and then a request is a *probe*: it goes to one that is not the cheapest but may have become so,
or that may work again. Probes are a small share of the requests, so they are many where there is a
crowd to be brought back and few where each would be somebody's only request of the minute. One that
stands further up in the configuration and was hardly asked gets some more: its first answer, with a
new connection, may have been its slowest. And one of a better tier that was shut for a while is
tried by the first request after that, even where few come: what stands in for it is second best.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from edge.routing.budget import Budget
from edge.routing.need import Need, Usual
from edge.routing.settings import TIERS
from edge.routing.upstream import Upstream
from index.entry import Instant

TWO_CHOICES_FROM = 10
PROBE_SHARE = 0.05
"""So many requests may be probes."""
FIRST_PROBE_SHARE = 0.2
"""The same for those that were hardly asked, which lasts for a few requests."""
LOOK_AROUND_S = 60.0
"""How often one that was not nearer is tried, to know it when it is needed."""


@dataclass(slots=True)
class Choice:
    usual: Usual
    probe_interval_s: float
    chance: Random
    probes: Budget = field(default_factory=lambda: Budget(PROBE_SHARE, balance=1.0))
    first_probes: Budget = field(default_factory=lambda: Budget(FIRST_PROBE_SHARE))

    def among(self, able: Sequence[Upstream], need: Need, now: Instant) -> Upstream | None:
        """The upstream to ask; None if none of `able` may be asked now."""
        sound = [one for one in able if one.sound(need, now)]
        left = sound or [one for one in able if one.may_be_tried(need, now)]
        if not left:
            return None
        best = self._cheapest(self._tier(left, need, now), need, now)
        return self._probe(able, best, need, now) or best

    def _tier(self, left: Sequence[Upstream], need: Need, now: Instant) -> list[Upstream]:
        """Those of the first tier with room. Full is no reason to let a local one stand in: its
        answers are not the same."""
        tiers = [[one for one in left if one.settings.tier == tier] for tier in TIERS]
        first, *others = [tier for tier in tiers if tier]
        for tier in (first, *(o for o in others if o[0].settings.tier != "local")):
            if roomy := [one for one in tier if not one.full(need, now)]:
                return [one for one in roomy if self._spares(one, need, now)] or roomy
        return first

    def _spares(self, one: Upstream, need: Need, now: Instant) -> bool:
        return one.lane(need.model).allowances.spares(now, self.chance)

    def _cheapest(self, tier: Sequence[Upstream], need: Need, now: Instant) -> Upstream:
        def cost_s(one: Upstream) -> float:
            return one.cost_s(need, now, self.usual)

        best = min(tier, key=cost_s)
        if len(tier) >= TWO_CHOICES_FROM or (len(tier) > 2 and best.busy(need, now)):
            return min(self.chance.sample(tier, 2), key=cost_s)
        return best

    def _probe(
        self, able: Sequence[Upstream], best: Upstream, need: Need, now: Instant
    ) -> Upstream | None:
        """One of a tier at least as good as that of the best."""
        tier = TIERS.index(best.settings.tier)
        further_up = True
        for one in able:
            further_up = further_up and one is not best
            if one is best or TIERS.index(one.settings.tier) > tier:
                continue
            hardly = further_up and one.hardly_asked(need)
            budget = self.first_probes if hardly else self.probes
            if not self._due(one, best, need, now, soon=hardly):
                continue
            first_again = TIERS.index(one.settings.tier) < tier and one.not_asked_since_shut(need)
            if first_again or budget.spend(now):
                return one
        return None

    def _due(self, one: Upstream, best: Upstream, need: Need, now: Instant, *, soon: bool) -> bool:
        if not one.may_be_tried(need, now) or one.in_flight >= one.at_once(now):
            return False
        if not (one.breaker.closed and one.lane(need.model).breaker.closed):
            return True
        better = one.best_cost_s(need, now, self.usual) < best.cost_s(need, now, self.usual)
        better = better or one.settings.tier != best.settings.tier or not one.results
        if one.asked_at is None:
            one.asked_at = now
        return now - one.asked_at >= (self.probe_interval_s if better or soon else LOOK_AROUND_S)
