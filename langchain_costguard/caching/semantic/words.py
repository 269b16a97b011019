"""The words that the checks of a semantic cache know: English first, with the function words of some other languages.

All are lists that people would write down from memory; none is taken from a data set.
"""

from __future__ import annotations


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP = _set(
    "a an the of in on at to for from by with and or is are was were be been being am do does did doing done have has "
    "had having i me my mine myself we us our ours you your yours he him his she her hers it its they them their "
    "theirs this that these those there here what which who whom whose when where why how can could will would shall "
    "should may might must if then than so as about into out up down over just any some one get got also s t "
    "re ve ll d m"
)
"""Words without a topic."""

LIGHT = _set(
    "best good better great way ways thing things people person use used using uses need needs want wants know think "
    "tell find help helps give gives take make makes made see look like work works working new many much more most "
    "first different difference between long time times year years day days really still ever always only even other "
    "another every each possible example examples please explain provide provides mean means happen happens become "
    "show shows try start come go going keep put let say said ask question questions answer answers very well too "
    "allow allows "
    "able"
)
"""Words with little of a topic: they weigh half, and do not count as names when capitalised."""

NEGATIONS = _set(
    "not no never cannot cant dont doesnt isnt arent wasnt werent wont wouldnt shouldnt couldnt didnt hasnt "
    "havent hadnt aint neither nor none nobody nothing nowhere "
    "nicht kein keine keinen nie pas jamais nunca não nao non mai niet geen nooit"
)
"""Words that turn a sentence round; every word that ends in "n't" does, too."""

HALF_NEGATIONS = _set(
    "without unable absence absent lack lacks lacking avoid avoids avoiding except omit omits omitting omitted missing "
    "fail fails failed failing failure stop stopped stops refuse refused refuses deny denied declined instead other "
    "rather optional rarely hardly seldom few little less doubt wrong broken disabled only neglect elsewhere "
    "ohne sans sin sem senza zonder"
)
"""Words that may say by themselves what others say with a "not"; so may those that begin with "un" or "non"."""

SMALL = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
} | {
    word: 10 * value
    for value, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)
}
SMALL["dozen"] = 12
SCALES = {
    "hundred": 100, "thousand": 10**3, "lakh": 10**5, "lakhs": 10**5, "million": 10**6, "millions": 10**6,
    "crore": 10**7, "crores": 10**7, "billion": 10**9, "billions": 10**9, "trillion": 10**12,
}  # fmt: skip
ORDINALS = {
    word: f"#{value}"
    for value, word in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], 1
    )
}

_UNITS = {
    "s": "sec secs second seconds", "minute": "min mins minute minutes", "h": "h hr hrs hour hours",
    "day": "day days", "week": "week weeks wk wks", "month": "month months", "year": "year years yr yrs",
    "mm": "mm millimetre millimetres millimeter millimeters", "cm": "cm centimetre centimetres centimeter centimeters",
    "metre": "m metre metres meter meters", "km": "km kms kilometre kilometres kilometer kilometers",
    "inch": "inch inches", "foot": "ft foot feet", "yard": "yard yards", "mile": "mile miles mi",
    "gram": "g gram grams", "kg": "kg kgs kilo kilos kilogram kilograms", "mg": "mg", "lb": "lb lbs pound pounds",
    "ounce": "oz ounce ounces", "ton": "ton tons tonne tonnes", "litre": "l litre litres liter liters", "ml": "ml",
    "gallon": "gallon gallons", "usd": "usd dollar dollars bucks", "eur": "eur euro euros", "gbp": "gbp quid",
    "inr": "inr rupee rupees rs", "jpy": "jpy yen", "%": "percent percentage pct", "kb": "kb", "mb": "mb", "gb": "gb",
    "tb": "tb", "hz": "hz", "mhz": "mhz", "ghz": "ghz", "w": "w watt watts", "kw": "kw", "v": "volt volts",
    "celsius": "c celsius", "fahrenheit": "f fahrenheit", "degree": "degree degrees", "ms": "ms",
}  # fmt: skip
UNITS = {word: unit for unit, words in _UNITS.items() for word in words.split()}

_DATES = {
    "weekday": "monday/mon tuesday/tue/tues wednesday/wed thursday/thu/thurs friday/fri saturday sunday weekend",
    "month": "january/jan february/feb march april/apr june/jun july/jul august/aug september/sept/sep october/oct "
    "november/nov december/dec",
    "day": "today/tonight tomorrow yesterday",
    "hour": "morning noon afternoon evening midnight",
    "season": "spring summer autumn winter christmas easter",
}
DATES = {
    word: (kind, spellings.split("/")[0])
    for kind, words in _DATES.items()
    for spellings in words.split()
    for word in spellings.split("/")
}
"""Words for dates: their kind, and one spelling."""

WHEN = {"when": "when", "who": "who", "whom": "who", "whose": "who", "where": "where", "why": "why"}
"""Question words that ask for one kind of thing; "what", "which" and "how" ask for anything."""

LANGUAGES = {
    "English": STOP - _set("a in on as die was so me do he i am us his may also over him has an one d m s t"),
    "German": _set(
        "der die das und ist nicht ein eine einen mit auf für fur wie ich sie wir wird von zu den dem kann mein"
    ),
    "French": _set("le les des est une et je vous comment pour dans que qui du sur avec mon quel quelle ce cette sont"),
    "Spanish": _set("el los las y es una cómo como qué que por para con mi cuál cual donde dónde está del puedo son"),
    "Italian": _set("il gli che di è per con come una sono della del mio qual quale dove posso le"),
    "Portuguese": _set("o os as que é uma como para com meu minha qual onde não do da em são posso"),
    "Dutch": _set("de het een en van ik niet hoe met voor mijn waar kan zijn wat naar wordt"),
}
"""Function words by language."""
