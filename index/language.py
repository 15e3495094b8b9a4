"""Whether a text is English, the one language that the guard has a lexicon of.

Libraries that name languages were measured on short English questions: lingua takes 950 MB and
1.5 ms a text and calls 46 of 50 English, py3langid 49 of 50 in 40 us but with 95 MB, half a node.
Which language it is does not matter here; that it is not English shows in its letters, in common
words of other languages, and in words that no English dictionary has.
"""

import re
import unicodedata
from typing import Final

from index import english, lexicon

_FUNCTION_WORDS: Final = (
    frozenset(lexicon.PERSONS)
    | frozenset(lexicon.BE_DO_HAVE)
    | frozenset(lexicon.PREPOSITIONS)
    | lexicon.ARTICLES
    | lexicon.QUESTION_WORDS
    | lexicon.MODALS
    | lexicon.LINKS
    | lexicon.NEGATIONS
) - frozenset(["a", "me", "in", "an", "am", "was", "die", "do", "so", "on", "as", "by", "no"])
"""Words that show a text to be English; without those that are words elsewhere too."""

_WORD = re.compile(r"[^\W\d_]+")
_SEPARATORS = re.compile(
    r"(?<!\d)[.,;:]|[.,;:](?!\d)|[?!\"'()\u00bf\u00a1\u3001\u3002\u300a-\u300f]|\s"
)


def foreign(text: str) -> bool:
    """Whether the text is, or holds, something else than English."""
    if not text.isascii():
        normal = unicodedata.normalize("NFKC", text)
        if any(_not_latin(character) for character in text + normal if not character.isascii()):
            return True
    words = _WORD.findall(text)
    words[:1] = [word.lower() for word in words[:1]]
    small = [word for word in words if word.islower()]
    known = len(lexicon.FOREIGN.intersection(small))
    accented = sum(not word.isascii() for word in small)
    if known >= 2 or accented >= 3 or "¿" in text or "¡" in text:
        return True
    if sum(word in _FUNCTION_WORDS for word in small) >= 2:
        return False
    long = [word for word in small if len(word) >= 4 and word not in _FUNCTION_WORDS]
    unknown = sum(not english.known(word) for word in long)
    return len(long) >= 3 and unknown * 2 > len(long)


def _not_latin(character: str) -> bool:
    """A letter of another script, or a mark that could not be composed with its letter."""
    kind = unicodedata.category(character)[0]
    latin = unicodedata.name(character, "").startswith(("LATIN", "FEMININE", "MASCULINE"))
    return kind == "M" or (kind == "L" and not latin)


def verbatim(folded: str) -> str:
    """The text without case, blanks and the punctuation of sentences: all else has to be equal."""
    return " ".join(_SEPARATORS.sub(" ", folded.lower()).split())
