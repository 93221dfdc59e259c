"""Words and patterns by which ``short_answers`` reads short sentences, for English and a few other languages."""

from __future__ import annotations

import re

from swift_client.answers.values.value import split_words

# Words with which a sentence may say the opposite, or nothing certain.
BLOCKING = split_words(
    "not no never neither nor none nobody nothing cannot without false wrong incorrect untrue unlikely doubt "
    "doubtful hardly except unknown unclear uncertain maybe perhaps possibly might could whether unless if either "
    "but although though used formerly instead rather than nicht kein keine keiner keinen nie weder ohne "
    "vielleicht falsch pas ne jamais aucun aucune ni sans peut-être nunca ningún ninguno ninguna sin quizás tal "
    "non mai né nessuno nessuna senza forse não nem sem talvez niet geen nooit noch zonder misschien inte ikke "
    "aldrig не нет ни"
)
# Words that make a number a bound.
BOUNDS = split_words(
    "least most more less fewer over under up between before after until since above below beyond only by minus "
    "negative plus times"
)
COMPARATIVES = split_words(
    "other another opposite same bigger smaller larger greater older younger longer shorter taller higher lower "
    "faster slower better worse earlier later more less fewer second former latter against over versus"
)
PRONOUNS = split_words(
    "it that this he she they there these those here es das dies ce c' cela il elle ello esto het dat det это"
)
DETERMINERS = split_words(
    "the a an my your his her its our their this that these those der die das ein eine el la los las un una le "
    "les l' une il lo i gli o os as de het een"
)
INDEFINITE = split_words("a an ein eine un una une een")
# Words that are in English sentences only.
ENGLISH = split_words("the of and it to for by with at an this that his her")
# Copulas by language; the first language with one in the sentence counts, since "son" and "war" are English nouns.
COPULAS = (
    split_words("is are was were equals"),
    split_words("ist sind war waren heißt heisst lautet"),
    split_words("est sont était étaient"),
    split_words("es son era fue eran"),
    split_words("è sono"),
    split_words("é são foi eram"),
    split_words("zijn"),
    split_words("är er jest"),
    split_words("— –"),  # Russian
)
# Verbs that may begin a sentence whose subject is left out.
FIRST_COPULAS = split_words("es è é это")
ARTICLE = re.compile(r"(?:the|an?|der|die|das|el|los|las|les?|l'|il|het) (?=\S)")
_PARTICIPLE = (
    "(?:written|painted|composed|directed|invented|discovered|founded|designed|built|created|developed|sung|recorded"
    "|produced|published|released|born|located|situated|held|found|buried|filmed|established)"
)
# What stands between "is" and the value.
LED_IN = re.compile(
    rf"(?P<name>(?:called|named|titled|known as|known to be|equal to|{_PARTICIPLE} by) )"
    rf"|(?P<participle>{_PARTICIPLE} )?(?:in|at|on|from|by) "
)
# Words that only connect; they belong to no frame.
FUNCTION = (
    DETERMINERS
    | PRONOUNS
    | frozenset().union(*COPULAS)
    | split_words(
        "'s of in on at by from for to and as be been would will has have had with von der des du di del da den im "
        "called named titled known located situated"
    )
)
# "X wrote Y", "Y was written by X": one side cannot be taken for the other.
ACTIVE = split_words(
    "wrote painted composed directed invented discovered founded designed built created developed sang recorded "
    "produced published won"
)
# Further words that make a sentence of a phrase.
_VERBS = split_words(
    "has have had gets get got gives give gave costs cost takes took needs need lives lived leaves left ends "
    "ended begins began starts started happened occurred weighs weighed earns earned makes made eats ate sells "
    "sold buys bought receives received contains contained holds held spends spent pays paid saves saved owes "
    "owed runs ran walks walked travels traveled travelled reads scored scores plays played became becomes equals "
    "totals remains remain covers opened opens died dies met married joined beat beats lost loses will would can "
    "must should does did do be been hat haben hatte bekommt kostet braucht liegt schrieb ont coûte reste écrit "
    "tiene tienen cuesta queda escribió ha hanno costa tem têm heeft hebben kost schreef"
)
IN_SENTENCES = _VERBS.union(ACTIVE, *COPULAS)
NUMBER = re.compile(r"[-+−]?[$€£¥₹]?\d+(?:,\d{3})*(?:\.\d+)?%?")
SCALES = split_words("hundred thousand million billion trillion dozen")
NUMBER_WORDS = SCALES | split_words(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety half twice first third both"
)
OPENING = re.compile(
    r"(?:(?:sure|well|okay|ok|of course|certainly|so|thus|hence|therefore)[,!:]\s+"
    r"|(?:so|thus|hence|therefore|i think|i believe|i would say|i'd say|we know|we can say)(?: that)?,?\s+)+",
    re.IGNORECASE,
)
CLOSING = re.compile(r",? (?:of course|i think|i believe|i guess|indeed)[.!]*$", re.IGNORECASE)
# Characters around words, and around values.
QUOTES = " \t.,;:!?\"'`*_“”„«»‘’…"
EDGE = QUOTES + "()[]"
ABBREVIATION = re.compile(r"(?:\w\.)+|(?:mr|mrs|ms|dr|st|jr|sr|prof|vs|inc|ltd|co|mt|ft|gen|sen|rep)\.", re.IGNORECASE)
# Characters of Chinese, Japanese and Korean.
CJK = re.compile("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
# "A is B" in Chinese, Japanese and Korean.
CJK_IS = re.compile(
    "([^是为]+)[是为]([^是为]+)|([^は]+)は([^は]+?)(?:です|だ|である)|(.+?)[은는이가] (.+?)(?:입니다|이다|예요|이에요)"
)
CJK_BLOCKING = re.compile("[不没非未吗嗎か?？]|ない|ません|아니|않|못")
