"""A sentence, walked through once: what kind of question it is, and the role of each of its words.

Function words set the *kind* of question, tense, person and the *role* of the phrase that follows;
every word that is left is content.
"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

from index import english, lexicon, orthography, quantities
from index.patterns import union
from index.words import Reading, Token

_TOKEN = re.compile(
    r"(?P<quoted>\"[^\"]{1,80}\"|(?<!\w)'[^']{1,80}'(?!\w))"
    r"|(?P<date>@\d[\d:-]*)"
    r"|(?P<time>\d{1,2}:\d{2}(?::\d{2})?)"
    r"|(?P<ordinal>\d+(?:st|nd|rd|th)\b)"
    r"|(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)*)"
    r"|(?P<phrase>[a-z]+(?:-[a-z]+)+)"
    r"|(?P<word>[^\W\d_]+(?:\+\+|\#)?)"
    r"|(?P<owner>'s\b|(?<=s)'(?!\w))"
    r"|(?P<comma>[,;:.](?!\d)|\s-\s)"
    r"|(?P<minus>(?<![\w)])-(?=\d))"
    r"|(?P<symbol>[^\w\s.,;:?!'\"()\[\]-])"
)
_HYPHENED = frozenset(
    word for table in (lexicon.SAME, lexicon.UNITS) for word in table if "-" in word
) | {"step-by-step", "out-of"}
_MAIN_VERBS: Final = {
    "do": "do", "does": "do", "doing": "do", "done": "do", "did": "do", "be": "be",
    "have": "have", "has": "have", "had": "have", "having": "have",
}  # fmt: skip
_BE: Final = frozenset(("is", "are", "am", "was", "were", "be", "been", "being"))
_OBJECTS: Final = frozenset(("me", "us", "you", "it", "them", "him", "mine", "yours"))
_TELLING: Final = frozenset(("from", "by", "about", "like", "than"))
"""Prepositions that matter even where they govern nothing but a pronoun."""
_OWNERS: Final = re.compile(r"\b(?:my|our|your|mine|ours|yours)\b")
_ASKS_WHO: Final = lexicon.MODALS | lexicon.QUESTION_WORDS | {"if", "that", "because", "not"}
_ADDRESSED = re.compile(r"^(?:are|were) you\b|\b\w+ (?:you|yourself)$")

MENTION: Final = union(
    (
        r"\b(?:rhymes?|rhyming|synonyms?|antonyms?|opposites?|anagrams?|palindromes?|syllables?)\b",
        r"\b(?:etymology|acronym|abbreviation|homophones?|conjugat\w*|spell(?:ing|ed|s)?|spelt)\b",
        r"\b(?:pronounc\w*|pronunciation|defin(?:e|ition|itions)|mean(?:s|ing)?|meant)\b",
        r"\bhow many (?:letters|vowels|consonants|characters|words)\b",
        r"\b(?:past|present|future) (?:tense|participle|perfect)\b",
        r"\b(?:plural|singular|infinitive) (?:form )?of\b|\bdifference between\b.*\bwords?\b",
        r"\b(?:the|this) (?:word|term|phrase|name|letter|expression|idiom)\b",
    )
)
"""Questions about words."""

_EMPTY: Final[frozenset[str]] = frozenset()


def _links(plain: str, names: frozenset[str]) -> frozenset[str]:
    """*To* counts where it is no part of a verb: before an article, an owner or a name."""
    words = plain.split()
    found = {lexicon.PREPOSITIONS[w] for w in words if w in lexicon.PREPOSITIONS and w != "to"}
    going = words[words.index("get") + 1 :] if "get" in words else ()  # to get *to* work
    to = "to" in going or any(
        a == "to" and (b in _DETERMINERS or b in names) for a, b in pairwise(words)
    )
    return frozenset(found | {"to"} if to else found)


_BEFORE_ACTS = frozenset(
    (
        "after",
        "before",
        "while",
        "when",
        "without",
        "start",
        "begin",
        "keep",
        "avoid",
        "for",
        "of",
    )
)
_TO_ACT = frozenset(("stop", "stops", "stopped", "stopping", "remember", "forget"))
"""*To* eat is another thing than eating after these."""
_DETERMINERS = frozenset(
    ["a", "an", "the", "my", "your", "our", "his", "her", "their", "this", "that"]
)


class Sentence:
    """Walks the plain text once, left to right."""

    def __init__(self, plain: str, folded: str) -> None:
        self.plain = plain
        self.folded = folded
        self.names, self.capitals, self.lowers = orthography.cases(folded)
        self.kind = "bare"
        self.tense = ""
        self.passive = False
        """Whether a form of *be* has been passed."""
        self.subject = 0
        self.owners: set[str] = set()
        self.persons: list[str] = _OWNERS.findall(plain)
        self.helpers: list[str] = []
        self.article = ""
        self.tokens: list[Token] = []
        self.numbers: list[str] = []
        self.dates: list[str] = []
        self.role = ""
        self.phrases = 0
        self.open = False
        """Whether the last piece was content, so that the next content word belongs to it."""
        self.started = False
        self.awaits_facet = False
        self.before = ""
        self.acting = ""
        """The verb, where the next word is one and its gerund may stand for it."""

    def reading(self) -> Reading:
        pieces = [(m.lastgroup or "", m.group()) for m in _TOKEN.finditer(self.plain)]
        pieces = quantities.converted(quantities.joined(_unhyphened(pieces)))
        for at, (group, text) in enumerate(pieces):
            following = pieces[at + 1] if at + 1 < len(pieces) else ("end", "")
            self._take(group, text, following)
        turned, links = _passives_turned(self.tokens), _links(self.plain, self.names)
        return Reading(
            self.plain, self.kind, self.tense, self.subject, frozenset(self.owners),
            tuple(sorted(self.persons)), tuple(sorted(self.helpers)),
            tuple(turned), tuple(self.numbers), tuple(self.dates), self.capitals, self.lowers,
            orthography.definite(self.folded),
            links - {"by"} if turned is not self.tokens else links,
            bool(_ADDRESSED.search(self.plain)), bool(MENTION.search(self.folded.lower())),
            orthography.signs(self.folded),
        )  # fmt: skip

    def _take(self, group: str, text: str, following: tuple[str, str]) -> None:
        if group == "word":
            self._word(text, following)
        elif group == "phrase":
            self._content(text, "word")
        elif group in ("number", "time"):
            value = text.replace(",", "")
            self.numbers.append(value)
            self._content(value, "number")
        elif group == "date":
            self.dates.append(text)
            self._content(text, "date")
        elif group == "ordinal":
            self._content(lexicon.ORDINALS.get(text, text), "ordinal")
        elif group == "quoted":
            self._quoted(text[1:-1])
        elif group == "owner":
            self._owner(following)
        elif group == "comma":
            self._break()
        else:
            self._symbol(text)

    def _word(self, word: str, following: tuple[str, str]) -> None:
        first = not self.started
        self.started = True
        if first and self._opens(word, following):
            return
        if word in lexicon.NUMBER_WORDS:  # not reached: they are joined
            self._content(str(lexicon.NUMBER_WORDS[word]), "number")
        elif word in lexicon.ROMAN:
            self.numbers.append(str(lexicon.ROMAN[word]))
            self._content(str(lexicon.ROMAN[word]), "number")
        elif word in lexicon.POINTING:
            self.persons.append(word)
            self.article = "own"
            self.open = False
        elif word in lexicon.ARTICLES:
            self.article = "a" if word == "an" else word
            self.open = False
        elif word in lexicon.PERSONS:
            self._person(word)
        elif word in lexicon.BE_DO_HAVE:
            self._auxiliary(word)
        elif word in lexicon.MODALS:
            self._content(word, "modal")
            self._break()
        elif word in lexicon.PREPOSITIONS:
            self._preposition(word, following)
        elif word in lexicon.LINKS:
            self._link(word)
        elif word in lexicon.FILLERS:
            pass
        else:
            self.acting = self._act(word, following)
            self._plain_word(word)
            self.acting = ""
        self.before = word

    def _act(self, word: str, following: tuple[str, str]) -> str:
        """The verb of *closing* the door and of to *close* the door; not of a close friend."""
        verb = english.gerund_of(word)
        if verb:
            acts = self.before in _BEFORE_ACTS or (following[1] in _DETERMINERS and self.before)
            return verb if acts else ""
        done = self.before == "to" or self.before in lexicon.PERSONS
        return english.base_of(word) or "" if done else ""

    def _opens(self, word: str, following: tuple[str, str]) -> bool:
        """The first word often says what kind of answer is awaited; then it is not content."""
        if word == "how":
            self.kind = "how" if following[1] in ("to", "") else "howis"
            if following[1] in ("many", "much"):
                self.kind = "howmany"
        elif word in ("what", "which"):
            self.kind = "what"
            self.awaits_facet = True
        elif word in ("who", "whom"):
            self.kind = word
        elif word in ("when", "where", "why", "whose"):
            self.kind = word
            self.awaits_facet = word == "when"
        elif word in lexicon.BE_DO_HAVE:
            self.kind = "yesno"
            self._auxiliary(word)
        elif word in lexicon.MODALS:
            self.kind = "yesno"
            self._content(word, "modal")
            self.open = False
        elif word == "explain":
            self.kind = "explain"
        else:
            return False
        return True

    def _person(self, word: str) -> None:
        if word in ("my", "our", "mine", "ours"):
            self.owners.add("my")
        elif word in ("your", "yours"):
            self.owners.add("your")
        else:
            acts = self.before in lexicon.BE_DO_HAVE or self.before in _ASKS_WHO
            self.persons.append("you do" if word == "you" and acts else word)
            self.subject = self.subject or lexicon.PERSONS[word]
        self.article = "own" if word in ("my", "our", "your") else ""
        self.open = False

    def _auxiliary(self, word: str) -> None:
        self.helpers.append(lexicon.HELPERS[word])
        self.article = ""
        self.awaits_facet = False
        helps = not self.tense and not any(token.kind == "modal" for token in self.tokens)
        if not self.tense:
            self.tense = lexicon.BE_DO_HAVE[word] or "present"
        self.passive |= word in _BE
        helps &= self.before != "to" or word in _BE  # I need to *do* a refund
        if not helps and word in _MAIN_VERBS:  # what do cats *do*, what do cats *have*
            self._content(_MAIN_VERBS[word], "word")
        self._break()

    def _preposition(self, word: str, following: tuple[str, str]) -> None:
        if self.open:
            self.tokens[-1] = self.tokens[-1]._replace(extended=True)
        if word == "to" and self.before in _TO_ACT:
            self._content(word, "quoted")  # stop *to* eat
        alone = following[0] in ("end", "comma") or following[1] in ("and", "or", "vs")
        if alone or (following[1] in _OBJECTS and word in _TELLING):
            # What is it made *of*; the difference between *in* and *on*; a letter *from* me.
            self._content(word, "quoted")
            return
        gerund = following[1].endswith("ing") and english.verb(following[1])
        self._hang_on("to" if gerund and word in ("for", "of") else word)
        self.open = False

    def _hang_on(self, word: str) -> None:
        empty = self.role in _TELLING and not any(t.phrase == self.phrases for t in self.tokens)
        if empty:
            self._content(self.role, "quoted")
        self.role = word
        self.phrases += 1

    def _link(self, word: str) -> None:
        self.open = False
        if word == "or" and self.tokens:
            self._content("or", "word")
            self.open = False

    def _owner(self, following: tuple[str, str]) -> None:
        names_a_shop = following[0] == "end" or following[1] in lexicon.PREPOSITIONS
        if names_a_shop:  # who founded Wendy's
            self._content("'s", "quoted")
        elif self.tokens:
            self.tokens[-1] = self.tokens[-1]._replace(leads=True)

    def _break(self) -> None:
        self.role = ""
        self.open = False

    def _plain_word(self, word: str) -> None:
        kind = "word"
        if word in lexicon.NEGATIONS:
            kind = "negation"
        elif word in lexicon.QUANTIFIERS:
            kind = "quantifier"
        elif word in lexicon.COMPARATORS:
            kind = "comparator"
        elif word in lexicon.UNITS and self.tokens and self.tokens[-1].kind == "number":
            kind = "unit"
        facet = self.awaits_facet and word in lexicon.FACETS
        self.awaits_facet = False
        self._content(word, kind, facet=facet)
        if kind in ("negation", "comparator"):
            self._break()
        if kind == "comparator":
            self._hang_on(word)

    def _quoted(self, text: str) -> None:
        for word in re.findall(r"[^\W_]+|[^\s\w]", text):
            if word.isdigit():
                self.numbers.append(word)
            self._content(word, "quoted")
        self.started = True

    def _symbol(self, text: str) -> None:
        if text in lexicon.CURRENCIES:
            self._content(lexicon.CURRENCIES[text], "unit")
        elif text == "%":
            self._content("percent", "unit")
        else:
            self._content(text, "symbol")
        self.open = False

    def _content(self, word: str, kind: str, *, facet: bool = False) -> None:
        if self.open:
            self.tokens[-1] = self.tokens[-1]._replace(leads=True)
        exact = kind in ("number", "date", "quoted", "symbol", "modal")
        forms = frozenset((word,)) if exact else english.forms(word)
        if self.acting:
            forms |= {f"to {self.acting}"}
        measured = bool(self.tokens) and self.open and self.tokens[-1].kind == "number"
        related = _EMPTY if exact else _related(word, measured=measured)
        known = exact or word in self.names or word in lexicon.SAME or english.known(word)
        name = kind == "word" and (word in self.names or _unheard(word))
        phrase = self.phrases if self.role else 0
        passive = self.passive and len(forms) > 1 and english.participle(word)
        self.tokens.append(
            Token(
                word,
                kind,
                forms,
                related,
                self.role,
                phrase,
                False,
                known,
                name,
                facet,
                passive,
                self.article,
            )
        )
        self.article = ""
        self.open = True
        self.started = True


@lru_cache(maxsize=8192)
def _unheard(word: str) -> bool:
    """Whether no dictionary has the word, or as a name only."""
    listed = word in lexicon.SAME or word in lexicon.CLOSED or "-" in word or len(word) < 2
    return not listed and not english.ambiguous(word)


@lru_cache(maxsize=8192)
def _related(word: str, *, measured: bool) -> frozenset[str]:
    """Not the dictionary's synonyms, nor the noun of an act (permit, permission)."""
    found: set[str] = set()
    for form in english.forms(word):
        found |= lexicon.SAME.get(form, _EMPTY)
        if measured:
            found |= lexicon.UNITS.get(form, _EMPTY)
    return frozenset(found)


def _unhyphened(pieces: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Hyphens are spelling (*check-in*, *check in*) unless the compound is in our own lists."""
    found: list[tuple[str, str]] = []
    for group, text in pieces:
        if group != "phrase" or text in _HYPHENED:
            found.append((group, text))
        else:
            found += [("word", part) for part in text.split("-")]
    return found


def _passives_turned(tokens: list[Token]) -> list[Token]:
    """*Brazil beaten by Germany* is read as *Germany beat Brazil*, so that order can be compared.

    Only when exactly one phrase hangs on *by*, it is the last but for neutral phrases, and the
    word before it is a participle.
    """
    at = [i for i, token in enumerate(tokens) if token.role == "by"]
    if not at or at != list(range(at[0], at[-1] + 1)) or at[0] < 2:
        return tokens
    verb = tokens[at[0] - 1]
    if not english.participle(verb.word) or verb.role:
        return tokens
    agent = [tokens[i]._replace(role="", phrase=0) for i in at]
    before = tokens[: at[0] - 1]
    return [*agent, verb._replace(passive=False), *before, *tokens[at[-1] + 1 :]]
