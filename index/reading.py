"""One text as the guard sees it: what it asks for, of what, about what, in which order.

A text is folded (Unicode compatibility, case, quotes), brought to its plainest phrasing
(`frames`), and cut into words. Function words set the *kind* of question, tense, person and the
*role* of the phrase that follows; every word that is left is content. Case is looked at before it
is folded, for *US*, *IT* and *Polish*.

A reading takes 130 to 280 us to make, by how busy the machine is, and 3.4 kB of memory. `packed`
makes some 500 bytes of it, to be kept beside the text, and a ninth of the time brings it back.
"""

import marshal
import re
import sys
import unicodedata
from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from itertools import pairwise
from typing import Final, NamedTuple

from index import english, frames, language, lexicon, quantities
from index.patterns import union

_QUOTES: Final = str.maketrans(
    "\u2019\u2018\u02bc`\u201c\u201d\u00ab\u00bb\u2013\u2014\u2212\u2010\u2011\u2026",
    "'" * 4 + '"' * 4 + "-" * 5 + " ",
)
"""Typographic quotes, dashes and the ellipsis to what a keyboard has."""

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
"""Kinds whose synonyms are taken from the dictionary too; the others have the lists alone."""


class Token(NamedTuple):
    """A content word, a number or a symbol, and its place in the sentence."""

    word: str
    kind: str
    """word, number, date, unit, ordinal, negation, quantifier, comparator, modal, quoted or
    symbol."""
    forms: frozenset[str]
    related: frozenset[str]
    role: str
    """The preposition its phrase hangs on; "" for none."""
    phrase: int
    """Which prepositional phrase of the text it is in, counted from 1; 0 for none."""
    leads: bool
    """Directly before another content word, or an owner: it may be that word's modifier."""
    known: bool
    """A dictionary word or a name, as opposed to what may be a slip of the pen."""
    name: bool
    """A name, as far as a capital, the dictionary, or the lack of it tell."""
    facet: bool
    """Says only what kind of answer is awaited (which *city*), so the other text may lack it."""
    passive: bool
    """A participle after a form of *be*: what stands before it suffers the act."""
    article: str
    """What stands directly before: a, the, own for an owner or a pointer, "" for none of these."""
    extended: bool = False
    """Directly before a preposition, which tells which one is meant: *symptoms of* flu."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What `veto` compares. Immutable and cheap to keep beside a cached question."""

    plain: str
    kind: str
    """how, what, who, whom, when, where, why, howmany, yesno, explain or bare (no question)."""
    tense: str
    subject: int
    """Grammatical person of the first pronoun: 1, 2, or 0 for none."""
    owners: frozenset[str]
    """Possessives: the asker's (my) and the reader's (your)."""
    persons: tuple[str, ...]
    """Every pronoun, owner and pointer, in alphabetical order; a *you* that acts is a *you do*."""
    helpers: tuple[str, ...]
    """Every be, do and have, as one of these, in alphabetical order."""
    tokens: tuple[Token, ...]
    numbers: tuple[str, ...]
    dates: tuple[str, ...]
    """And times, as `quantities` writes them."""
    capitals: frozenset[str]
    """Words that a capital inside the sentence makes names of: the Matrix is no matrix."""
    lowers: frozenset[str]
    """The words written small, and what they may be forms of."""
    definite: frozenset[str]
    """Names after *the*: the Titanic is a ship, Titanic a film."""
    links: frozenset[str]
    """Prepositions. Which word they belong to is guessed; that they are there is certain."""
    addressed: bool
    """Whether it is about the one who is asked: are *you* free, who made *you*."""
    mention: bool
    """Whether it asks about words, so that none may stand for another."""
    signs: frozenset[tuple[str, str]]
    """Where case or a lone sign is the meaning, small and as written: mW and MW, CO and Co, `!`."""
    foreign: bool = False
    """Not English: then `plain` is the text but for case and punctuation, and there is no more."""


_POWERS: Final = str.maketrans({"²": "^2", "³": "^3", "¹": "^1"})


def composed(text: str) -> str:
    """In Unicode's compatibility form, but for powers: there 10² would be 102."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text.translate(_POWERS))


def fold(text: str) -> str:
    """Composed, single-spaced, with the quotes and dashes that a keyboard has."""
    return " ".join(composed(text).translate(_QUOTES).split())


_SIGNS: Final = re.compile(
    r"(?<!\S)[!?:;()]+(?!\S)"  # what does ! mean
    r"|(?<=\d)['\"]"
    r"|(?<![A-Za-z])(?:[kmgtKMGT][wvagmbWVAGMB]|[A-Z][A-Za-z])(?![A-Za-z'])"
)


def _signs(text: str) -> frozenset[tuple[str, str]]:
    if _shouted(text):
        return frozenset()
    return frozenset((sign.lower(), sign) for sign in _SIGNS.findall(text.rstrip(" ?!.")))


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

_EMPTY: frozenset[str] = frozenset()


@lru_cache(maxsize=1024)  # 3.5 MB when full
def read(text: str) -> Reading:
    """Everything the guard wants to know of one text. Never raises."""
    if (known := _handed.pop(text, None)) is not None:
        return known
    folded = fold(text)
    if language.foreign(text):
        plain = language.verbatim(folded)
        none = _EMPTY
        return Reading(
            plain, "bare", "", 0, none, (), (), (), (), (), none, none, none, none,
            addressed=False, mention=False, signs=frozenset(), foreign=True,
        )  # fmt: skip
    plain = frames.plain(_mark_acronyms(folded).lower())
    return _Reader(plain, folded).reading()


_handed: dict[str, Reading] = {}
"""From `recall` to `read`, which alone can put something into its cache."""

RULES: Final = (
    "english.py", "english.txt.gz", "frames.py", "language.py", "lexicon.py", "patterns.py",
    "quantities.py", "reading.py",
)  # fmt: skip
"""What a reading depends on. Where one of these has changed, it is made anew."""


def _fingerprint() -> bytes:
    digest = blake2b(sys.version.encode(), digest_size=32)  # marshal's format and Unicode's tables
    for name in RULES:
        digest.update((files("index") / name).read_bytes())
    return digest.digest()


_FINGERPRINT: Final = _fingerprint()
_TAG_BYTES: Final = 16
_NAMES: Final = [field.name for field in fields(Reading)]
_TOKENS_AT: Final = _NAMES.index("tokens")


def packed(text: str) -> bytes:
    """The reading of `text` as bytes, for `recall`."""
    reading = read(text)
    values = [getattr(reading, name) for name in _NAMES]
    values[_TOKENS_AT] = tuple(map(tuple, values[_TOKENS_AT]))
    body = marshal.dumps(values)
    return _tag(text, body) + body


def recall(text: str, packed: bytes) -> bool:
    """Have `read(text)` find what was packed; False if that is not of this text, whole, and by
    these rules.
    """
    tag, body = packed[:_TAG_BYTES], packed[_TAG_BYTES:]
    if tag != _tag(text, body):  # also what makes it safe to load: marshal trusts its input
        return False
    values = marshal.loads(body)
    values[_TOKENS_AT] = tuple(map(Token._make, values[_TOKENS_AT]))
    _handed[text] = Reading(*values)
    read(text)
    _handed.pop(text, None)  # it was known
    return True


def _tag(text: str, body: bytes) -> bytes:
    digest = blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=_TAG_BYTES, key=_FINGERPRINT
    )
    digest.update(body)
    return digest.digest()


def _shouted(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    return sum(c.isupper() for c in letters) > len(letters) / 2


def _mark_acronyms(text: str) -> str:
    """IT and US are not it and us; World War I and Type A hold no pronoun and no article."""
    text = re.sub(r"(?<=\d)( ?)([MGT])b(?=ps\b|/s\b|\b)", r"\1\2bit", text)
    if _shouted(text):
        return text
    text = re.sub(r"(?<=\w )(US|IT|WHO|AM|OR|IN|MAY|ARE|NOT|AND|IS|AS|AT|SO|DO|BE|WE)\b",
                  lambda m: {"US": "usa"}.get(m[1], m[1] + "acronym"), text)  # fmt: skip
    text = re.sub(r"\b((?!If|When|Can|Do|Should|May|And|But|So|Or|Am|Will|Would|Could|Must|Because)"
                  r"[A-Z][a-z]+|type|phase|part|class|level|war|grade|stage) I\b(?!')",
                  r"\1 1", text)  # fmt: skip
    return re.sub(
        r"\b((?!Is|Was|Are|Does|Did|Has|Had)[A-Za-z]{3,}) A(?= |$|\?|,)", r"\1 letter-a", text
    )


def _cases(text: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Names; those that a capital tells from a word; and what is written small, with its forms.

    Of *the Berlin Wall* either word makes the other a name, so their capitals say no more.
    """
    text = _SENTENCE.sub(lambda start: start[0].lower(), text)
    words = re.findall(r"[A-Za-z]+", text)
    inside = [word for word in words[1:] if word != "I"]
    small = {word for word in inside if word.islower()}
    if not small or any(word[0].isupper() and word.lower() in _SMALL for word in inside):
        return _EMPTY, _EMPTY, _with_forms(small)  # Title Case and all capitals say nothing
    names, lone = set(), set()
    for before, word, after in zip(words, words[1:], [*words[2:], ""], strict=False):
        if word in lexicon.CASELESS and before.lower() not in _OWNING:
            small.discard(word)  # a python is no Python, but python may be
        if word == "I" or word.islower():
            continue
        names.add(word.lower())
        near = (after, before if before is not words[0] else "")
        in_a_name = any(n[:1].isupper() and n not in ("I", "The", "A") for n in near)
        if not in_a_name and english.ambiguous(word.lower()):
            lone.add(word.lower())
    return frozenset(names), _with_forms(lone), _with_forms(small)


_SENTENCE: Final = re.compile(
    rf"(?<=[.!?] )(?:{'|'.join(sorted(lexicon.CLOSED | {'please'}))})\b", re.IGNORECASE
)
_OWNING: Final = frozenset(("a", "an", "my", "your", "our", "his", "her", "their"))
_SMALL: Final = frozenset(lexicon.BE_DO_HAVE) | {"you", "my", "your", "to", "and", "can"}


def _with_forms(words: set[str]) -> frozenset[str]:
    return frozenset(form for word in words for form in english.forms(word))


_DEFINITE = re.compile(
    r"\b[Tt]he (?:(?!of|in|on|for|to|at|from|by|with|and|or)[a-z]+ )?([A-Z]\w*)(?! ?[A-Z])"
    r"(?= (?:of|in|on|for|to|at|from|by|with|and|or|is|are|was|were|do|does|did|has|have|had)\b"
    r"|\W*$|[,.;:?!])"
)


def _definite(text: str) -> frozenset[str]:
    """Names after *the*, unless they only tell which: *the Titanic*, but not *the Wi-Fi code*."""
    return frozenset(name.lower() for name in _DEFINITE.findall(text))


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


class _Reader:
    """Walks the plain text once, left to right."""

    def __init__(self, plain: str, folded: str) -> None:
        self.plain = plain
        self.folded = folded
        self.names, self.capitals, self.lowers = _cases(folded)
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
        pieces = quantities.converted(_joined_numbers(_unhyphened(pieces)))
        for at, (group, text) in enumerate(pieces):
            following = pieces[at + 1] if at + 1 < len(pieces) else ("end", "")
            self._take(group, text, following)
        turned, links = _passives_turned(self.tokens), _links(self.plain, self.names)
        return Reading(
            self.plain, self.kind, self.tense, self.subject, frozenset(self.owners),
            tuple(sorted(self.persons)), tuple(sorted(self.helpers)),
            tuple(turned), tuple(self.numbers), tuple(self.dates), self.capitals, self.lowers,
            _definite(self.folded), links - {"by"} if turned is not self.tokens else links,
            bool(_ADDRESSED.search(self.plain)), bool(MENTION.search(self.folded.lower())),
            _signs(self.folded),
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
        if word in lexicon.NUMBER_WORDS:  # _joined_numbers left it: not reached
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


def _joined_numbers(pieces: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Numbers in words become digits: *twenty five thousand* is 25000, *2.5 million* 2500000."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(pieces):
        length, value = _number_at(pieces, at)
        if length:
            found.append(("number", value))
            at += length
        else:
            found.append(pieces[at])
            at += 1
    return found


def _number_at(pieces: list[tuple[str, str]], at: int) -> tuple[int, str]:
    group, text = pieces[at]
    if group == "number":
        scale = pieces[at + 1][1] if at + 1 < len(pieces) else ""
        if scale in lexicon.SCALES or scale == "k":
            whole = float(text.replace(",", "")) if text.count(".") < 2 else 0.0
            return 2, f"{whole * lexicon.SCALES.get(scale, 1000):.10g}"
        return 0, ""
    if text not in lexicon.NUMBER_WORDS or group != "word":
        return 0, ""
    total, current, length = 0, 0, 0
    last = 0
    for _, word in pieces[at:]:
        if word in lexicon.NUMBER_WORDS:
            value = lexicon.NUMBER_WORDS[word]
            if length and not (last >= 20 and last % 10 == 0 and value < 10) and last != 100:
                break
            current += value
            last = value
        elif word == "hundred":
            current, last = current * 100, 100
        elif word in lexicon.SCALES:
            total, current, last = total + current * lexicon.SCALES[word], 0, 100
        else:
            break
        length += 1
    return length, str(total + current)


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
