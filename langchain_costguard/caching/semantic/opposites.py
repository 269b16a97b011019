"""Words that turn a question into another one: two sides of one measure or deed, and things told apart in one place.

All are lists that people would write down from memory; none is taken from a data set. What can be told by how words
are built (``connect`` and ``disconnect``, ``inbound`` and ``outbound``) is in no list.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import product

from langchain_costguard.caching.semantic.stems import stem

_PAIRS = """
more most greater / less least fewer fewest
better best good great / worse worst bad terrible
higher highest high / lower lowest low
larger largest bigger biggest large big major / smaller smallest small tiny minor
longer longest / shorter shortest
taller tallest tall / shorter shortest short
wide wider widest broad / narrow narrower narrowest
thick thicker / thin thinner
deep deeper deepest / shallow shallower
heavy heavier heaviest / light lighter lightest
faster fastest fast / slower slowest slow
older oldest old / younger youngest newer newest new
cheaper cheapest cheap / expensive dearer costlier pricier
hotter hottest hot warm / colder coldest cold cool
easy easier easiest simple / hard harder hardest difficult complex
strong stronger strongest / weak weaker weakest
rich richer richest wealthy / poor poorer poorest
early earlier earliest / late later latest
before / after
with / without
above over / below under beneath
inside within indoors / outside outdoors beyond
near nearest / far farthest furthest
maximum max maximise maximize / minimum min minimise minimize
increase increases increasing raise rise grow expand enlarge / decrease decreases reduce reducing lower fall shrink drop
accelerate speed / decelerate slow
gain gaining win / lose losing loss lost
won victory / lost defeat
profit / loss
buy buying purchase / sell selling sold
bought / sold
rent lease hire / buy purchase own
borrow / lend
lender creditor / borrower debtor
earn / spend
income revenue / expense expenses expenditure
asset assets / liability liabilities
credit / debit
hire hired / fire fired dismiss
activate enable / disable deactivate
open opened opening / close closed closing shut
start started starting begin launch / stop stopped stopping end quit finish
pause / resume
cancel / renew resume
create / delete destroy
add adding insert append attach / remove removing delete deleting drop subtract detach
merge join combine / split separate
join enter / leave exit quit
arrive arrival incoming / depart departure outgoing
enter entry entrance / exit
push / pull
deposit depositing / withdraw withdrawing withdrawal
send sending sent sender / receive receiving received receiver recipient
give / take
load mount / unload unmount eject
save / discard
import importing / export exporting
read reading / write writing
readable / writable
encode encrypt / decode decrypt
compress zip / decompress unzip extract
lock block freeze / unlock unblock unfreeze
allow allowed permit enable accept / block forbid forbidden deny prohibit prohibited ban banned prevent reject
grant / revoke
approve accept confirm / reject deny decline refuse
agree / disagree
legal / illegal
pass passed succeed success successful / fail failed failure
show display visible / hide hidden conceal invisible
public / private
open / private proprietary closed
shared / private exclusive
free / paid premium
online / offline
digital virtual electronic / physical
remote / local onsite
local / global
domestic / international foreign
internal / external
automatic automatically / manual manually
static / dynamic
temporary temporarily / permanent permanently
optional / mandatory required compulsory obligatory
default / custom
raw / cooked
fresh / frozen stale
wet / dry
clean / dirty
full / empty
loud / quiet silent
bright / dark dim
safe secure harmless / dangerous unsafe insecure harmful risky
healthy / unhealthy harmful sick
toxic poisonous / harmless edible
alive living / dead
birth born / death died
true / false
right correct / wrong incorrect
yes / no
positive / negative
plus / minus
sum / difference product
multiply multiplied times / divide divided
odd / even
ascending / descending
forward forwards / backward backwards
ahead / behind
front / back rear
top upper / bottom lower
left / right
north northern / south southern
east eastern / west western
horizontal horizontally / vertical vertically
row rows / column columns
head / tail
first earliest / last latest
previous past / next future
sunrise / sunset
day daytime / night nighttime overnight
weekday weekdays / weekend weekends
male man men boy boys husband father brother son uncle king / female woman women girl girls wife mother sister daughter
boyfriend / girlfriend
nephew grandfather / niece grandmother
child children kid kids baby toddler infant minor / adult adults grownup grown senior elderly
teenager teenagers teen / adult adults
parent parents / child children
teacher teachers / student students pupil
doctor / patient
landlord / tenant renter
buyer customer / seller vendor
winner / loser
client / server
guest / host
source / target destination
input / output
sender / recipient
singular / plural
hardware / software
frontend / backend
primary / secondary
advantages advantage pros benefits benefit / disadvantages disadvantage cons drawbacks
strengths strength / weaknesses weakness
cause causes / effect effects
love / hate
friend / enemy
attack / defend defence defense
war / peace
always / never
everyone everybody / nobody
everything / nothing
everywhere / nowhere
fully completely entirely / partially partly
wholesale / retail
gross / net
inclusive including / exclusive excluding
bull bullish / bear bearish
analog analogue / digital
earliest / latest
vegetarian vegan / meat
guilty / innocent
except excluding / only
liquid / solid
solid / gas
boil / freeze
melt / freeze
sit / stand
"""
_CLASSES = """
hourly / daily / weekly / monthly / quarterly / yearly annual annually
breakfast / lunch / dinner supper
red / blue / green / yellow / orange / purple / black / white / brown / pink / grey gray
csv / json / xml / yaml / pdf / html / markdown
integer / string / boolean / float
insert / update / delete
debit / credit / prepaid
physics / chemistry / biology
dog puppy / cat kitten / horse / bird
human person / animal pet
undergraduate bachelor / master / doctoral phd
beginner / intermediate / advanced expert
bronze / silver / gold / platinum
"""
_FRAMED = (("and", "or"), ("all", "some"), ("all", "none"), ("all", "any"), ("every", "any"), ("both", "either"))
"""Words that make another question of a sentence in which nothing else differs."""
_SWAPPED = (
    ("up", "down"), ("in", "out"), ("in", "ex"), ("im", "ex"), ("over", "under"), ("pre", "post"), ("pro", "anti"),
    ("fore", "back"), ("hyper", "hypo"), ("macro", "micro"), ("inter", "intra"), ("sub", "super"), ("mono", "poly"),
    ("multi", "single"), ("en", "dis"), ("en", "de"), ("homo", "hetero"), ("front", "back"), ("as", "des"),
)  # fmt: skip
"""Beginnings that make opposites of one stem."""
_NEGATED = ("un", "dis", "non", "de", "in", "im", "il", "ir", "anti", "mis", "a")
_ENDED = (("ful", "less"), ("er", "ee"), ("or", "ee"))
_LEAST = 4
"""Letters that a word must have for a beginning of two or fewer letters to make its opposite."""


MOST = 2_500
"""Pairs of words that are compared: 20 us each, for the first time."""


def _read(text: str, groups: list[list[frozenset[str]]]) -> None:
    groups += [[frozenset(map(stem, side.split())) for side in line.split("/")] for line in text.strip().splitlines()]


def _indexed() -> dict[str, frozenset[tuple[int, int]]]:
    groups: list[list[frozenset[str]]] = []
    _read(_PAIRS, groups)
    _read(_CLASSES, groups)
    places: dict[str, set[tuple[int, int]]] = {}
    for number, sides in enumerate(groups):
        for side, stems in enumerate(sides):
            for each in stems:
                places.setdefault(each, set()).add((number, side))
    return {each: frozenset(found) for each, found in places.items()}


_PLACES = _indexed()


def opposed(one: Iterable[str], other: Iterable[str]) -> list[tuple[str, str]]:
    """Words, one of each side, that are opposites or told apart; of more than ``MOST`` pairs none is looked at."""
    mine, yours = sorted(one), sorted(other)
    if len(mine) * len(yours) > MOST:
        return []
    return [pair for pair in product(mine, yours) if _opposed(*pair)]


def framed(one: str, other: str) -> bool:
    """Whether two words make two questions of one sentence."""
    return (one, other) in _FRAMED or (other, one) in _FRAMED


@lru_cache(maxsize=20_000)
def _opposed(one: str, other: str) -> bool:
    if one == other:
        return False
    mine, yours = _PLACES.get(stem(one)), _PLACES.get(stem(other))
    if mine and yours:
        sides = dict(mine)
        if any(number in sides and sides[number] != side for number, side in yours):
            return True
    return _built(*sorted((one, other), key=len)) or _exchanged(one, other) or _exchanged(other, one)


def _built(short: str, long: str) -> bool:
    """Whether the longer word is the shorter one with a beginning that negates it."""
    begun = long[: len(long) - len(short)]
    if begun in _NEGATED and long.endswith(short):
        return len(short) >= (_LEAST + 1 if begun in ("a", "de", "in", "im") else 3)
    root, other = stem(short), stem(long)
    begun = other[: len(other) - len(root)]
    return begun in ("un", "dis", "non", "il", "ir") and other.endswith(root) and len(root) >= _LEAST


def _exchanged(one: str, other: str) -> bool:
    for begun, instead in _SWAPPED:
        rest = len(one) - len(begun)
        if rest >= _LEAST - 1 and one.startswith(begun) and other == instead + one[len(begun) :]:
            return True
    for end, instead in _ENDED:
        for plural in ("", "s"):
            if one.endswith(end + plural) and other == one[: len(one) - len(end + plural)] + instead + plural:
                return len(one) - len(end) >= _LEAST
    return False
