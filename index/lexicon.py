"""Word lists of the guard, written by hand: what may be ignored, what says the same, what never.

The rule of thumb for every list: a word that is in none of them is *content*, and content has to
be matched by the other text. So the lists only ever make the guard more lenient, apart from
`OPPOSITES`, which says how a refusal is called. Adding a word to a list needs the question: is
there a pair of prompts, differing in this word alone, whose answers differ?
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _groups(text: str) -> dict[str, frozenset[str]]:
    """Lines of words that say the same; a word in two lines is related to both."""
    found: dict[str, frozenset[str]] = {}
    for line in text.strip().splitlines():
        group = frozenset(line.split())
        for word in group:
            found[word] = found.get(word, frozenset()) | group - {word}
    return found


POINTING = _words("this that these those there it its such")
"""Never content, but both texts have to point as often."""
ARTICLES = _words("a an the") | POINTING

PERSONS = {
    "i": 1, "we": 1, "me": 1, "us": 1, "my": 1, "our": 1, "mine": 1, "ours": 1, "myself": 1,
    "you": 2, "your": 2, "yours": 2, "yourself": 2,
}  # fmt: skip
"""First and second person. Never content, but both texts must name the same, as often."""

HELPERS = {
    **dict.fromkeys(("is", "are", "am", "be", "been", "being", "was", "were"), "be"),
    **dict.fromkeys(("do", "does", "did", "doing", "done"), "do"),
    **dict.fromkeys(("has", "have", "had", "having"), "have"),
}
"""Auxiliaries: *what does a dog like* is not *what is a dog like*."""

BE_DO_HAVE = {
    "is": "", "are": "", "am": "", "be": "", "been": "", "being": "", "do": "", "does": "",
    "has": "", "have": "", "having": "", "doing": "", "done": "",
    "was": "past", "were": "past", "did": "past", "had": "past",
}  # fmt: skip

MODALS = _words("can could may might must shall should will would able allowed ought")

PREPOSITIONS = {
    "of": "of", "in": "in", "on": "on", "at": "at", "within": "within", "inside": "inside",
    "during": "in", "for": "for", "with": "with", "using": "with", "via": "via",
    "through": "through", "as": "as", "to": "to", "into": "into", "onto": "onto",
    "toward": "toward", "towards": "toward", "from": "from", "by": "by", "about": "about",
    "than": "than", "like": "like",
}  # fmt: skip
"""Words that give the phrase after them a role, and which. Prepositions that are not here (without,
before, under ...) are content."""

LIKE_ROLES = frozenset(
    frozenset(pair) for pair in (("", "of"), ("", "in"), ("", "to"), ("of", "in"))
)
"""Roles that may stand for each other: *Peru's capital, the capital of Peru*; *CSS: how*, *how in
CSS*; the *to* of a verb. Any other pair can change the answer: search a car, search *for* a car;
*in* Docker, *with* Docker; *on* the moon, *in* the moon."""

QUESTION_WORDS = _words("what which who whom whose when where why how")
LINKS = _words("and or")
"""Never content by themselves, but a phrase ends there, and they may not be exchanged."""

NEGATIONS = _words(
    "not no never none nothing nobody nowhere neither nor without except unless hardly barely "
    "rarely seldom non exclude excluding lack cannot"
)
QUANTIFIERS = _words(
    "all some any every each only most least many few several both either more less fewer much "
    "always sometimes usually often exactly minimum maximum min max half double twice once almost "
    "nearly about approximately entire whole just even also too still yet first last next "
    "previous second third fourth fifth another other same single"
)
COMPARATORS = _words(
    "under over above below before after until since up down off out inside outside between "
    "against instead better worse best worst larger smaller bigger greater lower higher faster "
    "slower longer shorter older younger newer oldest newest cheaper hotter colder than"
)
UNITS = _groups(
    """
    percent percentage
    kilometer kilometre km kilometers kilometres
    meter metre meters metres
    centimeter centimetre cm
    millimeter millimetre mm
    mile mi
    foot feet ft
    inch inches
    yard yd
    kilogram kg kilo kilogramme
    gram gramme
    milligram mg
    microgram mcg
    pound lb lbs
    ounce oz
    ton
    tonne
    liter litre
    milliliter millilitre ml
    gallon gal
    hour hr hrs
    minute min mins
    second sec secs
    millisecond ms
    year yr yrs
    month mo
    week wk
    day
    byte
    kilobyte kb
    megabyte mb
    gigabyte gb
    terabyte tb
    bit
    celsius centigrade
    fahrenheit
    kelvin
    dollar usd buck
    euro eur
    quid gbp sterling pound
    yen jpy
    rupee inr
    yuan rmb cny
    watt
    kilowatt kw
    kwh
    volt
    ampere amp
    hertz hz
    mph
    kph kmh
    am
    pm
    acre
    hectare
    calorie
    kilocalorie kcal
    joule
    cup
    tablespoon tbsp
    teaspoon tsp
    dozen
    decade
    century
    january jan
    february feb
    march
    april apr
    june
    july jul
    august aug
    september sep sept
    october oct
    november nov
    december dec
    monday mon
    tuesday tue tues
    wednesday wed
    thursday thu thur thurs
    friday fri
    saturday sat
    sunday sun
    """
)
"""Measures, months and weekdays, one a line with their other names: those hold after a number only,
for *hr*, *sec* and *min* are other things elsewhere."""

SAME = _groups(
    """
    percent percentage
    kilometer kilometre km
    meter metre
    centimeter centimetre cm
    millimeter millimetre
    liter litre
    milliliter millilitre ml
    kilogram kg kilo
    fastest quickest
    faster quicker
    closest nearest
    enable activate turn-on switch-on
    disable deactivate turn-off switch-off
    dictionary dict
    database db
    javascript js
    typescript ts
    postgres postgresql
    kubernetes k8s
    repository repo
    configuration config
    function func
    environment env
    parameter param
    argument arg
    string str
    integer int
    read load
    use utilize utilise employ
    purchase buy
    require need
    improve enhance
    reduce decrease lower
    film movie
    car automobile
    bicycle bike
    photo photograph
    cheap inexpensive
    drawback downside disadvantage
    con disadvantage
    pro advantage
    sickness illness
    sofa couch
    garbage trash rubbish
    maths mathematics math
    info information
    wifi wi-fi
    tv television
    fridge refrigerator
    ac air-conditioning
    uk united-kingdom
    usa united-states
    uae united-arab-emirates
    eu european-union
    un united-nations
    nyc new-york
    jpeg jpg
    ceo chief-executive-officer
    dna deoxyribonucleic-acid
    ai artificial-intelligence
    ml machine-learning
    nlp natural-language-processing
    api application-programming-interface
    os operating-system
    ui user-interface
    vpn virtual-private-network
    sso single-sign-on
    2fa two-factor-authentication
    gdp gross-domestic-product
    hiv human-immunodeficiency-virus
    adhd attention-deficit-hyperactivity-disorder
    ptsd post-traumatic-stress-disorder
    cpr cardiopulmonary-resuscitation
    roi return-on-investment
    seo search-engine-optimization
    faq frequently-asked-question
    diy do-it-yourself
    ssn social-security-number
    write writer
    write author
    paint painter
    invent inventor
    discover discoverer
    compose composer
    direct director
    own owner
    die death
    marry marriage
    yearly annual annually
    sign-up register
    sign-in log-in login
    log-out sign-out logout
    set-up setup
    lorry truck
    aubergine eggplant
    courgette zucchini
    coriander cilantro
    nappy diaper
    aeroplane airplane
    petrol gasoline
    postcode zipcode zip-code
    surname lastname last-name
    cinema movie-theater
    tyre tire
    programme program
    grey gray
    aluminium aluminum
    licence license
    defence defense
    jewellery jewelry
    mould mold
    mouldy moldy
    pyjamas pajamas
    kerb curb
    whisky whiskey
    doughnut donut
    yoghurt yogurt
    ketchup catsup
    everyone everybody
    anyone anybody
    someone somebody
    telephone phone
    colleague coworker co-worker
    tummy stomach
    """
)
"""Words that say the same in any question: abbreviations, spellings of other countries, and the few
synonyms for which no pair of prompts could be found whose answers differ. A thesaurus will not do:
cure and treat, web and internet, memory and RAM, gas and petrol are synonyms with other answers.
Symmetric, not transitive: a pair a line where the middle word would join what differs."""

OPPOSITES = _groups(
    """
    enable disable
    on off
    turn-on turn-off
    upload download
    add remove
    encrypt decrypt
    open close
    buy sell
    allow deny
    allow block
    accept decline
    accept reject
    accept refuse
    ascending descending
    increase decrease
    increase reduce
    import export
    benefit drawback
    advantage disadvantage
    pros cons
    start stop
    begin end
    lock unlock
    mount unmount
    hot cold
    warmest coldest
    hottest coldest
    oldest newest
    largest smallest
    biggest smallest
    highest lowest
    tallest shortest
    longest shortest
    fastest slowest
    best worst
    better worse
    before after
    over under
    above below
    most least
    more less
    maximum minimum
    max min
    first last
    push pull
    install uninstall
    connect disconnect
    gain lose
    win lose
    push pop
    encode decode
    compress decompress
    lend borrow
    arrive depart
    legal illegal
    safe dangerous
    include exclude
    pause resume
    grant revoke
    upgrade downgrade
    public private
    left right
    north south
    east west
    cause prevent
    cause cure
    create delete
    create destroy
    attach detach
    hire fire
    freeze thaw
    freeze melt
    sync async
    odd even
    positive negative
    male female
    husband wife
    mother father
    son daughter
    king queen
    boy girl
    man woman
    brother sister
    parent child
    teacher student
    buyer seller
    employer employee
    landlord tenant
    """
)
"""Pairs that the dictionary lacks; again for the name of the veto alone."""

FILLERS = _words("please kindly um uh er erm hmm")
OPTIONAL = _words("available specific particular different type kind way method be")
"""Content that one side may have and the other lack, when nothing else is unmatched."""
MANNERS = _words(
    "exactly generally typically normally properly correctly really actually basically"
)
"""Optional in a how-to that negates nothing: who *does not hear properly* hears."""

FACETS = _words("date city country place person name number")
"""Directly after an opening what or which these only say what kind of answer is awaited."""

NUMBER_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000,
          "trillion": 1_000_000_000_000}  # fmt: skip
ORDINALS = {
    "1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth", "5th": "fifth",
    "6th": "sixth", "7th": "seventh", "8th": "eighth", "9th": "ninth", "10th": "tenth",
    "11th": "eleventh", "12th": "twelfth", "13th": "thirteenth", "20th": "twentieth",
}  # fmt: skip
ROMAN = {"ii": 2, "iii": 3, "iv": 4, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "xi": 11, "xii": 12,
         "xiii": 13, "xiv": 14, "xv": 15, "xvi": 16, "xx": 20}  # fmt: skip
CURRENCIES = {"$": "dollar", "€": "euro", "£": "quid", "¥": "yen", "₹": "rupee"}
FOREIGN = _words(
    "el los las una por para como qué que con del está cómo cuál der und ist nicht ein eine "
    "wie kann ich zu mit auf für wir sind wo dem den les des une est dans pour comment quelle "
    "quel sont avec je vous nous où il di che della sono dove perché gli het een van niet hoe "
    "wat ik zijn och att det som är hur på og er jeg hvordan não uma são você onde hva hvor "
    "jak co jest nie czy kde jsem ne için bir ve apa yang dan ini itu bagaimana adalah cara "
    "la le de das im vom zum zur oder aber sich mein meine dein wird werden haben wer warum "
    "wann welche heißt gibt du au aux qui quand pourquoi mon mes votre notre cette être faire "
    "fait cuando donde dónde quien quién mis sus muy más ser hacer hay puedo tiene cual "
    "quando quale qual quem fazer posso meu minha seu sua chi perche anche wanneer waarom "
    "welke mijn naar voor nog wel"
)
"""Common words of other languages that are not words of English."""
CASELESS = _words(
    "python java android bash linux mac docker excel firefox earth moon internet web parliament "
    "congress senate bible pin sim id"
)
"""Names that are words too, but who writes them small means no other thing."""
INSTITUTIONS = _words("university college bank museum church state republic house hospital")
"""What is named after its place in two ways: the Bank of Scotland is not a Scotland bank."""
CLOSED = (
    _words(
        "if because although though whether while whereas anything something everything "
        "someone somebody anyone anybody everyone everybody somewhere anywhere everywhere "
        "whatever whichever whoever whenever wherever onto upon unless per amid among amongst "
        "besides despite throughout underneath unlike he she him her his hers they them their "
        "theirs himself herself itself themselves myself ourselves yourselves oneself ok okay "
        "yes thanks asap btw etc vs go no"
    )
    | frozenset(BE_DO_HAVE)
    | frozenset(PERSONS)
    | frozenset(PREPOSITIONS)
    | ARTICLES | MODALS | QUESTION_WORDS | LINKS | NEGATIONS | QUANTIFIERS | COMPARATORS | FILLERS
)  # fmt: skip
"""Function words that a dictionary of nouns, verbs, adjectives and adverbs lacks."""
