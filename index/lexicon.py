"""Word lists of the guard, written by hand: what may be ignored, what says the same, what never.

The rule of thumb for every list: a word that is in none of them is *content*, and content has to
be matched by the other text. So the lists only ever make the guard more lenient, apart from
`NAMES`, which says how a refusal is called. Adding a word to a list needs the question: is there a
pair of prompts, differing in this word alone, whose answers differ?
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


ARTICLES = _words("a an the this that these those there it its such")

PERSONS = {
    "i": 1, "we": 1, "me": 1, "us": 1, "my": 1, "our": 1, "mine": 1, "ours": 1, "myself": 1,
    "you": 2, "your": 2, "yours": 2, "yourself": 2,
}  # fmt: skip
"""First and second person. Never content, but where both texts name one it must be the same."""

BE_DO_HAVE = {
    "is": "", "are": "", "am": "", "be": "", "been": "", "being": "", "do": "", "does": "",
    "has": "", "have": "", "having": "", "doing": "", "done": "",
    "was": "past", "were": "past", "did": "past", "had": "past",
}  # fmt: skip

MODALS = _words("can could may might must shall should will would able allowed ought")

PREPOSITIONS = {
    "of": "of", "in": "in", "on": "in", "at": "at", "within": "in", "inside": "in",
    "during": "in", "for": "for", "with": "with", "using": "with", "via": "with",
    "through": "with", "as": "as", "to": "to", "into": "to", "onto": "to", "toward": "to",
    "towards": "to", "from": "from", "by": "by", "about": "about", "than": "than",
    "like": "like",
}  # fmt: skip
"""Words that give the phrase after them a role, and which. Prepositions that are not here (without,
before, under ...) are content."""

LIKE_ROLES = frozenset(
    frozenset(pair)
    for pair in (
        ("", "of"), ("", "in"), ("", "at"), ("", "for"), ("", "with"), ("", "to"), ("of", "in"),
        ("of", "at"), ("of", "for"), ("in", "at"), ("in", "with"),
    )
)  # fmt: skip
"""Roles that may stand for each other: *a list in Python, with Python*; *Peru's capital, the
capital of Peru*. Not here, so never: look *at* and look *for*, play *for* and play *with*."""

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
    ton tonne
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
"""Measures, months and weekdays, one a line with their other names."""

SAME = _groups(
    """
    fast quick rapid
    fastest quickest
    faster quicker
    closest nearest
    tallest highest
    existent available
    know tell
    purpose use
    produce make
    manufacture make
    close near
    biggest largest
    bigger larger
    big large
    small little
    smallest littlest
    enable activate turn-on switch-on
    disable deactivate turn-off switch-off
    dictionary dict
    database db
    javascript js
    typescript ts
    postgres postgresql
    kubernetes k8s
    repository repo
    application app
    configuration config
    directory folder
    function func
    environment env
    parameter param
    argument arg
    string str
    integer int
    read load
    delete remove
    remove uninstall
    remove eliminate
    create make
    begin start
    finish end
    end cancel
    stop quit
    exit quit
    contact reach
    purchase buy
    obtain get
    receive get
    request get
    submit file
    fix repair
    fix resolve
    solve resolve
    fix solve
    error bug
    error exception
    error issue
    problem issue
    show display
    choose select
    choose pick
    modify change
    change update
    change edit
    alter change
    merge combine
    join combine
    concatenate join
    build construct
    build create
    develop build
    improve boost
    improve enhance
    increase raise
    increase boost
    reduce decrease
    reduce lower
    reduce cut
    connect link
    check verify
    check see
    find locate
    find search
    find look-up
    discover find
    copy duplicate
    use utilize employ
    contain include
    include come
    cover include
    occur happen
    require need
    assist help
    learn study
    speak talk
    film movie
    car automobile
    bicycle bike
    phone telephone
    photo photograph picture
    picture image
    physician doctor
    doctor gp
    lawyer attorney
    kid child
    holiday vacation
    apartment flat
    shop store
    parcel package
    delivery shipping
    deliver ship
    fee charge
    fee cost
    fee price
    cost price
    cheap inexpensive
    pricey expensive
    salary wage
    pay salary
    bill invoice
    road street
    reservation booking
    reserve book
    rating score
    drawback downside
    drawback disadvantage
    downside disadvantage
    con disadvantage
    benefit advantage
    benefit upside
    advantage pro
    upside advantage
    cause reason
    cause lead
    affect influence
    impact effect
    consequence effect
    result outcome
    goal objective
    goal aim
    purpose goal
    purpose point
    role function
    main primary
    main principal
    main key
    main major
    important significant
    important crucial
    difficult hard
    easy simple
    easily simply
    simply simple
    correctly properly
    quickly fast
    quickly quick
    safe secure
    dangerous unsafe
    illness disease
    sickness illness
    sign symptom
    medicine medication
    medicine drug
    remedy treatment
    cure treat
    treat treatment
    vaccine jab
    vaccinate vaccine
    teach instruct
    teacher instructor
    student pupil
    job occupation
    employee staff
    worker employee
    boss employer
    coworker colleague
    company firm
    company business
    house home
    sofa couch
    garbage trash
    rubbish garbage
    autumn fall
    maths mathematics math
    ad advertisement advert
    exam examination
    exam test
    lab laboratory
    info information
    email mail
    site website webpage
    net internet
    web internet
    pc computer
    laptop notebook
    smartphone phone
    wifi wi-fi
    tv television
    fridge refrigerator
    ac air-conditioning
    uk united-kingdom britain
    usa united-states america
    uae united-arab-emirates
    eu european-union
    un united-nations
    nyc new-york
    la los-angeles
    holland netherlands
    burma myanmar
    jpeg jpg
    ceo chief-executive-officer
    dna deoxyribonucleic-acid
    ai artificial-intelligence
    ml machine-learning
    nlp natural-language-processing
    api application-programming-interface
    cpu processor
    gpu graphics-card
    ram memory
    os operating-system
    ui user-interface
    vpn virtual-private-network
    sso single-sign-on
    2fa two-factor-authentication
    atm cashpoint
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
    recipe make
    recipe cook
    recipe prepare
    cook prepare
    method approach
    way method
    technique method
    population inhabitant
    age old
    height tall
    depth deep
    width wide
    weight heavy
    speed velocity
    distance far
    size big
    quantity amount
    meaning mean
    define definition
    mean definition
    definition meaning
    describe explain
    explain explanation
    write writer
    write author
    paint painter
    invent inventor
    found founder
    discover discoverer
    compose composer
    direct director
    create creator
    design designer
    star actor
    win winner
    lead leader
    rule ruler
    sing singer
    own owner
    play player
    die death
    born birth
    marry marriage
    marry wedding
    grow growth
    lose loss
    choose choice
    succeed success
    fail failure
    live life
    know knowledge
    sell sale
    sort order
    order request
    previous earlier
    switch change
    switch move
    stay remain
    duplicate repeat
    loop iterate
    print output
    lead-to cause
    wash clean
    clean cleaning
    throw-away discard
    get-rid-of remove
    set-up configure
    set-up setup
    set-up install
    set-up create
    sign-up register
    sign-in log-in login
    log-out sign-out logout
    look-after care
    shut-down close
    give-up quit
    work function
    opening open
    opening-hours open
    last final
    last latest
    everyday daily
    yearly annual annually
    monthly month
    abroad overseas
    lorry truck
    petrol gasoline gas
    lift elevator
    tap faucet
    aubergine eggplant
    courgette zucchini
    coriander cilantro
    nappy diaper
    chemist pharmacy
    aeroplane airplane plane
    motor car
    film-director director
    """
)
"""Words that say the same in a question. Symmetric, not transitive: a pair a line where the middle
word would otherwise join what differs (fix repair, fix resolve)."""

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

FILLERS = _words("please kindly really actually basically um uh er erm hmm")
OPTIONAL = _words(
    "available exactly possible specific particular generally typically normally properly "
    "correctly different type kind way method be"
)
"""Content that one side may have and the other lack, when nothing else is unmatched."""

FACETS = _words("year date time day city country place person name month number")
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

CASE_MATTERS = _words(
    "us it who may march polish turkey china apple amazon java python ruby go rust swift windows "
    "word excel access shell mercury mars orange target gap visa chrome safari oracle will bill "
    "mark rose grace hope august reading nice bath cork phoenix jersey"
)
"""Words that mean another thing when capitalised inside a sentence."""
