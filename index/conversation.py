# ruff: noqa: E501 -- a pattern is read whole, on its line
"""Whether the last turn of a conversation can be answered without what was said before.

Nearly every question of a conversation depends on it, also where no word says so: *is there an exit
fee?* asks about the contract that was talked of. So the proof has two parts, and in doubt there is
none. The turn has to be **complete**: a question of its own, without a word that points back, whose
nouns of relation (fee, deadline, limit) have what they relate to beside them. And the history must
not **constrain** it: no instruction how to answer, and nothing of the asker's that the question
could be about.

What the assistant said is looked at for facts that a question may be about; it is in the digest of
the history, and never in a vector.
"""

import re
from collections.abc import Sequence
from typing import Final

from index import language, lexicon
from index.eligibility import PLEONASTIC
from index.orthography import fold
from index.patterns import union
from index.reading import read
from index.words import Reading

_TURNS_MAX: Final = 24
_CHARACTERS_MAX: Final = 6_000
"""A longer history is not proven irrelevant. To read so much that was not read before takes 20 ms;
mostly all but two turns were, and most last turns lean on something, which shows in 0.1 ms."""

_TURNING: Final = re.compile(
    r"^(?:(?:by the way|btw|separately|unrelated|out of curiosity|just curious|(?:just )?wondering|while i'?m here|before i go|on another (?:note|topic|subject)"
    r"|(?:a |and |oh |just )*(?:different|another|quick|new|one more|one last|last|separate|random|final) (?:question|q|thing|topic|one)"
    r"|changing (?:the )?(?:topic|subject)|(?:hi|hello|hey)(?: there| again)?|also|oh|actually|thanks|thank you|great|perfect|cool|lovely|brilliant|ok|okay|right"
    r"|cheers|thanks for (?:that|your help)|that's (?:great|helpful|all))\s*(?:[,.!:;-]+\s*|(?=(?:also|by the way|btw)\b)))+",
    re.IGNORECASE,
)
"""Openings that turn to something else."""

_OPENING: Final = re.compile(
    r"^(?:(?:on |in |at |for |from |to )?(?:what|which|who|whose|when|where|why|how)\b|(?:is|are|was|were|do|does|did|has|have|can|could|will|would|should|must|may)\b"
    r"|(?:explain|describe|list|define|tell me|show me|compare|name|give me)\b)"
)
_LABEL: Final = re.compile(r"^[a-z][\w+#.-]*(?: [\w+#.-]+)?: (?=\w)")
"""*CSS: how to centre a div?*"""
_POINTS: Final = union(
    (
        r"\b(?:it|its|this|that|these|those|they|them|their|theirs|he|she|him|her|his|hers|there(?! (?:a|an|any|some|is|are|anything|anyone)\b))\b",
        r"\b(?:ones?|then|instead(?! of)|too|also|else|others?|same|again|still|yet|either|neither|both|anyway|so|already|actually|now|extra|more(?! than))\b",
        r"\b(?:next|former|latter|previous|earlier|mentioned|above|rest|remaining|total)\b"
        r"|\b(?:first|second|third|last)(?: (?:one|option|choice|part|step|point|question|answer|offer|plan|time))?$",
        r"\b(?:my|our) (?!own\b|(?:account|password|e?-?mail|address|phone number|details|username|profile)\b)|\bmine\b|\bours\b",
    )
)
"""Words that may refer to what was said, and owners: *my* contract is one that was spoken of."""

_ASKS_FOR_ONESELF: Final = re.compile(
    r"^(?:can|could|will|would|should|must|may|do|am|are|have|did|was|is it|when (?:will|can|do|am|should)|what (?:will|can|do|should|would|am)"
    r"|how (?:much|long|many|often|soon|far|late|early) (?:will|can|do|should|would|am|have)|where (?:can|do|will|should)|(?:which|what|how (?:many|much)) .{1,40}? (?:can|do|should|will|would|must|am|are)) (?:i|we)\b"
)
"""What the asker may, must or will do depends on what they told of themselves."""

_RELATIONS: Final = frozenset(
    (
        "fee", "cost", "price", "charge", "deposit", "deadline", "limit", "date", "time", "address", "number", "code", "link", "option", "plan",
        "discount", "warranty", "guarantee", "refund", "return", "delivery", "colour", "color", "size", "rate", "total", "amount", "balance", "minimum", "maximum",
        "difference", "process", "procedure", "policy", "requirement", "status", "window", "period", "contract", "premium", "excess", "notice",
        "penalty", "name", "reason", "step", "form", "photo", "document", "password", "setup", "registration", "application", "approval",
        "verification", "cancellation", "renewal", "upgrade", "installation", "interest", "tax", "result", "answer", "rule", "problem", "issue", "cause",
        "effect", "benefit", "advantage", "drawback", "alternative", "example", "version", "part", "way", "type", "kind", "speed", "weight", "height",
        "age", "length", "distance", "capacity", "duration", "term", "condition", "exception", "bonus", "tip", "symptom", "treatment", "dose", "dosage",
        "payment", "bill", "invoice", "order", "booking", "appointment", "ticket", "reservation", "room", "table", "seat", "menu", "course", "job", "salary",
        "population", "capital", "currency", "weather", "language", "author", "owner", "ceo", "president", "side", "colours", "allowance", "entitlement",
    )
)  # fmt: skip
"""Nouns that are of something: without it in the question, it is in the history."""

_ARGUMENT: Final = re.compile(
    r"\b(?:for|of|on|at|with|in|from|by|between|when|if|as|using)\s+(?=\w)"
    r"|\b(?:age|deadline|limit|fee|cost|way|code|time|documents?|rules?|steps?|application) to (?=\w)"
)

_INSTRUCTING: Final = union(
    (
        r"\b(?:answer|reply|respond|speak|write|talk|say|explain|translate|put|format|list|summari[sz]e)\b.{0,30}\b(?:in|as|like|with|using|briefly|short(?:er)?|only)\b",
        r"^(?:please )?(?:always|never|only|don't|do not)\b|[,.;] (?:please )?(?:always|never)\b",
        r"\b(?:from now on|every time|for the rest|going forward|each answer|your (?:answers?|replies|responses))\b",
        r"\b(?:call me|act as|pretend|role-?play|you are|you're (?:a|an|my|the)|be (?:brief|concise|short|polite|formal|honest|kind)|let's play|let's (?:assume|imagine)|hypothetically)\b",
        r"(?:^|[.;:!?,] )(?:imagine|suppose|assume)\b",
        r"\b(?:bullet points?|in (?:a|one|two|three) (?:sentences?|words?|lines?|table)|json|markdown|eli5|like i'?m|as if)\b",
        r"\b(?:i (?:prefer|only|hate)|i'?m (?:allergic|vegan|vegetarian|diabetic|pregnant|a |an |not )|i am (?:allergic|vegan|vegetarian|diabetic|pregnant|a |an |not ))",
        r"\b(?:i|we) (?:live|work|study|am based|are based|come) (?:in|at|for|from)\b|\b(?:i'?m|we'?re) (?:from|in) \w|\bi speak\b|\bin (?:english|french|german|spanish|italian|chinese|japanese|portuguese|dutch|polish|russian)\b",
    )
)
"""How to answer, and what the asker is: it holds for whatever is asked afterwards."""


def needed(
    last: str, said: Sequence[str], replies: Sequence[str], *, instructed: bool
) -> str | None:
    """What of the history the last turn still needs: mostly "", nothing; None if there is no proof.

    `said` are the user's earlier turns, `replies` the assistant's, oldest first. Without instructions from a system it was the
    user who said whom they speak to, in the first turn mostly: those names are needed, unless the
    question has a name of its own.
    """
    earlier = [*said, *replies]
    if len(said) > _TURNS_MAX or sum(map(len, earlier)) > _CHARACTERS_MAX:
        return None
    turn = _TURNING.sub("", fold(last))
    if language.foreign(turn) or not _complete(turn):
        return None
    if (
        any(map(_states, said))
        or any(map(_instructs, said))
        or any(map(language.foreign, said))
        or _constrained(turn, earlier)
    ):
        return None
    return "" if instructed or not said or _names(turn) else " ".join(sorted(_names(said[0])))


def _names(text: str) -> set[str]:
    words = {token.word for token in read(text).tokens if token.name}
    return {word for word in words if word not in lexicon.UNITS}


def _states(said: str) -> bool:
    """Whether the asker told something of themselves: of whom the answer may have to be."""
    sentences = re.split(r"(?<=[.!?;])\s+|\n", fold(said).lower())
    return any(
        _OF_ONESELF.search(sentence) and not _ASKS.search(sentence) for sentence in sentences
    )


def _instructs(said: str) -> bool:
    return _INSTRUCTING.search(fold(said).lower()) is not None


def _complete(turn: str) -> bool:
    """Whether the turn asks one whole question."""
    small = _LABEL.sub("", turn.lower().rstrip(" ?!."))
    if not _OPENING.search(small) or _POINTS.search(PLEONASTIC.sub(" ", small)):
        return False
    content = [token for token in read(turn).tokens if token.kind in ("word", "quoted")]
    named = any(token.name for token in content)
    if len(content) < (2 if named else 3) or _ASKS_FOR_ONESELF.search(small):
        return False
    if any(found[1] not in _UNIQUE for found in _DEFINITE.finditer(small)):
        return False
    if _MEASURES.search(small) and not named:
        return False
    related = any(not token.forms.isdisjoint(_RELATIONS) for token in content)
    return not related or _ARGUMENT.search(small) is not None


def _constrained(turn: str, earlier: Sequence[str]) -> bool:
    """Whether something that was told may be what the question is about.

    That is so where a statement, a name or a number and words of the question are of one subject.
    """
    asked = read(turn)
    named = {token.word for token in asked.tokens if token.name}
    subject = [
        t.forms
        for t in asked.tokens
        if t.kind == "word"
        and t.word not in lexicon.CLOSED
        and not t.name
        and t.forms.isdisjoint(_GENERIC)
    ]
    for reading in map(read, earlier):
        if not _tells(reading, named):
            continue
        spoken = frozenset().union(*(token.forms for token in reading.tokens))
        shared = sum(not forms.isdisjoint(spoken) for forms in subject)
        if shared >= 2 or 2 * shared >= max(len(subject), 1):
            return True
    return False


def _tells(reading: Reading, named: set[str]) -> bool:
    """Whether the turn holds facts: a number, or a name of its own."""
    return bool(reading.numbers) or any(
        token.name and token.word not in named for token in reading.tokens
    )


_OF_ONESELF: Final = re.compile(r"\b(?:i|we|my|our|mine|ours|me|us|myself)\b")
_ASKS: Final = re.compile(rf"\?|{_OPENING.pattern}")

_MEASURES: Final = re.compile(r"^how (?:many|much|long|often|far|soon|early|late|big|heavy|old)\b")
"""How much of something there is depends on which; only where that is named it is known."""

_DEFINITE: Final = re.compile(
    r"\bthe ([\w'-]+)(?=$| (?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|must|may|i|we|you|be|not|and|or|out|open|close|start"
    r"|to|from|by|as|if|before|after|during|until|than)\b|[,;:])"
)
_UNIQUE: Final = frozenset(
    ("council", "government", "police", "law", "state", "internet", "web", "sun", "moon", "earth", "world", "sea", "sky", "weekend", "nhs", "eu", "uk", "usa", "us", "un")
)  # fmt: skip
_GENERIC: Final = frozenset(
    ("get", "need", "want", "do", "have", "go", "make", "take", "use", "tell", "know", "help", "ask", "find", "give", "bring", "be", "like", "see", "come", "work", "say", "put", "let", "offer", "can", "may", "will", "must", "should", "could", "would", "people", "person", "day", "time", "thing", "lot", "hour")
)  # fmt: skip
