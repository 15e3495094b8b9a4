"""Our own rule, as a node runs it: the gate, the nearest, the decision, and what is learned.

It mirrors `edge.fill` and `edge.checks`: what the gate refuses is neither looked up nor stored; a
miss is compared with its candidates; of the hits a share that the control asks for is checked, the
fresh answer of a check is stored, and some prompts are asked twice.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from random import Random
from typing import Final, NamedTuple

from bench.quality.methods import Decision, Fresh, Near
from bench.quality.sets import Turn
from bench.quality.vcache import BOUNDS
from edge.checks import CONTENDERS_MAX, TWINS
from index import decision
from index.calibration import AGREE, Calibration
from index.control import ClassReport
from index.decision import Candidate, DecisionSettings, Judged, Miss, Serve, decide
from index.eligibility import DEFAULT_CLASS, PromptClass, check_overrides
from index.embedding import Embedder
from index.entry import Question, Scope
from index.guard import Evidence, compare, read
from index.labels import Labels, Verdict
from index.prompt import Prompt, route
from index.questions import CANDIDATES
from index.words import Reading

Overrides = Mapping[str, PromptClass]

DEFAULTS: Final[Overrides] = {}
PERSONAL: Final = check_overrides({"personal": "semantic", "amount": "semantic"})


def _open() -> Overrides:
    """Every reason that an operator may overrule."""
    found: dict[str, PromptClass] = {}
    for reason in DEFAULT_CLASS:
        try:
            found |= check_overrides({reason: "semantic"})
        except ValueError:
            continue
    return found


OPEN: Final = _open()


class Gated(NamedTuple):
    """A prompt behind the gate. No question: it is matched exactly at most, for `reason`."""

    question: Question | None
    kind: str
    reason: str


class Gate:
    """`index.prompt.route` and the encoder's own limits; asked once for each prompt."""

    def __init__(self, name: str, overrides: Overrides, embedder: Embedder) -> None:
        self.name = name
        self._overrides = overrides
        self._embedder = embedder
        self._known: dict[str, Gated] = {}

    def __call__(self, turn: Turn) -> Gated:
        key = json.dumps(turn.history) + turn.text if turn.history else turn.text
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._asked(turn)
        return found

    def _asked(self, turn: Turn) -> Gated:
        messages = [*turn.history, {"role": "user", "content": turn.text}]
        canonical = json.dumps({"messages": messages, "model": "m"}, sort_keys=True)
        prompt = Prompt("chat", "m", canonical.encode())
        routed = route(prompt, Scope("shared"), b"bench", self._overrides)
        if routed.asked is None:
            return Gated(None, routed.cls, f"{routed.cls}:{routed.reason}")
        unread = self._embedder.inspect(routed.asked.text)
        if unread:
            return Gated(None, routed.cls, f"encoder:{unread}")
        return Gated(routed.asked, routed.cls, "")


class Ours:
    nearest = CANDIDATES

    def __init__(
        self, bound: float, gate: Gate, calibration: Calibration, random: Random, fitted: str = ""
    ) -> None:
        """`fitted`: on what the calibration was, if it is not the one that is shipped."""
        self.name = f"ours {bound:.1%}, {gate.name}" + (f", {fitted}" if fitted else "")
        self.bound: float | None = bound
        self._gate = gate
        self._labels = Labels(None, DecisionSettings(max_error=bound), calibration)
        self._random = random
        self._asked = Gated(None, "", "")
        self._found: Serve | Miss = Miss("")
        self._probability = 0.0

    def decide(self, asked: Turn, near: Sequence[Near]) -> Decision:
        labels = self._labels
        self._asked = question, kind, reason = self._gate(asked)
        if question is None:
            return Decision(None, reason=reason)
        candidates = list(self._within(question, near))
        cut = labels.cut(kind)
        known = labels.known(question, candidates)
        self._found = found = decide(question.text, known, labels.calibration, cut)
        if isinstance(found, Miss):
            return Decision(None, reason=self._why(found, near))
        stratum = found.chosen.stratum
        served = next(one for one in near if one.id == found.chosen.candidate.id)
        self._probability = probability = labels.shadow_rate(kind)
        if self._random.random() < probability:
            return Decision(served, shadow=True, reason=stratum)
        labels.unchecked(kind, probability)
        return Decision(served, reason=stratum)

    def _within(self, asked: Question, near: Sequence[Near]) -> Iterator[Candidate]:
        for one in near:
            stored = self._gate(one.turn).question
            if stored is not None and stored.partition == asked.partition:
                yield Candidate(one.id, stored.text, one.cosine, codes=one.codes)

    def _why(self, found: Miss, near: Sequence[Near]) -> str:
        """Of a pair, where the other one may not be stored for others to find."""
        if found.reason == "no-candidate" and near:
            return self._gate(near[0].turn).reason or "partition"
        return found.reason

    def after(self, asked: Turn, near: Sequence[Near], served: Near | None, fresh: Fresh) -> bool:
        question, kind, _ = self._asked
        if question is None:
            return False
        if isinstance(self._found, Serve):
            self._checked(question, kind, self._found.chosen, fresh)
        elif self._found.judged:
            verdicts = list(_verdicts(self._found.judged, fresh))
            self._labels.missed(kind, question, verdicts)
            if any(one.label and one.judged.stratum == AGREE for one in verdicts):
                self._ask_again(question, kind, fresh)
        return True

    def _checked(self, question: Question, kind: str, chosen: Judged, fresh: Fresh) -> None:
        right = fresh.agrees(chosen.candidate.id)
        self._labels.checked(kind, question, chosen, right=right, probability=self._probability)
        agreed = [(one, fresh.agrees(one.candidate.id)) for one in self._found.judged]
        told = [Verdict(one, same, label=False) for one, same in agreed if same or one is chosen]
        self._labels.missed(kind, question, told)
        if not right:
            self._labels.refute(question, chosen.candidate.text)
        self._ask_again(question, kind, fresh)

    def _ask_again(self, question: Question, kind: str, fresh: Fresh) -> None:
        known = self._labels.noise(kind).labels
        if self._random.random() < max(1 / TWINS, TWINS / (TWINS + known)):
            self._labels.twins(kind, not fresh.again())
            self._labels.replaced(question)

    def report(self) -> ClassReport | None:
        """Of what meaning was asked."""
        return self._labels.report_of(PromptClass.SEMANTIC)


def _verdicts(judged: Sequence[Judged], fresh: Fresh) -> Iterator[Verdict]:
    compared: set[str] = set()
    for one in judged:
        first = one.stratum not in compared and len(compared) < CONTENDERS_MAX
        if first:
            compared.add(one.stratum)
        right = fresh.agrees(one.candidate.id)
        if first or right:
            yield Verdict(one, right, label=first)


def ours(gate: Gate, calibration: Calibration, seed: int, fitted: str = "") -> list[Ours]:
    return [Ours(bound, gate, calibration, Random(seed), fitted) for bound in BOUNDS]


@contextmanager
def compared_once() -> Iterator[None]:
    """Every row weighs much the same pairs: while this lasts each is read and compared once.

    Evidence depends on the two texts alone, so that all it changes is how long a run takes.
    """
    readings: Callable[[str], Reading] = cache(read.__wrapped__)
    kept: dict[tuple[int, int], Evidence] = {}

    def once(asked: Reading, cached: Reading) -> Evidence:
        pair = id(asked), id(cached)  # `readings` keeps them alive
        found = kept.get(pair)
        if found is None:
            found = kept[pair] = compare(asked, cached)
        return found

    decision.read, decision.compare = readings, once  # type: ignore[attr-defined, assignment]
    try:
        yield
    finally:
        decision.read, decision.compare = read, compare  # type: ignore[attr-defined]
