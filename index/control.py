"""Keeps the share of wrong semantic hits under `max_error`, and says how well it is kept.

Labels come from traffic. After a *miss* the fresh answer tells of each candidate whether its answer
would have been right; of the *hits* a random share is asked of the upstream as well, after
delivery. Both feed, for each class of prompts and each stratum of pairs (`index.calibration`), a
`betting.Ladder`: the lowest cut for which it is proven that what scores above it errs less than
`max_error` is the cut in force. So

* a stratum that nobody has evidence for is closed: a typed veto of the guard is final;
* where live labels say that a veto stops good pairs, its stratum opens above some score: the rule
  is *muted* there, and `report` says so; but some vetoes are final (`FINAL`);
* where they say that a cut errs, its proof melts away and the cut rises, or the stratum closes.

**Shrinkage.** Few labels are no reason to know nothing. A class begins with what was counted when
the calibration was fitted, and with the errors that all classes have seen, at half weight: nobody's
traffic proves anything for another's, but it warns. Own labels outweigh both in time. An entry's
own record moves its score (`index.decision`).

**Drift.** Beside the slow bookkeeping a fast one: a CUSUM of the likelihood that served hits err
four times as often as allowed (Page 1954). When it alarms, three quarters of the evidence of the
class are forgotten, which closes what was open by little, and more hits are checked.

**Noise.** An upstream asked twice may disagree with itself, and every comparison errs. Some checks
therefore ask twice; in a class, the share of such *twins* that differ is the floor under every
observed error, and is subtracted: in cuts the estimate, up to `_NOISE_MAX`; in the interval that is
told only what is certain.

Not safe for several threads: `index.labels` has the lock.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, log
from typing import Any, Final

import numpy as np

from index.betting import Interval, Ladder, Rate
from index.calibration import AGREE, RUNGS, VOTED, WORDS, Calibration
from index.decision import REFUTED, VERIFIED, DecisionSettings

FINAL: Final = frozenset(
    (
        "number",
        "unit",
        "date",
        "currency",
        "negation",
        "antonym",
        "comparator",
        "entity",
        "spelling",
    )
) | frozenset(("role", "order", "person", "wording"))
"""Vetoes that no evidence lifts. Where another number gives the same answer a thousand times, it
was a thousand times the same kind of question: the next may be about a dose."""
NOT_TYPED: Final = (AGREE, WORDS, VOTED, VERIFIED)
"""Strata without a veto that has a name."""
CLASSES_MAX: Final = 2_000
"""Classes with a record of their own, some 5 kB each; the one not heard of for longest goes. When
it comes back, nothing is believed of it that was not proven there."""
_GONE_MAX: Final = 100_000

_BELIEVED: Final = 2.0
"""How much what was counted while fitting is worth at most, beside what it takes to open a stratum:
just enough to begin with, so that a few labels to the contrary close it."""
_INHERITED: Final = 0.5
_NOISE_MAX: Final = 2.0
"""Over `max_error`, what noise may add to the bound on observed errors. An upstream that disagrees
with itself more often leaves nothing that could be proven: then cuts close, they do not loosen."""
_CURIOSITY: Final = 5.0
"""How much more than its due a miss weighs once hits are served: what lies below a cut is learned
so much sooner."""
_GLOBAL_STAKE: Final = 0.25
_START: Final = 0.5
"""A stratum starts at the lowest rung where it erred by no more than so much of the bound while
fitting, and where that is proven by what was counted."""
_TYPED_DOUBT: Final = 0.02
"""Muting a typed veto needs so much more proof than opening what merely differs in words."""
_ALARM_ODDS: Final = log(500.0)
_ALARM_FACTOR: Final = 4.0
_KEPT_AFTER_ALARM: Final = 0.25
_NOISE_PRIOR: Final = 30
_LABELS_UNTIL_SPARSE: Final = 100
"""Labels after which hits are checked half as often as at first."""


@dataclass(slots=True)
class _Stratum:
    ladder: Ladder
    cut: float = inf


@dataclass(slots=True)
class _Class:
    strata: dict[str, _Stratum] = field(default_factory=dict)
    rate: Rate = field(default_factory=Rate)
    """Of hits, how many were found wrong."""
    undecided: Rate = field(default_factory=Rate)
    """Of checks, how many could not be decided, or not be made."""
    twins: Rate = field(default_factory=Rate)
    """Of prompts asked twice, how many got two answers that differ."""
    unwatched: int = 0
    """Hits that were served while none was checked."""
    believes: bool = True
    """Whether it begins with what was counted while fitting."""
    recent_labels: int = 0
    """Labels of served hits since the start, or the last alarm: how little must be checked."""
    suspicion: float = 0.0
    alarms: int = 0
    asked: int = 0


@dataclass(frozen=True, slots=True)
class ClassReport:
    """What is known of one class of prompts. Shares are of semantic hits, unless they say so."""

    name: str
    max_error: float
    error: Interval
    """Of the hits served: the noise of the upstream is subtracted."""
    error_of_requests: float
    """The same wrong answers as a share of all requests that asked for an answer by meaning."""
    cuts: Mapping[str, float]
    """Score that a pair has to reach, by stratum; in those that are not here none is served."""
    labels: Mapping[str, int]
    """Labels seen since the start, by stratum."""
    noise: Interval
    """Of prompts asked twice, the share whose answers differ: the upstream, or our comparison."""
    unwatched: int
    """Hits served while none was checked, which the interval does not speak of."""
    shadow_rate: float
    alarms: int

    @property
    def muted(self) -> list[str]:
        """Typed vetoes of the guard that live labels speak against, above their cut."""
        return sorted(stratum for stratum in self.cuts if stratum not in NOT_TYPED)


class Control:
    """Cuts, labels and intervals, by class of prompts."""

    def __init__(self, settings: DecisionSettings, calibration: Calibration) -> None:
        self.settings = settings
        self.calibration = calibration
        self._starts = {stratum: self._start(stratum) for stratum in calibration.seen}
        self._all: dict[str, _Stratum] = {}
        self._classes: OrderedDict[str, _Class] = OrderedDict()
        self._gone: OrderedDict[str, None] = OrderedDict()

    # Deciding.

    def cut(self, name: str, stratum: str) -> float:
        """The score a pair of `stratum` must reach to be served in the class; infinite: none."""
        if stratum == REFUTED or stratum in FINAL:
            return inf
        return self._stratum(self._class(name), stratum).cut

    def asked(self, name: str) -> None:
        """A prompt of the class looked for an answer by meaning."""
        self._class(name).asked += 1

    def shadow_rate(self, name: str) -> float:
        """With which probability a hit of this class is to be checked."""
        return self._shadow_rate(self._class(name))

    def _shadow_rate(self, own: _Class) -> float:
        known = own.recent_labels
        wanted = self.settings.shadow_max * _LABELS_UNTIL_SPARSE / (_LABELS_UNTIL_SPARSE + known)
        return max(wanted, min(self.settings.shadow_min, self.settings.shadow_max))

    # Learning.

    def missed(self, name: str, stratum: str, score: float, wrong: bool) -> None:
        """The pair was not served; serving it would have been `wrong`."""
        own = self._class(name)
        opened = self._stratum(own, stratum).cut < inf
        # A hit is a label one time in 1/rate, so a miss is to weigh that much less than a checked
        # hit. Weighing it more errs on the safe side, as what scores less errs more.
        stake = min(_CURIOSITY * self._shadow_rate(own), 1.0) if opened else 1.0
        self._learn(own, stratum, score, wrong, stake)

    def unchecked(self, name: str, probability: float) -> None:
        """A hit was served and not drawn for a check, though it might have been."""
        self._class(name).rate.unlabelled(probability)

    def checked(
        self, name: str, stratum: str, score: float, wrong: bool, probability: float
    ) -> bool:
        """A hit that was drawn with `probability` was compared. True: this sets off an alarm."""
        own = self._class(name)
        own.rate.label(wrong, probability)
        own.undecided.label(False, 1.0)
        own.recent_labels += 1
        self._learn(own, stratum, score, wrong, 1.0)
        return self._suspect(own, wrong)

    def undecided(self, name: str, probability: float) -> None:
        """A hit that was drawn with `probability` could not be told right from wrong."""
        own = self._class(name)
        own.rate.label(False, probability)
        own.undecided.label(True, 1.0)

    def unwatched(self, name: str) -> None:
        """A hit was served while none is checked: no interval speaks of it."""
        self._class(name).unwatched += 1

    def complained(self, name: str, stratum: str, score: float) -> None:
        """Somebody says that a hit was wrong. No part of the estimate: only the wrong complain."""
        self._learn(self._class(name), stratum, score, True, 1.0, alone=True)

    def twins(self, name: str, differ: bool) -> None:
        """The upstream was asked the same prompt of the class twice; did its answers differ?"""
        self._class(name).twins.label(differ, 1.0)

    # Telling.

    def noise(self, name: str) -> Interval:
        """The share of prompts asked twice whose two answers are found to differ."""
        return self._class(name).twins.interval(self.settings.confidence)

    def error(self, name: str) -> Interval:
        """The share of the class's hits that were wrong, the upstream's own noise subtracted."""
        return self._error(self._class(name))

    def report(self) -> Iterator[ClassReport]:
        for name, own in self._classes.items():
            error = self._error(own)
            yield ClassReport(
                name=name,
                max_error=self.settings.max_error,
                error=error,
                error_of_requests=error.estimate * error.served / max(own.asked, 1),
                cuts={of: one.cut for of, one in sorted(own.strata.items()) if one.cut < inf},
                labels={of: int(one.ladder.labels) for of, one in sorted(own.strata.items())},
                noise=own.twins.interval(self.settings.confidence),
                unwatched=own.unwatched,
                shadow_rate=self._shadow_rate(own),
                alarms=own.alarms,
            )

    def _class(self, name: str) -> _Class:
        own = self._classes.get(name)
        if own is None:
            own = self._classes[name] = _Class(believes=name not in self._gone)
            if len(self._classes) > CLASSES_MAX:
                gone, _ = self._classes.popitem(last=False)
                self._gone[gone] = None
                if len(self._gone) > _GONE_MAX:
                    self._gone.popitem(last=False)
        else:
            self._classes.move_to_end(name)
        return own

    def _stratum(self, own: _Class, stratum: str) -> _Stratum:
        found = own.strata.get(stratum)
        if found is None:
            found = own.strata[stratum] = _Stratum(Ladder(RUNGS))
            if stratum in self.calibration.seen and own.believes:
                self._believe(found.ladder, stratum)
            if stratum in self._all:
                found.ladder.heed(self._all[stratum].ladder, _INHERITED)
            self._set_cut(found, stratum)
        return found

    def _everybody(self, stratum: str) -> _Stratum:
        found = self._all.get(stratum)
        if found is None:
            found = self._all[stratum] = _Stratum(Ladder(RUNGS))
        return found

    def _believe(self, ladder: Ladder, stratum: str) -> None:
        seen, start = self.calibration.seen[stratum], self._starts[stratum]
        if start is None:
            return
        enough = _BELIEVED * log(1 / self._doubt(stratum))
        low, high = 0.0, 1.0
        for _ in range(12):  # as large a share of it as proves no more than enough
            share = (low + high) / 2
            part = Ladder(RUNGS)
            part.believe(seen.right * share, seen.wrong * share, alpha=self.settings.max_error)
            low, high = (share, high) if part.proof()[start] <= enough else (low, share)
        ladder.believe(
            seen.right * high,
            seen.wrong * high,
            alpha=self.settings.max_error,
            loss_max=0.0,  # elsewhere it erred more; here that is neither proven nor refuted
        )

    def _learn(
        self,
        own: _Class,
        stratum: str,
        score: float,
        wrong: bool,
        stake: float,
        *,
        alone: bool = False,
    ) -> None:
        """`alone`: others are not warned by it."""
        memory, bound = float(self.settings.memory_labels), self._bound(own)
        found = self._stratum(own, stratum)
        found.ladder.bet(score, wrong, alpha=bound, stake=stake, memory=memory)
        self._set_cut(found, stratum)
        if not alone:
            everybody = self._everybody(stratum).ladder
            everybody.bet(score, wrong, alpha=bound, stake=stake * _GLOBAL_STAKE, memory=memory)

    def _set_cut(self, one: _Stratum, stratum: str) -> None:
        """The lowest rung that is proven.

        Half of the doubt is spent on one rung chosen beforehand and, once that is proven, on those
        below it in turn, each only after the one above (a fixed sequence of tests needs no more
        proof than one: Angelopoulos et al., "Learn then test", 2021); half on all the others.
        """
        doubt = self._doubt(stratum)
        proof = one.ladder.proof()
        proven = proof >= log(len(RUNGS) / doubt)
        start = self._starts.get(stratum)
        while start is not None and start >= 0 and proof[start] >= log(1 / doubt):
            proven[start] = True
            start -= 1
        one.cut = float(RUNGS[proven.argmax()]) if proven.any() else inf

    def _doubt(self, stratum: str) -> float:
        doubt = (1 - self.settings.confidence) / 2
        return doubt if stratum in NOT_TYPED else doubt * _TYPED_DOUBT

    def _start(self, stratum: str) -> int | None:
        """The rung where the evidence of the fitting says that a stratum may begin."""
        seen = self.calibration.seen[stratum]
        error = (seen.wrong + 1) / (seen.right + seen.wrong + 1)
        good = error <= _START * self.settings.max_error
        if not good.any():
            return None
        whole = Ladder(RUNGS)
        whole.believe(seen.right, seen.wrong, alpha=self.settings.max_error)
        proof = np.where(good, whole.proof(), -inf)
        proven = proof >= log(1 / self._doubt(stratum))
        return int(proven.argmax() if proven.any() else proof.argmax())

    def _bound(self, own: _Class) -> float:
        """The observed error that cuts are set for: what is allowed, on top of the noise.

        Of the noise the estimate counts, drawn towards none while there are few twins: its lower
        bound would take hundreds, and a noisy upstream would have closed everything by then.
        """
        allowed = self.settings.max_error
        noise = own.twins.wrong / (own.twins.labels + _NOISE_PRIOR)
        return allowed + min(noise * (1 - allowed), _NOISE_MAX * allowed)

    def _suspect(self, own: _Class, wrong: bool) -> bool:
        usual = self._bound(own)
        grave = min(_ALARM_FACTOR * usual, (1 + usual) / 2)
        step = log(grave / usual) if wrong else log((1 - grave) / (1 - usual))
        own.suspicion = max(own.suspicion + step, 0.0)
        if own.suspicion < _ALARM_ODDS:
            return False
        own.suspicion = 0.0
        own.alarms += 1
        own.recent_labels = 0
        for stratum, one in own.strata.items():
            one.ladder.shrink(_KEPT_AFTER_ALARM)
            self._set_cut(one, stratum)
        return True

    def _error(self, own: _Class) -> Interval:
        """Of the hits that can be told right from wrong, the share of wrong ones, without noise."""
        doubt = 1 - self.settings.confidence  # three intervals share it
        found = own.rate.interval(1 - 0.8 * doubt)
        open_ = own.undecided.interval(1 - 0.1 * doubt)
        noise = own.twins.interval(1 - 0.1 * doubt)

        def share(wrong: float, undecided: float, floor: float) -> float:
            if undecided >= 1 or floor >= 1:
                return 0.0
            return min(max((wrong / (1 - undecided) - floor) / (1 - floor), 0.0), 1.0)

        return Interval(
            share(found.estimate, open_.estimate, noise.estimate),
            share(found.low, 0.0, noise.high if noise.labels else 0.0),
            share(found.high, open_.high, noise.low) if open_.high < 1 else 1.0,
            found.labels - own.undecided.wrong,
            found.served,
        )

    # Lasting.

    def state(self) -> dict[str, Any]:
        """All that was learned, as plain values; `restore` takes it back."""
        return {
            "stamp": self._stamp,
            "gone": list(self._gone),
            "all": {name: one.ladder.state() for name, one in self._all.items()},
            "classes": [
                {
                    "name": name,
                    "strata": {of: one.ladder.state() for of, one in own.strata.items()},
                    "rate": own.rate.state(),
                    "undecided": own.undecided.state(),
                    "twins": own.twins.state(),
                    "unwatched": own.unwatched,
                    "believes": own.believes,
                    "recent": own.recent_labels,
                    "alarms": own.alarms,
                    "asked": own.asked,
                }
                for name, own in self._classes.items()
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> bool:
        """Go on from there; False when that was learned under another bound or calibration.

        Wealth was won by betting against one `max_error`, and proves nothing about another.
        """
        if state["stamp"] != self._stamp:
            return False
        self._gone = OrderedDict.fromkeys(state["gone"])
        self._all = {name: self._restored(one, name) for name, one in state["all"].items()}
        for one in state["classes"]:
            self._classes[one["name"]] = _Class(
                {of: self._restored(ladder, of) for of, ladder in one["strata"].items()},
                Rate.of(one["rate"]),
                Rate.of(one["undecided"]),
                Rate.of(one["twins"]),
                one["unwatched"],
                one["believes"],
                one["recent"],
                alarms=one["alarms"],
                asked=one["asked"],
            )
        return True

    def _restored(self, state: Mapping[str, Any], stratum: str) -> _Stratum:
        one = _Stratum(Ladder.of(RUNGS, state))
        self._set_cut(one, stratum)
        return one

    @property
    def _stamp(self) -> list[Any]:
        return [self.settings.max_error, self.settings.confidence, self.calibration.version]
