# ruff: noqa: E501 -- a pattern is read whole, on its line
"""Which class a prompt is of, by rules, and the reason: before any vector.

Refused are texts whose answer depends on more than their words (the moment, the asker's data, a text
they carry, chance), whose meaning sits in characters that an encoder does not see, or where one
character is everything (code, identifiers). A reason leads to a class, which the operator may change.
A text that is matched exactly only is neither embedded for lookup nor stored for others to find.

The rules are for English, the language of the encoder's training. In other languages (`language`)
they see nothing, and `guard` lets nothing pass but near-verbatim repeats. The tokenizer's own limits
(256 tokens, unknown tokens) are `embedding`'s matter.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final

from index import english, language
from index.orthography import composed, fold
from index.patterns import union
from index.reading import read
from index.syntax import MENTION

CHARACTERS_MAX: Final = 1_000
"""All-MiniLM-L6-v2 reads 256 word pieces: about a thousand characters of English prose."""

WORDS_MIN: Final = 2


def _union(*patterns: str) -> re.Pattern[str]:
    return union(patterns)


_SECRET: Final = _union(
    r"[\w.+-]@[\w-]+\.\w",  # one character before the @: with all, a long word takes a second
    r"\b(?:sk|pk|rk|pe|ghp|gho|xox[abp]|glpat)[-_][A-Za-z0-9_-]{8,}",
    r"\bAKIA[0-9A-Z]{8,}|-----BEGIN|\bBearer\s+\S{8,}|\beyJ[\w-]{10,}",
    r"\b\d{3}-\d{2}-\d{4}\b",
    r"\b(?:\d[ -]?){13,19}\b",
    r"(?:\+|\b00)\d[\d ().-]{6,}\d|\(?\b\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b",
    r"\b(?i:password|passwort|passcode|pin|token|secret|api[ _-]?key)\b\s*(?:is\s+\S*\d|[:=]\s*\S)",
)
_IDENTIFIER: Final = _union(
    r"\b(?i:https?://|www\.)|\b[\w-]+\.(?i:com|org|net|io|gov|edu)\b",
    r"#\d+",
    r"\b[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-",
    r"(?:^|\s)(?:~|\.{1,2})?/[\w.-]+/|\b[A-Za-z]:\\|\\\\\w",
    r"\b[A-Z]{2,}-\d{2,}\b",
    r"(?<![\d,.])\d{5,}(?![\d,])",
    r"\b\d{1,3}(?:\.\d{1,3}){3}\b",
    r"\b(?=\w*\d)(?=\w*[A-Za-z])[\w-]{16,}\b",
    r"\b(?i:order|ticket|invoice|case|tracking|reference|booking|flight|confirmation) "
    r"(?i:number |no\.? |id |ref )?#?(?=\w*\d)\w{3,}\b",
)
_CODE: Final = _union(
    r"```|~~~|[{}]|;\s*(?:$|\n)|</?\w+[^>]*>|&&|\|\||[=!<>]=|=>|->|::|\$\(|\$\{",
    r"\b\w+\([^)]*\)",
    r"(?:^|\n)\s*(?:def|class|import|from|function|const|let|var|public|private|#include|SELECT|sudo"
    r"|git|npm|pip|docker|kubectl|select)\s+\S+.*[(;*=/]",
    r"\w+\[[^\]]*\]|\b\w+_\w+_\w+\b|(?<=\s)--?\w+=",
    r"(?i:traceback|stack ?trace|exception in thread|error:\s)",
)
_NUMBER: Final = (
    r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|fifty|hundred)"
)
_MATHS: Final = _union(
    r"\d\s*[+*/^×÷=]\s*[\d(a-z]",  # noqa: RUF001
    r"\d\s+[-x]\s+\d|\b[a-z]\s*[=^]\s*[\d(a-z]|=",
    r"[∑∫√π∞≤≥≠±]|\\(?:frac|sum|int|sqrt)|\^",
    rf"\b{_NUMBER} (?:plus|minus|times|divided by|multiplied by|modulo|mod|squared|cubed|to the power)\b",
    r"\b(?:percent|%) of \W?\d|%\s*of\s+\W?\d|\bfactorial\b",
    r"\b(?:square|cube|cubic) root of \W?\d|\blog(?:arithm)? of \W?\d",
    r"\b(?:calculate|compute|evaluate|solve|simplify|factori[sz]e|integrate|differentiate)\b.*\d",
)
_TRADED: Final = (
    r"(?:gold|silver|copper|platinum|oil|brent|wti|gas|petrol|diesel|gasoline|fuel|bitcoins?|btc|ethereum|eth|solana|dogecoin"
    r"|crypto\w*|coins?|tokens?|stocks?|shares?|bonds?|futures|currency|currencies|dollars?|euros?|pounds?|yen|houses?|housing|homes?"
    r"|property|electricity|energy|power|wheat|corn|rice|eggs?|milk|flights?|hotels?)"
)
_TIME_BOUND: Final = _union(
    r"\b(?:now|today|tonight|tomorrow|yesterday|currently|latest|nowadays|recent|recently|presently)\b",
    r"\bcurrent\b(?! accounts?\b| assets?\b| liabilit| directory| ratio)",
    r"\b(?:at the moment|right now|these days|at present|so far|as of|up[- ]to[- ]date|any ?more|just "
    r"released|upcoming|trending|still (?:alive|open|available|valid|free))\b",
    r"\b(?:this|last|past|next|coming|previous) (?:\w+ )?(?:year|month|week|weekend|night|morning|afternoon"
    r"|evening|day|hour|season|quarter|decade|spring|summer|autumn|fall|winter|monday|tuesday|wednesday"
    r"|thursday|friday|saturday|sunday|january|february|march|april|may|june|july|august|september"
    r"|october|november|december|term|semester|holiday|christmas|easter)s?\b",
    r"\b(?:this|the next|the last) (?:game|match|election|train|bus|flight|episode|release|race|fixture"
    r"|update|version|meeting|appointment)\b",
    r"\b(?:days?|hours?|minutes?|weeks?|months?|years?) ago\b",
    r"\bhow (?:many|long)\b.*\b(?:until|till|left)\b",
    r"\b(?:weather|traffic|forecast|temperature (?:in|outside)|news|headlines?|raining|snowing)\b",
    rf"\b{_TRADED} (?:\w+ )?(?:prices?|rates?|worth|trading|doing|costs?)\b|\b(?:prices?|cost|value|rate) (?:of|for) (?:a |an |one |the )?{_TRADED}\b"
    rf"|\bhow much (?:is|are|does|do) (?:\w+ )?{_TRADED}\b|\bprice right\b|\bexchange rates?\b",
    r"\bhow much (?:is|are) (?:a |one |an )?(?:bitcoin|gold|silver|oil|ethereum|dollar|euro|pound|yen)s?\b",
    r"\b(?:worth|market cap|net worth|interest rates?|mortgage rates?|inflation rates?|unemployment rates?)\b"
    r"(?=.*\b(?:is|are|of|in)\b)(?<!credit worth)",
    r"\b(?<!credit )(?<!test )(?<!exam )scores?\b(?! (?:a|an) )|\bstandings\b|\bwho is (?:winning|playing|leading)\b",
    r"\bwhat(?: ?'?i?s)? (?:the )?(?:time|day|date)(?: is it| is today|$|\?| in\b| right)",
    r"\bwho(?: ?'?i?s| are|s)? (?:the |a )?(?:\w+ )?(?:president|prime minister|premier|chancellor|ceo|cto|cfo"
    r"|king|queen|monarch|pope|mayor|governor|champions?|manager|coach|captain|head|minister|secretary"
    r"|chair\w*|leader|owner|speaker|director|richest|world record)\b",
    r"\bwho (?:runs|leads|heads|owns|governs|holds|rules)\b",
    r"\b(?:president|prime minister|ceo|king|queen|pope|mayor|governor) of .* (?:is|called)\b",
    r"\b(?:richest|highest[- ]paid|most[- ]followed|best[- ]selling|world record|most popular|top[- ]ranked)\b",
    r"\b(?:living|alive|open) (?:person|today)\b|\bopen now\b|\bstatus of\b|\bon time\b.*\?$",
)
_MADE: Final = (
    r"(?:poems?|poetry|story|stories|haikus?|jokes?|limericks?|songs?|lyrics|raps?|tweets?|slogans?|taglines?"
    r"|essays?|emails?|e-mails?|letters?|speech|speeches|scripts?(?= (?:for|about) (?:a|an) (?:play|film|movie"
    r"|scene|video))|dialogues?|blog(?: post)?s?|articles?|captions?|headlines?|ads?|advert\w*|bios?|toasts?"
    r"|riddles?|puns?|plots?|novels?|sonnets?|verses?|paragraphs?|posts?|scenes?|screenplays?|fairy ?tales?"
    r"|tales?|ballads?|quiz|quizzes|proposals?|reviews?|resumes?|cover letters?|press release|itinerary"
    r"|itineraries|names?|nicknames?|usernames?|passwords?|titles?|ideas?|prompts?|characters?|reports?"
    r"|messages?|fables?|monologues?|odes?|conversations?|newsletters?|sentences?|meal plans?|workout plans?"
    r"|plans?|birthday wish\w*|icebreakers?|trivia|fun facts?|questions?)"
)
_ASKED: Final = (
    r"(?:^|[.!?,:;] |\bplease |\b(?:can|could|would|will) (?:you|u) (?:please |kindly )?|\bhelp me (?:to )?"
    r"|\bi(?: woul|')?d? (?:want|need|like)(?: you)? to )"
)
_CHANCE: Final = _union(
    _ASKED
    + r"(?:give|tell|pick|choose|select|generate|name|show|say|make up|think of|draw)(?: me| us)?(?: \S+){0,3}? "
    r"(?:random|at random)\b(?!.* (?:in|using|with|from) )",
    r"\b(?:tell|give|show)(?: me| us)? (?:another|one more|a new|a different|a fresh)\b|^(?:another|one more)\b",
    r"\bsurprise me\b|^(?:please )?(?:roll|throw) (?:a |the |two |some )?(?:dice|die)\b|^(?:please )?(?:flip|toss) (?:a )?coin\b",
    r"^(?:pick|choose|guess|think of) (?:a|any) (?:number|card|colou?r|letter|word|name)\b",
)
_CREATIVE: Final = _union(
    _ASKED
    + r"(?:write|compose|create|generate|make up|make|invent|draft|craft|produce|come up with|design|suggest|think of|pen"
    r"|imagine|plan|give|prepare)\b(?: me| us)?(?: \S+){0,5}? " + _MADE + r"\b",
    r"\b(?:tell|give|share|need|want|know)(?: me| us)?(?: \S+){0,4}? (?:jokes?|poems?|story|stories|riddles?|puns?|ideas?|names"
    r"|quotes?|fun facts?|trivia|slogans?|haikus?|songs?|limericks?)\b",
    r"^(?:an? |some )?(?:\w+ )?(?:poem|haiku|limerick|sonnet|joke|short story|riddle|song|story|essay|fable|ode)s?"
    r" (?:about|on|for|of)\b",
    r"\b(?:brainstorm\w*|recommend(?:ations?|ing)?|suggest(?:ions?)?|inspir(?:e me|ation)|improvise|role-?play)\b",
    r"\bideas?\b(?! (?:of|behind)\b)",
    r"\bmore (?:jokes|ideas|examples|facts)\b|\b(?:pick|choose|guess) (?:a|an|one|any)\b",
    r"\b(?:act|behave|respond|answer) (?:as|like)\b|\bpretend\b|^you are (?:a|an|my|the)\b|\bimagine\b",
    r"\b(?:what(?: i|')?s?|which|any|some|an?) (?:(?:are|is) )?(?:an? |some |the )?(?:really )?(?:good|great|best|nice|cool|fun"
    r"|funny|interesting|creative|unique|top)\b(?: \S+){0,3}? (?:books?|movies?|films?|series|shows?|songs?|names?"
    r"|gifts?|presents?|restaurants?|places|recipes?|games?|podcasts?|albums?|hotels?|beaches|destinations?"
    r"|wines?|bars|cafes|hobbies|jokes?|quotes?|pickup lines?|titles?|laptops?|phones?|cars?|tv)\b",
    r"\bwhat (?:should|shall|could|can) (?:i|we) (?:cook|eat|wear|watch|read|play|name|buy|get|listen|call)\b"
    r"(?! (?:if|when|after|before|with|about|to|while|during|in case|for a)\b)",
    r"^what (?:should|shall|could|can) (?:i|we) do(?: (?:in|today|tonight|this|on|at|with)\b.*)?$",
    r"\b(?:fun|random|interesting|cool) facts?\b|\b(?:tell|give) me something\b|\bentertain me\b",
    r"\bwould you rather\b|\bdo you (?:think|like|prefer|believe|feel)\b|\byour (?:favou?rite|opinion)\b",
)
_LANGUAGES: Final = (
    r"(?:english|french|german|spanish|italian|portuguese|dutch|russian|chinese|mandarin|cantonese|japanese|korean"
    r"|arabic|hindi|turkish|polish|greek|latin|swedish|norwegian|danish|finnish|hebrew|thai|vietnamese|ukrainian"
    r"|czech|hungarian|romanian|bengali|urdu|swahili|indonesian|malay|welsh|irish|esperanto)"
)
_TRANSLATION: Final = _union(
    r"\btranslat(?:e|es|ed|ing|ion|ions)\b(?! (?:studies|theory|invariance|in biology))",
    rf"\b(?:say|said|word for|call|called|spell|pronounce|express|phrase|term for)\b.*\b(?:in|into) {_LANGUAGES}\b",
    rf"\b(?:in|into|to) {_LANGUAGES}\s*[:?.]?$",
    rf"\b{_LANGUAGES} (?:word|words|translation|phrase|equivalent|for)\b",
)
_SUPPLIED: Final = _union(
    r"\b(?:rewrite|rephrase|reword|paraphrase|proofread|summari[sz]e|summary of|tl;?dr|shorten|condense|transcribe"
    r"|expand on|polish (?:this|my|the)|edit (?:this|my|the)|correct (?:this|my|the)|classify|extract|parse"
    r"|fix (?:this|my|the) (?:grammar|sentence|text|code|spelling|paragraph|essay))\b",
    r"\b(?:the|this|these|those|see) (?:\w+ )?(?:following|attached|below|above)(?! (?:year|day|week|month|sea|zero|freezing))\b",
    r"^(?:following|attached|below|above)\b|\b(?:following|attached|below|above)$|\bgiven (?:the|this|that|these)\b"
    r"|\bbased on (?:the|this|these)\b",
    r"\bthis (?:text|paragraph|sentence|article|email|code|essay|passage|document|snippet|function|story|letter"
    r"|message|image|picture|photo|file|table|data|dataset|list|quote|tweet|review|conversation|error|output)\b",
    r":\s*\S.{60,}$",
    r"(?<!\w)[\"'][^\"']{40,}[\"']",
)
_HELD: Final = (
    r"(?:accounts?|orders?|parcels?|packages?|deliver(?:y|ies)|shipments?|balance|bills?|invoices?|statements?"
    r"|subscriptions?|appointments?|bookings?|reservations?|flights?|tickets?|refunds?|payments?|salary|payslips?"
    r"|paycheck|address|name|age|birthday|scores?|claims?|application|status|number|email|emails|messages?|inbox"
    r"|calendar|meetings?|plan|usage|history|password|pin|card|loan|mortgage|policy|insurance|data|location|ip"
    r"|schedule|grades?|results?|transactions?|savings|debt|credit|limit|files?|documents?|notes|contacts?|tasks?"
    r"|reminders?|profile|membership|points|rewards|wallet|portfolio|income|weight|height|blood\w*|test|diagnosis)"
)
_STATE: Final = _union(
    r"\b(?:what|which|when|where|who|whose|how (?:much|many|long|old|far))(?:'s|'re| is| are| was| were| will| did| does"
    rf"| do| has)\b(?! (?:i|we|you) )(?: \S+){{0,4}}? (?:my|our) (?:\S+ ){{0,2}}?{_HELD}\b",
    rf"^(?:is|are|was|were|has|have|did|does|do|will|why (?:is|are|was|did|has|does)) (?:my|our) (?:\S+ ){{0,2}}?{_HELD}\b",
    r"^(?:please )?(?:show|list|check|track|find|get|tell|give|display|cancel|update|change|transfer|pay|send|book|move"
    r"|look up|delete|remove|reset|renew|remind|order|add|email|call|text|message|schedule|set|open|close|read|forward"
    r"|reserve|rebook|upgrade|pull up)\b(?:(?! how\b).)*\b(?:my|our)\b",
    r"^(?:please )?(?:send|book|remind|order|email|call|text|message|reserve|buy|wake|notify) me\b",
    r"^(?:please )?(?:remind me|set (?:an?|the) (?:\w+ )?(?:timer|alarm|reminder)|wake me|call me|send (?:an?|the) |transfer "
    r"|book me|play |turn (?:on|off) (?:the|my) (?:lights?|tv|heating|fan)|track )",
    r"\bhow (?:much|many)\b.* (?:do|did|have|am|was|will) (?:i|we) (?:owe|owed|spent|spend|paid|earned|used|have left|charged)\b",
)
_ASKER: Final = _union(
    r"\bmy name is\b|\bcall me \w+$|\b(?:do|did|does) (?:i|we) (?:have|own) (?:any|a) (?:meetings?|appointments?|messages?|orders?|emails?)",
)
"""What the asker says of their case is words to compare, like any; but not what others call them."""

_CONTEXT: Final = _union(
    r"^(?:and|but|or|also|then|plus|because|same|instead)\b",
    r"^(?:what|how) about\b|^what if\b.{0,15}$|^why not\b|^(?:really|sure|yes|no|nope|yep|ok|okay|thanks?|thank you)\b.{0,20}$",
    r"^(?:continue|go on|more|again|next|keep going|proceed|elaborate|repeat|try again|redo|regenerate|shorter|longer"
    r"|stop|help|retry|undo|carry on|expand)\b.{0,20}$",
    r"\b(?:the (?:first|second|third|last|other|former|latter|previous|same) (?:one|option|answer|point|question|part))\b",
    r"\b(?:you (?:said|mentioned|wrote|just|told)|your (?:last|previous|first|earlier) (?:answer|message|response|reply)|"
    r"the former|the latter|that one|this one|those ones?|as (?:before|above))\b",
    r"^(?:can you |could you |please )?(?:explain|tell me|do|show|fix|change|make|give|describe|translate|use|try|redo|rewrite"
    r"|summari[sz]e)?(?: me)? ?(?:it|that|this|them|those|these|more|again|him|her)(?: (?:again|more|please|to me|in (?:more )?detail"
    r"|better|shorter|further|differently|simpler|simply|work|mean|mean\?))*\W*$",
    r"^(?:what|who|where|when|why|how)(?:'s| is| was| are| were| does| do| did| would| can)? ?(?:it|that|this|they|he|she|them|those"
    r"|these)?(?: (?:mean|work|happen|called|so|one|for|about|like))?\W*$",
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")


class PromptClass(StrEnum):
    """What memory may do for a prompt. Of several reasons the strictest class counts."""

    BYPASS = "bypass"
    """Neither looked up nor stored."""
    EXACT_ONLY = "exact-only"
    """Answered only for the same request, word for word."""
    THREAD_SCOPED = "thread-scoped"
    """Matched by meaning under an equal history only."""
    SEMANTIC = "semantic"


DEFAULT_CLASS: Final[Mapping[str, PromptClass]] = {
    "secret": PromptClass.BYPASS,  # what is secret does not belong on a disk
    "chance": PromptClass.BYPASS,  # another one is asked for
    **dict.fromkeys(
        ("time-bound", "tools", "format", "logprobs", "modality", "prediction", "n", "no-text",
         "too-long", "invisible", "no-words", "too-short", "identifier", "code", "translation",
         "supplied-text", "maths", "creative", "personal"),
        PromptClass.EXACT_ONLY,
    ),
    "context": PromptClass.THREAD_SCOPED,
    "language": PromptClass.SEMANTIC,  # but near-verbatim only: see `guard`
    "mention": PromptClass.SEMANTIC,  # but no word may stand for another: see `guard`
    "amount": PromptClass.SEMANTIC,  # amounts are compared exactly: see `guard`
}  # fmt: skip
"""Every reason, the more telling first, and the class it leads to unless the operator says else."""

_UNREADABLE: Final = frozenset(("no-text", "too-long", "invisible", "no-words", "unknown-token"))
"""Texts of which the encoder sees a part at most: what it does not see cannot be compared."""


def check_overrides(overrides: Mapping[str, str]) -> dict[str, PromptClass]:
    """An operator's classes by reason. ValueError, with what is possible, for what is not."""
    found = {}
    for reason, name in overrides.items():
        if reason not in DEFAULT_CLASS and reason not in _UNREADABLE:
            raise ValueError(f"no such reason: {reason!r}; there are {', '.join(DEFAULT_CLASS)}")
        if name not in list(PromptClass):
            raise ValueError(f"no such class: {name!r}; there are {', '.join(PromptClass)}")
        found[reason] = PromptClass(name)
        if reason in _UNREADABLE and found[reason] in (
            PromptClass.SEMANTIC, PromptClass.THREAD_SCOPED,
        ):  # fmt: skip
            raise ValueError(f"{reason} cannot be {name}: the encoder does not see all of the text")
    return found


def classify(
    reasons: Iterable[str], overrides: Mapping[str, PromptClass]
) -> tuple[PromptClass, str]:
    """The strictest class of these reasons, and the reason for it; "" where there is none."""
    found = {r: overrides.get(r, DEFAULT_CLASS.get(r, PromptClass.EXACT_ONLY)) for r in reasons}
    for cls in PromptClass:
        told = next((reason for reason in DEFAULT_CLASS if found.get(reason) == cls), None)
        if told is not None:
            return cls, told
    return PromptClass.SEMANTIC, ""


@lru_cache(maxsize=4096)
def reasons(text: str) -> tuple[str, ...]:
    """Everything that keeps this text, taken alone, from being matched by meaning freely."""
    if len(text) > CHARACTERS_MAX:
        return ("too-long",)
    if _invisible(text):
        return ("invisible",)
    return tuple(dict.fromkeys((*_as_written(text), *_words(text), *_subject(text))))


def ineligible(text: str) -> str | None:
    """Why this text, taken alone, may only be matched exactly; None when it may be by meaning."""
    cls, reason = classify(reasons(text), {})
    return None if cls == PromptClass.SEMANTIC else reason


def _invisible(text: str) -> bool:
    """Whether it holds characters that a reader does not see."""
    if text.isascii():
        return _CONTROL.search(text) is not None
    both = text + unicodedata.normalize("NFKC", text)
    return _CONTROL.search(text) is not None or any(
        _unseen(character) for character in both if not character.isascii()
    )


def _unseen(character: str) -> bool:
    """Controls, formats, surrogates, private use; blanks that count as letters or as symbols."""
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        or character in "\u115f\u1160\u3164\uffa0\u2800"
        or "VARIATION SELECTOR" in unicodedata.name(character, "")
    )


def _words(text: str) -> Iterator[str]:
    words = _WORD.findall(text)
    if not words:
        yield "no-words"
    elif language.foreign(text):
        yield "language"
    elif len(words) < WORDS_MIN:
        yield "too-short"


_AMOUNT: Final = _union(
    r"[$€£¥₹]\s?\d|\d\s?[$€£¥₹]",
    r"\d\s?(?i:k|m|bn)?\s?(?i:dollars?|euros?|pounds sterling|quid|bucks|cents?|usd|eur|gbp|yen|rupees?|rmb|yuan)\b",
)
_AS_WRITTEN: Final = (
    ("secret", _SECRET), ("identifier", _IDENTIFIER), ("code", _CODE), ("amount", _AMOUNT),
)  # fmt: skip
_POINTING: Final = re.compile(
    r"\b(?:it|these|those|they|them|their|theirs|he|she|him|her|his|hers|this(?! (?:kind|type|sort)\b))\b"
    r"(?!'?s? (?:take|cost|mean|possible))"
)
PLEONASTIC: Final = re.compile(
    r"\b(?:is|was|would|will|isn't|wasn't|does|if|that|when) it (?:be |ever |also |really |still )?(?:not )?(?:ok|okay|fine|possible"
    r"|safe|legal|illegal|normal|bad|good|better|best|worth|necessary|dangerous|healthy|unhealthy|rude|polite|wise|common|easy"
    r"|hard|difficult|true|mandatory|compulsory|required|take|cost|mean|rains?|snows?|matters?|feasible|haram|cheaper|harmful"
    r"|important|allowed|acceptable|correct|free|rare|enough|about|called)\b|\bit'?s (?:been|ok|okay|not|just|raining|called)\b"
    r"|\bhow it works?\b|^(?:what|who|when|where|why|how) (?:is|was) it that\b|\bit (?:takes?|costs?|means?)\b"
)
_CLAUSE: Final = re.compile(
    r"[,.;:!?]|\b(?:if|when|while|after|before|because|since|that|who|which|but|so|and|or|once|until|whether|to|than|as)\b"
)
_ANTECEDENT: Final = re.compile(r"(?<!\bi )(?<!\bwe )(?<!\byou )(?<!\bto )(?<!\bnot )\b[a-z]{3,}\b")


def _points_elsewhere(small: str) -> bool:
    """Whether a pronoun stands for something that the text itself does not name before it.

    Named is what a noun of an earlier clause may be: *my tap drips, can it be fixed*; the owner of
    something may be of the same clause: *Curie and her husband*.
    """
    if not _POINTING.search(small):
        return False
    text = PLEONASTIC.sub(" ", small)
    found = _POINTING.search(text)
    if found is None:
        return False
    before = text[: found.start()]
    if found.group() not in ("his", "her", "their"):
        clauses = [clause.start() for clause in _CLAUSE.finditer(before)]
        before = before[: clauses[-1]] if clauses else ""
    return not any(
        word not in _NO_ANTECEDENT and (english.noun(word) or not english.known(word))
        for word in _ANTECEDENT.findall(before)
    )


_NO_ANTECEDENT: Final = frozenset(
    ("can", "will", "may", "might", "must", "have", "was", "are", "does", "did", "how", "why", "who", "what", "when", "where",
     "not", "but", "and", "get", "make", "back", "there", "see", "use", "one", "now", "well", "yes", "then", "out", "off", "over")
)  # fmt: skip

_DEICTIC: Final = _union(
    r"\bwho (?:is|made|created|built|trained|owns|designed|invented) this\b",
    r"\b(?:this|that) (?:one|place|guy|thing|stuff)\b",
)
"""About something that was said or shown before."""

_ENTITLED: Final = r"(?:able|allowed|entitled|permitted|eligible|required|supposed|liable|covered|obliged|legally|still)"
_MINE: Final = _union(
    rf"^(?:am|are) (?:i|we) (?!{_ENTITLED}\b)|^(?:was|were|have|had|did) (?:i|we)\b|\bam i (?!{_ENTITLED}\b|owed\b)",
    r"^will (?:i|we) (?!need\b|have to\b|be (?:able|charged)|get (?:a|an|the|my)\b|receive (?:a|an|the|my)\b|lose\b|qualify\b|pay\b)",
    r"^do (?:i|we) (?!need\b|have to\b|get (?:a|an)?\s?\w|pay\b|qualify\b|lose\b|require\b|still need\b|also need\b)",
    r"\b(?:what|who|whom|when|where|which) (?:did|was|were|am) (?:i|we) (?!owed|entitled|allowed|eligible|able)",
    r"^how (?:am|are|was|were|did|much (?:do(?! (?:i|we) (?:need|have)\b)|am)|old (?:am|are)|tall (?:am|are)) (?:i|we)\b",
    r"\bwho\b.*\b(?:me|us)$|\bwho do i (?:\w+ )?(?:look|love|like|live|work|know|owe|resemble|trust)\b"
    r"|\b(?:called|told|sent|gave|owes?|hit|saw) (?:me|us)\b",
)
"""About the asker, where the answer is another for each."""

_CHANGES: Final = _union(
    r"^(?!when\b|what time\b|how\b).*\b(?:is|are) (?:\S+ )+(?:open|closed|available|down|up|online|in stock)$",
    r"\bwho (?:won|wins|lost|died)\b(?!.*\b(?:1\d|20)\d\d\b)|\belections?\b(?!.*\b(?:1\d|20)\d\d\b)",
    r"\bhow old is (?!the\b)|\bis \S+(?: \S+)? (?:dead|alive|married|single|rich)$",
)
"""The answer is another next month, though no word says so."""

_SUBJECTS: Final = (
    ("chance", _CHANCE),
    ("translation", _TRANSLATION),
    ("supplied-text", _SUPPLIED),
    ("maths", _MATHS),
    ("time-bound", _TIME_BOUND),
    ("time-bound", _CHANGES),
    ("creative", _CREATIVE),
    ("personal", _ASKER),
    ("personal", _MINE),
    ("mention", MENTION),
    ("context", _DEICTIC),
    ("context", _CONTEXT),
)


def tells_a_secret(text: str) -> bool:
    """Whether it holds what should be on no disk. Of a very long text, as far as its end tells."""
    return _SECRET.search(composed(text[-_SCANNED_MAX:])) is not None


_SCANNED_MAX: Final = 16_384
"""Characters. A scan of so many takes 3 ms; pasted files are longer, and rarely end in a secret."""


def _as_written(text: str) -> Iterator[str]:
    normal = composed(text)
    return (reason for reason, sign in _AS_WRITTEN if sign.search(normal))


def _subject(text: str) -> Iterator[str]:
    if text.count("\n") > 2:
        yield "supplied-text"
    small = fold(text).lower().rstrip(" ?!.")
    for reason, sign in _SUBJECTS:
        if sign.search(small):
            yield reason
    if _points_elsewhere(small):
        yield "context"
    if read(text).kind != "how" and _STATE.search(small):
        yield "personal"  # but how to change *my* address is nobody's in particular
