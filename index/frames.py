# ruff: noqa: E501 -- a pattern is read whole, on its line
"""Phrasings that ask the same, brought to one form before words are compared.

*How many people live in Peru*, *Peru's population* and *what is the population of Peru* differ in
every word that is not Peru. Rules about words cannot see that; these rewrites can. Each takes a
lower-case text, single-spaced, and gives another; they run in order, so later ones may rely on what
earlier ones produce. A rewrite must keep the meaning for every filling of its gaps.
"""

import re
from collections.abc import Callable
from typing import Final

from index import english, quantities
from index.patterns import branches, union

Replacement = str | Callable[[re.Match[str]], str]

_CONTRACTIONS: Final[list[tuple[str, Replacement]]] = [
    (r"\b(can|could|should|would|is|are|was|were|do|does|did|has|have|had|must|need|might)n'?t\b",
     r"\1 not"),
    (r"\bcan'?t\b|\bcannot\b", "can not"),
    (r" & ", " and "),
    (r"\b(pdf|jpe?g|png|csv|json|xml|zip|mp[34]|docx?|xlsx?|html|css|txt|svg|gif)s? files?\b", r"\1"),
    (r"\b(?:what|which) the (?=\w+ (?:is|are)\b)", "what is the "),
    (r"\bwon't\b|\bwont\b", "will not"),
    (r"\bshan't\b", "shall not"),
    (r"\bain't\b", "is not"),
    (r"\b(what|who|where|when|how|why|that|there|here|it|he|she)'s\b", r"\1 is"),
    (r"\b(what|who|where|how|that)s\b(?= (?:the|a|an|my|your|this|it|up|your)\b)", r"\1 is"),
    (r"\blet's\b", "let us"),
    (r"\bi'?m\b", "i am"),
    (r"'re\b", " are"),
    (r"'ve\b", " have"),
    (r"'ll\b", " will"),
    (r"\b(i|you|we|he|she|they|it|who|what|how)'d\b", r"\1 would"),
]  # fmt: skip

_SLIPS: Final[dict[str, str]] = {
    "diffrence": "difference", "diference": "difference", "differance": "difference", "recieve": "receive",
    "recieved": "received", "seperate": "separate", "wich": "which", "teh": "the", "wat": "what", "whats": "what is",
    "wheres": "where is", "hows": "how is", "whos": "who is", "becuase": "because", "beleive": "believe", "definately": "definitely",
    "goverment": "government", "adress": "address", "acount": "account", "calender": "calendar", "cancle": "cancel",
    "chnage": "change", "convertion": "conversion", "recepie": "recipe", "recipie": "recipe", "pasword": "password",
    "passwrod": "password", "langauge": "language", "meanning": "meaning", "meening": "meaning", "capitol of": "capital of",
    "populaton": "population", "temprature": "temperature", "tempurature": "temperature", "u": "you", "ur": "your", "r": "are",
    "pls": "please", "plz": "please", "cuz": "because", "dont": "do not", "doesnt": "does not", "wanna": "want to",
    "gonna": "going to", "gotta": "have to", "dunno": "do not know", "thru": "through", "tho": "though", "w/": "with", "w/o": "without",
}  # fmt: skip
"""Slips in the words that phrases are known by; those in other words are `guard`'s matter."""

_GREETINGS: Final[list[tuple[str, Replacement]]] = [
    (r"^(?:(?:hi|hello|hey|hiya|dear|greetings|good (?:morning|afternoon|evening))"
     r"(?: there| all| everyone| team| guys)?\s*[,.!]?\s+)+(?=\w+ )", ""),
    (r"^(?:(?:um+|uh+|er+|erm|hmm+|so|well|ok|okay|yeah|right|now then|oh)\b\s*,?\s*)+(?=\w+ \w)", ""),
    (r"\b(?:um+|uh+|erm)\b ?", ""),
    (r"^(?:just )?(?:a )?quick (?:one|question)\s*[:,-]?\s*", ""),
    (r"^(?:i (?:was|am) )?(?:just )?(?:wondering|curious)(?: about)?\s*[,:-]?\s*(?:if you (?:can|could) "
     r"tell me |if |whether )?", ""),
    (r"^(?:question|q|query|prompt)\s*:\s*", ""),
    (r"^(?:i )?(?:just )?(?:want(?:ed)?|would like|need(?:ed)?) to (?:ask|check|know|find out)(?: you)?(?: about)?\s*[,:-]?\s*(?:if |whether )?"
     r"(?=(?:how|what|why|who|when|where|which|is|are|do|does|can|could|if)\b)", ""),
    (r"^(?:i have a question|can i ask(?: you)?(?: something)?|may i ask|one question|help(?: me)?|question for you)\s*[,:;.!-]+\s*", ""),
    (r"^(?:any (?:idea|clue)|does anyone know|do you (?:happen to )?know|you know|anyone know|i wonder|wondering)\s+(?=(?:how(?! to\b)|what|why|who|when|where|which)\b)", ""),
    (r",? (?:do|does) (?:you|anyone|anybody) (?:happen to )?know\s*\?*$|[,.?]? any (?:idea|ideas|tips|advice)\s*\?*$", ""),
    (r"(?:[,.!?] ?| )(?:many )?(?:thanks|thank you|thx|cheers|ty)(?: (?:in advance|so much|a lot|very much))?"
     r"\s*[.!]*$", ""),
    (r",?\s+please\b,?\s*", " "),
    (r"^please ", ""),
    (r"^(?:hi|hello|hey|hiya)\s*[,.!]?\s+(?=\w+ )", ""),
    (r"^(?:um+|uh+|er+|so)\s+(?=\w+ )", ""),
]  # fmt: skip

_TELL = r"(?:tell|explain|show|describe|clarify)(?: to)?(?: me| us)?"
_POLITE: Final[list[tuple[str, Replacement]]] = [
    (rf"^(?:can|could|would|will) (?:you|someone|anyone|somebody)(?: kindly)? {_TELL} "
     r"(?=(?:how|what|why|who|when|where|which|whether|if)\b)", ""),
    (r"^(?:can|could|would|will) (?:you|someone|anyone)(?: kindly)? "
     r"(?=(?:explain|describe|define|list|give|provide|show|tell|help|write|compare|outline)\b)", ""),
    (r"^(?:do|does) (?:you|anyone|anybody|someone) know (?=(?:how(?! to\b)|what|why|who|when|where|which|if)\b)", ""),
    (r"^(?:i|we) (?:would like|want|need|would love|wish|am trying|am looking)(?: to)? "
     r"(?:know|understand|find out|learn|figure out)(?: about)? (?=(?:how|what|why|who|when|where|which)\b)", ""),
    (rf"^{_TELL} (?=(?:how|what|why|who|when|where|which)\b)", ""),
    (r"^(?:give me|provide|show me|i need|i want|i am looking for|get me|help me with) "
     r"(?=(?:a|an|the|some)\b)", ""),
    (r"^write (?=(?:a|an|the|some)\b)", ""),
]  # fmt: skip

# "explain what inflation is" -> "explain inflation": the verb at the end comes home.
_EMBEDDED: Final[list[tuple[str, Replacement]]] = [
    (r"^explain (?:what|who) (?:is |are )?(.+?)(?: is| are| means)?(?= like | simply|$)", r"what is \1"),
    (r"^(what|who|where|when|why|how) (.{1,60}?) (is|are|was|were)\s*\??$", r"\1 \3 \2"),
    (r"^(?:explain )?how (?!to\b|do\b|does\b|is\b|are\b|can\b|it\b)(.{1,60}?) works?$", r"how does \1 work"),
    (r"^(?:describe|explain to me)\b", "explain"),
    (r"^define ", "what is the meaning of "),
]  # fmt: skip

_STYLE: Final[list[tuple[str, Replacement]]] = [
    (r"\b(?:in|using|with) (?:simple|plain|easy|layman'?s|lay) (?:terms|words|language|english)\b",
     "simply"),
    (r"\b(?:to|for|like i am|like|as if i were|as if i was|as if i am)(?: an?)? "
     r"(?:5|five)(?: |-)?(?:year|yr)?(?:s)?(?: |-)?(?:old)?(?: child| kid)?$", "eli5"),
    (r"^eli5 ?:? ?(.+)$", r"explain \1 eli5"),
]  # fmt: skip

_SERVICES = (
    r"(?:discounts?|parking|wi-?fi|vouchers?|options?|plans?|deliver(?:y|ies)|trials?|apps?|polic(?:y|ies)|tables?|rooms?|menus?|cards?"
    r"|warrant(?:y|ies)|stores?|branch(?:es)?|appointments?|vacanc(?:y|ies)|jobs?|offers?|deals?|sizes?|colou?rs?|takeaways?|tours?"
    r"|class(?:es)?|courses?|lessons?|insurance|support|hotline|newsletters?|memberships?|rates?|packages?|services?|facilit(?:y|ies))"
)
_ITS = r"(my|our|the|your|an?|this) ((?:\w+ ){0,2}?)"
_PAID = (
    r"((?:(?:credit|debit|bank|visa|gift) )?card|paypal|apple pay|google pay|amex|american express|visa|mastercard|cash|cheque|check"
    r"|bitcoin|klarna|bank transfer|direct debit|contactless)"
)
_HANDLED: Final[list[tuple[str, Replacement]]] = [
    (rf"^do you (?:accept|take|support) (?:payments? (?:by|via|with|through|in) )?{_PAID}s?(?: payments?)?$", r"can i pay with \1"),
    (rf"^(?:is|are) {_PAID}s? (?:payments? )?(?:accepted|possible|supported)$", r"can i pay with \1"),
    (rf"^can i pay (?:by|via|using|in|through|with) {_PAID}s?$", r"can i pay with \1"),
    (r"^(?:can|will|would) you (?=(?:ship|deliver|post)\b)", "do you "),
    (rf"^does (?:the|your|this) (\w+) (?:have|offer) (?=.*\b{_SERVICES}\b)(.+)$", r"is existent \2 at the \1"),
    (r"^what (?:is|are) (?:the |your )?(delivery|shipping|processing) times?$", r"how long takes \1"),
    (rf"\b(?:update|edit|modify|amend) {_ITS}(address|email address|phone number|password|name|details|card|plan|settings)\b", r"change \1 \2\3"),
    (rf"\b(?:make|schedule|arrange) {_ITS}(appointment|booking|reservation)\b", r"book \1 \2appointment"),
    (r"\b(?:leave|write|post) (a|my) review\b", r"write \1 review"),
    (r"\b(track|find|locate) (my|a|the) (?:parcel|package|shipment)\b", r"\1 \2 parcel"),
    (r"^what is (?:the |your )(.+?) fees?$", r"what is the cost of \1"),
    (r"^((?:is|are) existent .+?) at (.+)$", r"\1 in \2"),
    (r"\breach (?=(?:(?:customer|technical) )?(?:support|services?|the (?:council|team|helpdesk))\b)", "contact "),
    (r"\b(?:send|wire) money\b", "transfer money"),
    (r"\bstop (?:receiving|getting) (?=(?:the |your |these |my )?(?:\w+ )?(?:newsletters?|emails?)\b)", "unsubscribe from "),
    (r"^(?:is|are|can) (.+?) (?:returnable|be returned)$", r"can i return \1"),
    # Verbs that say the same of such an object only: to end a subscription is to cancel it.
    (rf"\b(?:end|terminate|stop) {_ITS}(subscription|membership)\b", r"cancel \1 \2\3"),
    (rf"\bshut-down {_ITS}account\b", r"close \1 \2account"),
    (rf"\b(?:create|open) {_ITS}(standing order|direct debit)\b", r"set-up \1 \2\3"),
    (r"\breceive (my|our) ", r"get \1 "),
    (rf"\bobtain {_ITS}(?=\w)", r"get \1 \2"),
    (rf"^(how to|can i) (?:request|order|ask for|obtain) {_ITS}(copy|prescription|quote|duplicate)\b", r"\1 get \2 \3\4"),
    (rf"^(how to) (?:apply for|request|obtain) {_ITS}(visa|passport|permit|licen[cs]e|certificate|badge|pac code|loan|mortgage|grant)\b",
     r"\1 get \2 \3\4"),
    (r"\bcredit (?:score|rating)\b", "credit score"),
    (r"\bwait(?:ing)? times?\b", "wait-time"),
    (r"\bkeep my (?:phone |mobile |telephone )?number\b", "keep my number"),
    (r"\bsomewhere to park\b|\ba place to park\b|\bparking spaces?\b|\bcar parks?\b", "parking"),
    (r"\b(?:delivery|shipping) (?:costs?|fees?|charges?)\b", "delivery cost"),
    (r"^how much (?:is|are) (?:the |your )?(?:delivery|shipping)$|^how much (?:does|do) (?:the |your )?(?:delivery|shipping) cost$",
     "what is the delivery cost"),
    (r"^(?:what is|how long is) the (?:journey|travel|travelling|driving|flight) time (?:between|from) (.+?) (?:and|to) (.+)$",
     r"how long takes to get from \1 to \2"),
    (r"^(?:what (?:is|are) )?(?:the |your )(?:opening|business|store|shop|trading) (?:hours|times)$", "when are you open"),
    (r"^(?:what (?:is|are) )?(?:the |your )?opening (?:hours|times) (?:of|for|at) (?:the )?(.+)$", r"when is \1 open"),
    (r"^(?:what (?:is|are) )(?:the )?(.+?)'s opening (?:hours|times)$", r"when is \1 open"),
    (r"^(is|are) (?:there )?(.+?) available (in|on|at|for) (.+)$", r"\1 existent \2 \3 \4"),
]  # fmt: skip

_HOW = "how to "


def _both(between: str) -> Callable[[re.Match[str]], str]:
    """What holds *between* two holds in either order: that of the alphabet is taken."""

    def ordered(match: re.Match[str]) -> str:
        one, other = sorted(re.sub(r"^(?:an?|the) ", "", part) for part in match.groups())
        return f"what is the {between} between {one} and {other}"

    return ordered


def _peopled(match: re.Match[str]) -> str:
    """A place has a population; what the dictionary knows as more than a name may be none."""
    place = match[1].split()[-1]
    return match[0] if english.ambiguous(place) else f"what is the population of {match[1]}"


_LARGEST = r"(?=(?:\w+ )?(?:cit(?:y|ies)|countr(?:y|ies)|planets?|islands?|lakes?|deserts?|oceans?|states?|continents?|animals?|mammals?|airports?|banks?)\b)"


def _done(match: re.Match[str]) -> str:
    return _HOW + (english.gerund_of(match[1]) or match[1])


_INSIDE = r"(?!(?:that|if|when|because|who|which|to|and)\b)[^\W_][^ ]*"
_CLAUSE = rf"{_INSIDE}(?: {_INSIDE})*?"
"""Words up to the end of a clause at most, so that no *not* leaves its own."""

_TASK: Final[list[tuple[str, Replacement]]] = [
    (r"^(?:i|we) (?:need|want|could use|require) (?:some )?help (?:with |in )?(\w+ing) ", lambda m: f"how to {english.gerund_of(m[1]) or m[1]} "),
    (r"^in (?:what|which) (?:way|manner)s? (?=(?:do|does|can|is|are|did)\b)", "how "),
    (r"^(.+?), (?:so )?what (?:should|shall|can|do|could) (?:i|we) do(?: about it)?$", r"what to do if \1"),
    (r"^(?:tell|give|show) me (?=the \w+(?: \w+)? (?:of|in|for)\b)", "what is "),
    (r"^(?:name|list|enumerate|give me) (?=(?:all )?(?:of )?the \w+s\b)", "list "),
    (r"^what (?:is|are|would be) the (?:quickest|fastest) ways? to (.+)$", r"how to \1 quickly"),
    (r"^(?:how (?:can|do|could|would|should) (?:i|we|you|one)) (quickly) (.+)$", r"how to \2 \1"),
    (r"^what (?:do|should|would|must|can) (?:i|we|you|one) (?:need to |have to )?do (?:in order )?(?:so that|to) ", _HOW),
    (r"^how (?:should|would|must|might|could|can) (?:i|we|you|one) (?:best )?go about ", _HOW),
    (r"^(?:what|which) (?:is|are) (?:involved in|required (?:for|to)|needed (?:for|to)) (?=\w+ing\b)", _HOW),
    (r"^(?:i|we) (?:would )?(?:want|need|like|have|wish|love|am trying|are trying) to (.+?)\s*[,.;?-]+\s*"
     r"(?:but |and |so )?(?:what (?:steps|do i need to do|is the (?:process|procedure|way))|how (?:does|do|should|can|is) "
     r"(?:it|that|this|i|we|one)|where do i start)(?: (?:do (?:i|we) (?:need to )?(?:take|follow)|(?:go about )?(?:do|doing) (?:it|that|this)"
     r"|work|done|take|proceed|for (?:that|this|it)))?$", r"how to \1"),
    (r"^(?:what|which) do (?:i|you|we) (?:need|have) to do (?:in order )?to ", _HOW),
    (r"^(?:what|which) (?:is|are|would be) (?:the |a |some )?(?:best |correct |right |proper |good |usual |"
     r"standard )?(?:ways?|methods?|process|procedures?|steps?|approach|means)(?: i need)?(?: to take)? "
     r"(?:to|(?:for|of|in)(?= \w+ing\b)) ", _HOW),
    (r"^how (?:do|can|could|would|does|might) (?:i|we|one) "
     r"(?:go about|start to|begin to|actually)? ?", _HOW),
    (r"^(?:the )?(?:best |right |correct |proper )?(?:ways?|steps?|instructions?|guide|tutorial|method|"
     r"process) (?:to|for|on|of) ", _HOW),
    (r"^(?:show me|teach me|tell me|help me|explain|learn|i need to know|i want to know)(?: on)? how to ", _HOW),
    (r"^help me (?:to )?", _HOW),
    (r"^(?:what is )?(?:(?:a|an|the|your) )?(?:good |simple |basic )?recipe (?:for|of) ", "how to make "),
    (r"^(?:what is )?(?:(?:a|an|the|your) )?(?:good |simple |basic )?(.{2,60}?) recipe$", r"how to make \1"),
    (r"^(?:i|we) (?:want|need|would like|have|wish|am trying|would love) to (.+?)\s*[,.;-]+\s*"
     r"(?:but )?(?:how|what do i do|what steps do i take|what should i do)(?: (?:do|can|could|would) (?:i|we)"
     r"(?: do)?(?: that| it| this| so)?| does that work)?$", r"how to \1"),
    (r"^how (?:do|can|would) (?:i|you|we) do (?:it|that) to ", _HOW),
    (r"^how (?:should|would) one ", _HOW),
    (r"^how is it possible to ", _HOW),
    (r"^how (?:do|would) you (?=(?:pronounce|spell|say)\b)", _HOW),
    (r"^how (?:can|could|do|does) (.+?) be (\w+(?:ed|en|wn|lt|ade|one|ent|ept))\b", r"how to \2 \1"),
    (r"^(?:what is )?(?:the )?(?:correct )?pronunciation (?:of|for) ", "how to pronounce "),
    (r"^what (?:can|could|do) (?:i|we|you|one) do to ", _HOW),
    (r"^what (?:should|do) (?:i|we|you|one) do (?=(?:if|when|after|before|about)\b)", "what to do "),
    (r"^what to do when ", "what to do if "),
    (r"^(what to do if .+?) (?:will|would|does|do) not ", r"\1 not "),
    (r"^why (?:will|would|does|do) not (.+)$", r"why not \1"),
    (rf"^why (?:will|would|does|do) ({_CLAUSE}) not (.+)$", r"why not \1 \2"),
    (rf"^why (?:is|are) ({_CLAUSE}) not (\w+ing)\b(.*)$", lambda m: f"why not {m[1]} {english.gerund_of(m[2]) or m[2]}{m[3]}"),
    (r"^how to (?:be able to )?", _HOW),
    (r"^how to (?:go about )?(\w+ing)\b", _done),
    (r"^(\w{3,}ing) ((?:an?|the|my|your|our|this) .+?)[ ,:-]+how(?: (?:is|was|can) (?:it|that|this)(?: be)? done"
     r"| (?:do|can|would|should) (?:i|you|we|one) (?:do|go about) (?:it|that|this)| to)?$",
     lambda m: f"how to {english.gerund_of(m[1]) or m[1]} {m[2]}"),
    (r"^(\w{3,}ing) ((?:an?|the|my|your|our) (?!.*\b(?:is|are|was|were|can|will|has|have|do|does|did|should|would|makes?)\b).+)$",
     lambda m: f"how to {english.gerund_of(m[1]) or m[1]} {m[2]}"),
    (r"^how to (.+?) (?:the )?(?:fastest|quickest) way$", r"how to \1 quickly"),
]  # fmt: skip

_BE = r"(?:is|are|was|were)"
_THING = r"((?:the|an?|my|your|our|his|her|this|that|[a-z]+'s) .+|\w+ \w.*|(?!stay\b)\w+(?<!s))"
_JUDGED = r"(legal|illegal|safe|unsafe|healthy|unhealthy|dangerous|bad|rude|haram|possible|expensive|hard|difficult|easy|normal)"
_RELATIONS: Final[list[tuple[str, Replacement]]] = [
    # judgements: of an act, in three word orders
    (r"^(?:can|could|may) (?:i|you|we|one|people) (?:legally|lawfully) ", "is it legal to "),
    (r"^(?:can|could|may) (?:i|you|we|one|people) safely ", "is it safe to "),
    (rf"^is (\w+ing) (.+?) {_JUDGED}((?: (?:in|for|on|at|during|while) .+)?)$",
     lambda m: f"is it {m[3]} to {english.gerund_of(m[1]) or m[1]} {m[2]}{m[4]}"),
    (rf"^(?:is|are) (?!it\b|there\b)(.+?) {_JUDGED} to (\w+)((?: .+)?)$", r"is it \2 to \3 \1\4"),
    (r"^is it against the law to ", "is it illegal to "),
    (rf"\bbiggest {_LARGEST}", "largest "),
    # ages
    (r"^(?:how old|what age) (?:do|does|must|should) (?:i|you|we|one|someone|a person) (?:(?:have|need) to |must )?be (?:in order )?(?=to|for)",
     "what is the minimum age "),
    (r"^at what age (?:can|may|could) (?:i|you|we|one|someone|people) ", "what is the minimum age to "),
    # who is let in
    (r"^(?:is|are) ((?:dog|cat|pet|child|children|kid|baby|babie|bicycle|bike|drink|food|camera|bag)s?) (?:allowed|permitted)(?= (?:in|on|at|inside|aboard)\b|$)",
     r"can i bring \1"),
    (r"^can i take ((?:my|a|the|our) (?:dog|cat|pet|child|kid|baby|bicycle|bike|camera)s?)(?= (?:in|on|at|inside|aboard)\b|$)", r"can i bring \1"),
    (r"^is it (?:allowed|permitted) to (?:take|bring) ", "am i allowed to bring "),
    (r"^is it (?:allowed|permitted) to ", "am i allowed to "),
    (r"^how long (?:does|do|will) (.+?) (?:stay|remain|keep|be) (open|valid|closed|fresh|good|active|edible)$", r"how long is \1 \2"),
    (rf"^how long ({_BE}) (?!it\b)(?!.* (?:open|valid|closed|fresh|good|active|edible)$)(.+)$", r"what \1 the length of \2"),
    (r"^(?:what|which) (symptoms|side effects) (?:does|do|can|could|may) (.+?) (?:cause|have|produce)$", r"what are the \1 of \2"),
    (r"^(.+?) (is|are|was|were) (what|who|where)$", r"\3 \2 \1"),
    (r"^where (?:do|does|should|can|could) (?:i|we|one) (?=\w+)", "where "),
    (r"^who(?:m)? (?:do|does|should|can|could) (?:i|we|one) (?:need to |have to )?(?=\w+)", "whom "),
    # measures: how ADJ is X
    (rf"^what (age|height|length|weight|width|depth|size|speed|colou?r|temperature) ({_BE}) (.+)$", r"what \2 the \1 of \3"),
    (rf"^how old ({_BE}) {_THING}$", r"what \1 the age of \2"),
    (rf"^how tall ({_BE}) {_THING}$", r"what \1 the height of \2"),
    (rf"^how deep ({_BE}) {_THING}$", r"what \1 the depth of \2"),
    (rf"^how (?:big|large) ({_BE}) (.+)$", r"what \1 the size of \2"),
    (rf"^how heavy ({_BE}) {_THING}$", r"what \1 the weight of \2"),
    (r"^how much (?:does|do) (.+?) weigh$", r"what is the weight of \1"),
    (rf"^how hot ({_BE}) {_THING}$", r"what \1 the temperature of \2"),
    (rf"^how wide ({_BE}) {_THING}$", r"what \1 the width of \2"),
    (rf"^how fast ({_BE}) {_THING}$", r"what \1 the speed of \2"),
    (r"^how (?:fast|quickly) (?:does|do|can) (.+?) (?:travel|move|go|run)(?= |$)",
     r"what is the speed of \1"),
    (rf"^how far {_BE} (?!it\b)(.+?) from (.+)$", r"what is the distance from \1 to \2"),
    (r"^how far (is|are) (?!it )(.+)$", r"what \1 the distance to \2"),
    (r"^how far is it from ", "what is the distance from "),
    (r"^how much (is|are) (.+? (?:fee|charge|cost|fare|rent|fine|deposit|premium|toll)s?)$", r"what \1 \2"),
    (r"^how much (is|are) (.+? (?:tickets?|services?|subscriptions?|memberships?|licen[cs]es?|passports?)(?: (?:from|to|for|in) .+)?)$", r"what \1 the cost of \2"),
    (rf"^how (?:expensive|costly) ({_BE}) (.+)$", r"what \1 the cost of \2"),
    (r"^(?:how much|what) (?:does|do|would|will) (?:it )?cost to ", "what is the cost to "),
    (r"^(?:how much|what) (?:does|do) (.+?) cost(?= |$)", r"what is the cost of \1"),
    (r"^(?:what|how much) (?:is|are) the (?:(?:price|fee|cost)s? (?:of|for)|charges? for) ", "what is the cost of "),
    (r"^how many (?:people|inhabitants|residents|persons) (?:live|are|are living|reside|are there)"
     r"(?: there)? in (.+)$", _peopled),
    (r"^how many (.+?) (?:are|is) there(?: (in|on|of|within) (.+))?$",
     lambda m: f"how many {m[1]} {m[2] or ''} {m[3] or ''}"),
    (r"^(?:what is )?(?:the )?(?:total )?(?:number|count|quantity) of (.+)$", r"how many \1"),
    (r"^how many (.+?) (?:does|do) (.+?) (?:have|contain|include|consist of)$", r"how many \1 in \2"),
    (r"^how long (?:does|do|will|would) it (?:usually |typically |normally )?take (?:for )?",
     "how long takes "),
    (r"^how long (?:does|do|will) (.+?) take(?= |$)", r"how long takes \1"),
    (r"^(how long .+) for$", r"\1"),
    (r"^at (?:what|which) temperature does (.+?) boil$", r"what is the boiling point of \1"),
    (r"^(?:which|what) (\w+(?: \w+)?) (is|are|was|were) (?:the )?(\w+est|most \w+|least \w+)\b",
     r"what \2 the \3 \1"),
    (r"\b(is|are) considered (?:to be )?", r"\1 "),
    # people and what they did: the author of X
    (r"^(?:who|what) (is|was|are|were) (?:the )?(?:name of the )?(?:people|person|man|woman|artist|one|ones) "
     r"(?:who|that) ", "who "),
    (r"^(?:who (?:is|was) )?(?:the )?author of ", "who wrote "),
    (r"^(?:who (?:is|was) )?(?:the )?(?:painter|artist) (?:of|behind) ", "who painted "),
    (r"^(?:who (?:is|was) )?(?:the )?inventor of ", "who invented "),
    (r"^(?:who (?:is|was) )?(?:the )?founder of ", "who founded "),
    (r"^(?:who (?:is|was) )?(?:the )?discoverer of ", "who discovered "),
    (r"^(?:who (?:is|was) )?(?:the )?composer of ", "who composed "),
    (r"^(?:who (?:is|was) )?(?:the )?director of (?=the (?:film|movie)\b)", "who directed "),
    (r"^(?:who (?:is|was) )?(?:the )?(?:creator|maker) of ", "who created "),
    (r"^(?:who (?:is|was) )?(?:the )?winner of ", "who won "),
    (r"^(?:which|what) (?:author|writer|novelist|poet|playwright) (?:wrote|penned) ", "who wrote "),
    (r"^(?:which|what) (?:painter|artist) painted ", "who painted "),
    (r"^(?:which|what) (?:scientist|inventor|person|physicist) (?=(?:invented|discovered)\b)", "who "),
    (r"^(who|what|where|when|why) (?:was|is) it that ", r"\1 "),
    (r"^name (?:the )?(?=.*\b(?:\w+est|most|least)\b)", "what is the "),
    (r"^by (?:whom|who) (is|was|were|are) (.+?) (\w+(?:ed|en|wn|t))$", r"who \3 \2"),
    (rf"^(.+?) {_BE} (\w+) by (?:whom|who|which (?:author|artist|person))$", r"who \2 \1"),
    (rf"^who {_BE} (.+?) (\w+(?:ed|en|tten|unded)) by$", r"who \2 \1"),
    # time and place
    (r"^(?:in |on |at )?(?:what|which) (year|date|day|month|time) (?:of the (?:day|year) )?", r"when \1 "),
    (r"^when (?:year |date )?(?:is|was) (.+?)'s (?:birthday|birth)$", r"when was \1 born"),
    (r"^((?:which|what) .+? (?:is|are)) there (?=(?:in|on)\b)", r"\1 "),
    (r"^(?:what|when) (?:is|was) (?:the )?(?:birth ?date|date of birth|birthday) of (.+)$", r"when was \1 born"),
    (r"^(?:what|when) (?:is|was) (.+?)'s (?:birth ?date|date of birth|birthday)$", r"when was \1 born"),
    (r"^(?:when date )?what (?:is|was) the date of (?=the )", "when was "),
    (rf"^where ({_BE}) (.+?) (?:located|situated|found)$", r"where \1 \2"),
    (r"^what (?:is|are) the locations? of ", "where is "),
    (r"^where can (?:i|we|one) find ", "where is "),
    (r"^(?:what|where) (?:is|was) (?:the )?(?:birthplace|place of birth) of (.+)$", r"where was \1 born"),
    (r"^(?:what|where) (?:is|was) (.+?)'s (?:birthplace|place of birth)$", r"where was \1 born"),
    # meaning and difference
    (r"^what does (.+?) (?:mean|signify)$", r"what is the meaning of \1"),
    (r"^(?:what is )?(?:a |the |give (?:me )?(?:a |the ))?(?:definition|meaning) of ", "what is the meaning of "),
    (r"^(?:what does|what is) (.+?) (?:stand|short) for$", r"what is the full form of \1"),
    (r"^how (?:does|do|is|are) (.+?) (?:differ|different) from (.+)$", _both("difference")),
    (r"^how (?:does|do|is|are) (.+?) and (.+?) (?:differ|different)(?: from (?:each other|one another))?$",
     _both("difference")),
    (r"^(?:what (?:is|are) )?(?:the )?(?:main |key )?differences? (?:between|of) (.+?) (?:and|vs|versus) (.+)$",
     _both("difference")),
    (r"^(?:what (?:is|are) )?(?:the )?distance (?:between|from) (.+?) (?:and|to) (.+)$", _both("distance")),
    (r"^what (?:goes|is needed) (?:into|in) (?:a |an |the )?(.+)$", r"what are the ingredients of \1"),
    # reasons
    (r"^what (?:is|are) (?:the )?reasons? (?:that|why) ", "why "),
    (r"^what (?:is|are) (?:the )?(?:reasons?|causes?) (?:for|of|behind) ", "why is "),
    (r"^(?:what|which) (?:causes|leads to) ", "why is "),
    (r"^(?:how come|for what reason|what is the reason)(?: that)? ", "why "),
    (r"^(?:explain|the reasons?) why ", "why "),
    (r"^what is the (?:need|point|purpose) (?:to|of|for|in) ", "why the need to "),
    (r"^why (?:do|does) (.+?) (?:happen|occur|exist)$", r"why is \1"),
    # permission, ability, need
    (r"^can (.+?) be (\w+(?:ed|en|wn|lt|ade|one|ent|ept))\b", r"can i \2 \1"),
    (r"^is it (?:ok|okay|fine|alright|all right) (?:for me |for us )?(?:to|if (?:i|we)) ", "can i "),
    (r"\b(?:am|are|is|be) unable to\b", "can not"),
    (r"^(when|where|how often|how long|how early|how late) (?:do|should) (?:i|we|one) "
     r"(?:need to |have to |must )?(?=\w)", r"\1 "),
    (r"^(what|which) (.+?) (?:is|are) (?:required|needed|necessary) to (?=\w)(?!a\b|an\b|the\b)", r"\1 \2 do i need to "),
    (r"^(?:is|are) (.+?) (?:required|needed|necessary) (to (?=\w)(?!a\b|an\b|the\b)|for (?=\w+ing\b))(.+)$", r"do i need \1 \2\3"),
    (r"^what (?:is|are|comes) (?:included|contained) (?:in|with|by) (.+)$", r"what does \1 include"),
    (r"^what (?:is|are) covered (?:by|under|in|with) (.+)$", r"what does \1 cover"),
    (r"^(?:is|are) (.+?) included (?:in|with) (.+)$", r"does \2 include \1"),
    (r"^(to|for|with|from|about|by) whom (?:can|do|should|could|does) (?:i|we) (.+)$", r"whom \2 \1"),
    (r"^(when|where|why|how) (?:do|does) (.+?) get (\w+(?:ed|en|nt|id|ught|old))(?= |$)", r"\1 are \2 \3"),
    (r"^what (?:would|will) happen (?=(?:if|when)\b)", "what happens "),
    (r"^what happens (?:if|when) (?:i|we|one) ", "what happens if "),
    (r"^what (?:is|are|would be) the (?:consequences?|effects?|result) of (?:not (?=\w+ing\b))?(\w+ing) (?=a|the|my|your|too)",
     lambda m: f"what happens if {'not ' if ' not ' in m[0] else ''}{english.gerund_of(m[1]) or m[1]} "),
    (r"^what is the (?=(?:deadline|due date|closing date)\b)", "when is the "),
    (r"^what (is|are) (.+?) used for$", r"what \1 the use of \2"),
    (r"^what are some (?:of the )?", "what are "),
    (r"^is it feasible to ", "is it possible to "),
    (r"^(?:am i|are we) permitted to ", "am i allowed to "),
    (r"^may (?=(?:i|we)\b)", "can "),
    (r"^could (?=(?:i|we|you)\b)", "can "),
    (r"^why (?:has|have) (.+?) been (?=\w+(?:ed|en|nt|ght|id)\b)", r"why was \1 "),
    (r"^(where .+) at$", r"\1"),
    (r"^(?:am i|are we) (?:entitled|eligible) to (?:a|an|any|get|receive) ", "can i get "),
    (r"\b(?:have|has|had) to\b", "must"),
    (r"\b(?:ought|supposed|meant) to\b", "should"),
    (r"^is it (?:a )?(?:good|wise|advisable)(?: idea)? to ", "should i "),
    (r"^do (?:i|we) (?:must\b|need to\b)", "must i"),
    # sets and names
    (r"^(?:what|which) (.+?) do you (?:have|offer|sell)(?= |$)", r"what \1 are there"),
    (r"^do (?:you|they) (?:offer|provide|sell|stock) (?:a |an |any |some )?", "is existent "),
    (rf"^do (?:you|they) (?:have|do) (?:a |an |any |some )?(?=.*\b{_SERVICES}\b)", "is existent "),
    (r"^(?:has|have) (.+?) got (?=an?|any|some)", r"does \1 have "),
    (r"^does (.+?) (?:have|contain|include|offer) (?:a |an |any |some )(.+)$", r"is existent \2 in \1"),
    (r"^(is|are|was|were) there (?:a |an |any |some )?(free trial|(?:mobile |desktop )?app|student discounts?|age limit|cure"
     r"|deadline|dress code) for ", r"\1 existent \2 in "),
    (r"^(is|are|was|were) there (?:a |an |any |some )?", r"\1 existent "),
    (r"\b(?:in|of|on) the (?:whole |entire )?(?:world|planet|globe)$|\bon (?:planet )?earth$", ""),
    (r"\b(?:i|you|we) ('s)?(?:should|must) know\b", " "),
]  # fmt: skip

_NAMES: Final[list[tuple[str, Replacement]]] = [
    (r"\b(?:two|2)[ -]?(?:factor|fa|step)\b(?: ?(?:authentication|auth|verification))?", "2fa"),
    (r"\b2 ?fa\b", "2fa"),
    (r"\b(?:world war|ww) ?(?:ii|2|two)\b|\b(?:the )?second world war\b|\bwwii\b", "worldwartwo"),
    (r"\b(?:world war|ww) ?(?:i|1|one)\b|\b(?:the )?first world war\b|\bwwi\b", "worldwarone"),
    (r"\bunited states(?: of america)?\b|\bu\.s\.a?\.?(?!\w)|\bthe us(?=$| |\?)|\bin us\b$", " usa "),
    (r"\b(?:the )?united kingdom\b|\bu\.k\.?(?!\w)", "uk"),
    (r"\bunited arab emirates\b", "uae"),
    (r"\beuropean union\b", "eu"),
    (r"\bunited nations\b", "un"),
    (r"\bnew york city\b", "nyc"),
    (r"\bchief executive(?: officer)?\b", "ceo"),
    (r"\bartificial intelligence\b", "ai"),
    (r"\bmachine learning\b", "ml"),
    (r"\bnatural language processing\b", "nlp"),
    (r"\bsingle sign[ -]on\b", "sso"),
    (r"\bvirtual private network\b", "vpn"),
    (r"\bgross domestic product\b", "gdp"),
    (r"\bobject[ -]oriented programming\b", "oop"),
    (r"\bapplication programming interface\b", "api"),
    (r"\boperating system\b", "os"),
    (r"\bfrequently asked questions\b", "faq"),
    (r"\bwi[ -]fi\b", "wifi"),
    (r"\be-mail\b", "email"),
    (r"\b(?:on-line)\b", "online"),
    (r"\bair[ -]conditioning\b", "ac"),
    (r"\bsearch engine optimi[sz]ation\b", "seo"),
    (r"\bpost[ -]traumatic stress disorder\b", "ptsd"),
    (r"\bstep by step\b", "step-by-step"),
    (r"\bcapital city\b", "capital"),
    (r"\bzip codes?\b", "zipcode"),
    (r"\b(?:last|family) names?\b", "surname"),
    (r"\b(?:cell|cellular|mobile) ?(?:phone|telephone)\b", "mobile phone"),
    (r"\bphone numbers?\b|\btelephone numbers?\b|\btel number\b", "phone number"),
    (r"\b(?:e-?mail|email) address(?:es)?\b", "email address"),
    (r"\bweb ?sites?\b|\bweb page\b", "website"),
    (r"\bcheck(?:ing)?[ -]in\b|\bcheckin\b", "check-in"),
    (r"\bcheck(?:ing)?[ -]out\b", "check-out"),
    (r"\bpick(?:ing)?[ -]up\b", "pick-up"),
    (r"\bfill(?:ing)? (?:in|out)\b", "fill-in"),
    (r"\bfind(?:ing)? out\b", "learn"),
    (r"\bcarry out\b", "perform"),
    (r"\bcut down on\b", "reduce"),
    (r"\bput off\b", "postpone"),
    (r"\b(?:run|ran) out of\b", "run-out-of"),
    (r"\bbroke(?:n)? down\b|\bbreaks? down\b", "break-down"),
    (r"\bin (?:the )?event (?:of|that)\b", "if"),
    (r"\bin case(?: of)?\b", "if"),
    (r"\bhow much time\b", "how long"),
    (r"\bwhat (?:length|amount) of time\b", "how long"),
    (r"\b(?:make|making|submit|submitting|file|filing|put in|putting in|raise|raising|lodge) (?:a |an |my )?(?:\w+ )??(?=(?:claim|complaint)\b)", ""),
    (r"\ba single\b", "one"),
    (r"\b(?:quite )?a few\b|\ba little\b|\ba bit of\b", "some"),
    (r"\b(?:a lot|lots|plenty) of\b", "many"),
    (r"\b(?:work(?:ing)? from home|remote(?:ly)? work(?:ing)?|work(?:ing)? remotely)\b", "remotework"),
    (r"\b(?:cash ?point|cash machine|atm machine)\b", "atm"),
    (r"\b(?:vs\.?|versus)(?= )", "vs"),
    (r"(?<![\w.])\.net\b", "dotnet"),
    (r"\b(switch|turn)(ing|ed|s)? (on|off)\b", r"turn-\3"),
    (r"\bput(?:ting)? (.{1,40}?) on hold\b", r"pause \1"),
    (r"\b(?:turn|switch) (.{1,40}?) (on|off)(?=[?.! ]*$)", r"turn-\2 \1"),
    (r"\bset(?:ting)? up\b|\b(?<=how to )setup\b|\b(?<=\bi )setup\b|\b(?<=\bto )setup\b", "set-up"),
    (r"\bin (?:the )?fall\b(?! of)", "in autumn"),
    (r"\bget(?:ting)? rid of\b", "get-rid-of"),
    (r"\b(?:get(?:ting)?|be) in (?:touch|contact) with\b", "contact"),
    (r"\bthrow(?:ing)? away\b", "throw-away"),
    (r"\blook(?:ing)? up\b", "look-up"),
    (r"\blook(?:ing)? after\b", "look-after"),
    (r"\bsign(?:ing)? up\b", "sign-up"),
    (r"\b(?:sign|log)(?:ging|ing)? (?:in|on)(?: to| into)?\b", "log-in"),
    (r"\b(?:sign|log)(?:ging|ing)? out(?: of)?\b", "log-out"),
    (r"\bshut(?:ting)? down\b", "shut-down"),
    (r"\bgiv(?:e|ing) up\b", "give-up"),
    (r"\b(?:come|comes|coming) with\b", "include"),
    (r"\b(?:get|getting|have|receive) (?:my|your|our|the|their) money back\b", "get a refund"),
    (r"\b(?:free of charge|for free|at no (?:extra )?(?:cost|charge))\b", "free"),
    (r"\b(?:takes?|taking|took) place\b", "happen"),
    (r"\bas well as\b", "and"),
    (r"\bout of\b", "out-of"),
    (r"\baccording to\b", "by"),
    (r"\bby means of\b|\bwith the help of\b|\bmaking use of\b", "using"),
    (r"\bso as to\b|\bin order to\b", "to"),
    (r"\bprior to\b|\bahead of\b", "before"),
    (r"\bregarding\b|\bconcerning\b|\bwith (?:regard|respect) to\b|\bon the topic of\b", "about"),
    (r"\ba couple(?: of)?\b", "two"),
    (r"\b(?:a|an) (hundred|thousand|million|billion|dozen)\b", r"one \1"),
    (r"\bdozen\b", "12"),
]  # fmt: skip


_HANDFUL: Final = 12
_Handful = tuple[Callable[[str], re.Match[str] | None], list[tuple[re.Pattern[str], Replacement]]]


class _Rules:
    """Rewrites that run in order; a handful is skipped when one look finds that none applies."""

    def __init__(self, *tables: list[tuple[str, Replacement]]) -> None:
        rules = [rule for table in tables for rule in table]
        self._handfuls = [
            self._handful(rules[at : at + _HANDFUL]) for at in range(0, len(rules), _HANDFUL)
        ]

    @staticmethod
    def _handful(rules: list[tuple[str, Replacement]]) -> _Handful:
        patterns = [pattern for pattern, _ in rules]
        opening = all(branch.startswith("^") for p in patterns for branch in branches(p))
        applies = union(patterns)
        looks = applies.match if opening else applies.search
        return looks, [(re.compile(pattern), new) for pattern, new in rules]

    def __call__(self, text: str) -> str:
        for applies, rules in self._handfuls:
            if applies(text):
                for pattern, new in rules:
                    text = pattern.sub(new, text)
        return text


_LABEL = re.compile(r"^([a-z][\w+#.-]*(?: [a-z][\w+#.-]*)?)\s*:\s+(.+)$")
_FRONTED = re.compile(
    r"^((?:in|on|at|for|from|with|using|to|during|as) [^,?]{2,50}), (?!and\b|or\b)(.+?)$"
)

_SLIP = re.compile(rf"(?<![\w'-])(?:{'|'.join(map(re.escape, _SLIPS))})(?![\w'-])")
_spell_out = _Rules(_CONTRACTIONS, _NAMES)
_drop_courtesies = _Rules(_GREETINGS, _POLITE)
_style = _Rules(_STYLE)
_ask_plainly = _Rules(_POLITE, _EMBEDDED, _TASK, _RELATIONS, _HANDLED)


def plain(text: str) -> str:
    """The text, lower-case and single-spaced, in its plainest equivalent phrasing."""
    text = _SLIP.sub(lambda slip: _SLIPS[slip[0]], text)
    text = " ".join(_drop_courtesies(_spell_out(quantities.dated(text))).split()).strip(" .?!,;:")
    text = _LABEL.sub(r"\2 in \1", text)
    text = _FRONTED.sub(r"\2 \1", text.replace("?", " "))
    return " ".join(_ask_plainly(_style(text)).split())
