"""What of an English text is not said: its words, and the digits of its numbers.

Counted, wherever they stand: dates change their order, and money says its unit last.
"""

from __future__ import annotations

import re
from collections import Counter

_LETTER = "[^\\W\\d_²³½₂]"
_WORD = re.compile(rf"{_LETTER}+(?:'{_LETTER}+)*|\d")
_NOT_SAID = re.compile(
    r"(?<=\])\([^()]*\)|\b(?:https?|ftp)://|\bwww\.|(?<=\d)'?(?:st|nd|rd|th|s)\b", re.IGNORECASE
)  # links, and the ends of "4th" and "1990s", which are the number's
_NUMBERS = """
1=one|first|ten|january|october|hundreds|thousands 2=two|second|twenty|february
3=three|third|thirty|march 4=four|fourth|forty|quarter|april 5=five|fifth|fifty|may
6=six|sixth|sixty|june 7=seven|seventh|seventy|july 8=eight|eighth|eighty|august
9=nine|ninth|ninety|september 11=eleven|november 12=twelve|twelfth|december|half 13=thirteen
14=fourteen 15=fifteen 16=sixteen 17=seventeen 18=eighteen 19=nineteen
"""
_ENDS = (("", ""), ("s", ""), ("th", ""), ("ieth", "y"), ("ies", "y"))  # of "eighths", "nineties"
_READINGS = """
a=am|one al=others approx=approximately ave=avenue b=because blacklivesmatter=lives
bn=billion btc=bitcoin c=celsius|about|canadian|because ca=about cf=compare cm=centimeters
col=colonel dept=department dr=doctor e=example|power|is eur=euros et=and etc=cetera ext=extension
f=fahrenheit feb=february fig=figure fps=frames fri=friday g=example gal=gallon gb=gigabytes
gen=general ghz=gigahertz gov=governor h=hour hk=kong i=one|that ii=two|second in=inches
inc=incorporated iv=four jan=january jr=junior k=thousand kg=kilograms kgs=kilograms khz=kilohertz
km=kilometers kpa=kilopascals kwh=kilowatt lb=pounds|pound lbs=pounds lt=lieutenant ltd=limited
lviii=fifty m=meters|meter|minutes|million|am|pm machinelearning=machine mb=megabytes mbps=megabits
mg=milligrams min=minutes mins=minutes mmhg=millimeters mon=monday mph=miles mr=mister mrs=missus
mt=mount n=north ne=northeast no=number o=without oct=october oz=ounces
p=page|pm pp=pages prof=professor r=brazilian rev=reverend s=second
sat=saturday sen=senator sept=september sgt=sergeant st=street|saint sun=sunday
t=at tbsp=tablespoons tel=telephone temp=temperature tn=trillion tsp=teaspoon
tues=tuesday usd=dollars v=version|volts viii=eighth vol=volume vs=versus w=watts|with|without|west
x=times|by xiv=fourteenth z=utc
"""


def _table(written: str) -> dict[str, list[str]]:
    pairs = (pair.partition("=") for pair in written.split())
    return {left: right.split("|") for left, _, right in pairs}


READINGS = _table(_READINGS)
_DIGITS = {said: digits for digits, all_ in _table(_NUMBERS).items() for said in all_}


def lost(text: str, said: str) -> list[str]:
    """Words of `text` that `said` has less often, in any reading; and digits, one by one."""
    written, heard = Counter(_words(_NOT_SAID.sub(" ", text))), Counter(_words(said))
    digits = Counter("".join(_digits_of(word) * n_said for word, n_said in heard.items()))
    missing: list[str] = []
    for word, n_written in written.items():
        if word.isdecimal():
            n_said = digits[word]
        else:
            n_said = heard[word] + sum(heard[one] for one in READINGS.get(word, ()))
        if word != "0":
            missing += [word] * (n_written - n_said)
    return missing


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text.replace("’", "'"))]


def _digits_of(word: str) -> str:
    """A number word's digits; a digit is one itself."""
    if word.isdecimal():
        return word
    stems = (word.removesuffix(end) + rest for end, rest in _ENDS if word.endswith(end))
    return next((_DIGITS[stem] for stem in stems if stem in _DIGITS), "")
