"""Dates and times of day as English words.

A date of numbers alone is month first where both orders are possible; "2026-11-26" has one order.
"""

from __future__ import annotations

import re

from pipeline.text.english.numerals import cardinal, ordinal, plural, spelt, year

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_NAMES = {name[:n]: name for name in _MONTHS for n in (3, len(name))} | {"Sept": "September"}
_NAME = "|".join(sorted(_NAMES, key=len, reverse=True))
_MONTH = rf"(?P<month>{_NAME})(?![A-Za-z])(?:\.(?=,|[ ][\da-z]))?"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:1\d|20)\d\d)(?![\d:]|[.,]\d)"
_ALONE = r"(?<![\w.,/:-])"  # not in the middle of a longer number
_ENDS = r"(?![\w/]|[-.,:]\d)"

_ISO = re.compile(
    rf"{_ALONE}(?P<year>\d{{4}})(?P<gap>[-/.])(?P<month>\d\d?)(?P=gap)(?P<day>\d\d?)"
    rf"(?:[T ](?P<time>\d\d:\d\d)(?P<second>:\d\d)?(?:\.\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?{_ENDS}"
)
_NUMERIC = re.compile(
    rf"{_ALONE}(?P<first>\d\d?)(?P<gap>[-/.])(?P<second>\d\d?)(?P=gap)(?P<year>\d{{4}}|\d\d){_ENDS}"
)
# A fraction is seldom of such days: "11/26"; and none stands behind "on" or "by".
_MONTH_AND_DAY = re.compile(
    r"(?<![\w.,/:$€£-])(?P<month>1[0-2]|0?[1-9])/(?P<day>2[1-9]|3[01])(?![\w/%]|[-.,:]\d)"
    r"|(?:(?<=\b[Oo]n )|(?<=\b[Bb]y )|(?<=\b[Uu]ntil )|(?<=\b[Ss]ince ))"
    r"(?P<month_on>1[0-2]|0?[1-9])/(?P<day_on>[12]\d|3[01]|0?[1-9])(?![\w/%]|[-.,:]\d)"
)
_MONTH_FIRST = re.compile(
    rf"\b{_MONTH}[ ]{_DAY}(?:[ ]?[-–][ ]?(?P<last>[0-3]?\d)(?:st|nd|rd|th)?)?"
    rf"(?:,?[ ]{_YEAR})?{_ENDS}"
)
_DAY_FIRST = re.compile(
    rf"(?P<the>\b[Tt]he[ ])?{_ALONE}{_DAY}[ ](?:of[ ])?{_MONTH}(?:,?[ ]{_YEAR})?"
)
_YEAR_MONTH = re.compile(
    rf"{_ALONE}(?P<year>(?:19|20)(?P<short>\d\d))-(?P<month>0[1-9]|1[0-2]){_ENDS}(?!-)"
)
_MONTH_YEAR = re.compile(rf"\b{_MONTH},?[ ]{_YEAR}")
_DECADE = re.compile(
    r"(?<![\w.,$€£])(?P<century>1[1-9]|20)(?P<decade>\d0)['’]?s(?!\w)"
    r"|\b(?P<of>(?:the|my|his|her|their|our|early|mid|late)[ -])(?P<short>[1-9]0)['’]?s(?!\w)"
)
_SHORT_DECADE = re.compile(r"(?<!\w)['’](?P<decade>[1-9]0)s(?!\w)")

_HALF = r"(?:[ ]?(?P<half>[AaPp])\.?[Mm]\b(?P<stop>\.)?)"
_POINTED_CLOCK = re.compile(rf"(?<![\w:.,$€£])((?:1[0-2]|0?[1-9]))\.([0-5]\d)(?={_HALF})")
_CLOCK = re.compile(
    r"(?<![\w:.,])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?"
    rf"{_HALF}?(?![\w:]|\.\d)"
)
_SPLIT_SECONDS = re.compile(
    r"(?<![\w:.,])(?P<minute>\d{1,2}):(?P<second>[0-5]\d)\.(?P<part>\d{1,3})(?![\w:]|\.\d)"
)
_DAY_NAMES = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
    "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
_DAY_NAME = "|".join(_DAY_NAMES)
_DAY_RANGE = re.compile(rf"\b({_DAY_NAME})\.?[ ]?[-–—][ ]?({_DAY_NAME})\b\.?(?![a-z])")
_DAY_ALONE = re.compile(
    rf"\b({_DAY_NAME})(?:\.,?|,)(?=[ ](?:{'|'.join(sorted(_NAMES, key=len, reverse=True))}|\d))"
)
_HOUR = re.compile(rf"(?<![\w:.,])(?P<hour>1[0-2]|0?[1-9]){_HALF}(?!\w)")
_HOURS = re.compile(
    r"(?<![\w:.,])(\d\d?(?::\d\d)?(?:[ ]?[AaPp]\.?[Mm]\.?)?)[ ]?[-–—][ ]?"
    r"(?=\d\d?(?::\d\d|[ ]?[AaPp]\.?[Mm]\b))"
)
_NOON = 12
_FIRST_TEN = 10
_AHEAD = 12  # characters in which a next sentence begins
_TIME_GOES_ON = re.compile(
    r"(?:[A-Z]{1,3}T|UTC|GMT|Eastern|Pacific|Central|Mountain|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
    rf"|{'|'.join(_MONTHS)})\b"
)
_CENTURY_TURN = 50  # "49" is 2049, "50" is 1950


def with_dates(text: str) -> str:
    """Text with its dates, years of a month and decades as words."""
    text = with_days(text)
    text = _ISO.sub(_iso, text)
    text = _YEAR_MONTH.sub(_year_month, _NUMERIC.sub(_numeric, text))
    text = _MONTH_AND_DAY.sub(_month_and_day, text)
    text = _MONTH_FIRST.sub(_month_first, text)
    text = _DAY_FIRST.sub(_day_first, text)
    text = _MONTH_YEAR.sub(lambda found: f"{_NAMES[found['month']]} {year(found['year'])}", text)
    text = _SHORT_DECADE.sub(lambda found: plural(cardinal(found["decade"])), text)
    return _DECADE.sub(_decade, text)


def with_days(text: str) -> str:
    """Text with the short names of days as words, where they are surely days."""
    text = _DAY_RANGE.sub(lambda found: f"{_DAY_NAMES[found[1]]} to {_DAY_NAMES[found[2]]}", text)
    return _DAY_ALONE.sub(lambda found: _DAY_NAMES[found[1]] + ",", text)


def with_times(text: str) -> str:
    """Text with its times of day as words: "nine oh five AM", "fourteen thirty"."""
    text = _POINTED_CLOCK.sub(r"\1:\2", text)
    text = _SPLIT_SECONDS.sub(_split_seconds, _HOURS.sub(r"\1 to ", text))
    return _HOUR.sub(_hour, _CLOCK.sub(_clock, text))


def _iso(found: re.Match[str]) -> str:
    date = _date(found["month"], found["day"], found["year"])
    if not date:
        return found[0]
    second = found["second"] or ""
    time = f" at {found['time']}{second if second != ':00' else ''}" if found["time"] else ""
    return date + time + _zone(found["zone"] or "")


def _zone(written: str) -> str:
    """ "Z", "+02:00" → " UTC", " UTC plus two"."""
    if not written:
        return ""
    hours, minutes = written[1:3], written[-2:]
    if written == "Z" or not int(hours + minutes):
        return " UTC"
    sign = "plus" if written[0] == "+" else "minus"
    rest = f" {cardinal(minutes)}" if int(minutes) else ""
    return f" UTC {sign} {cardinal(str(int(hours)))}{rest}"


def _numeric(found: re.Match[str]) -> str:
    month, day = found["first"], found["second"]
    if int(month) > len(_MONTHS) or found["gap"] == ".":  # "26.11.2026" has the day first
        month, day = day, month
    full = found["year"]
    if len(full) == len("26"):
        full = ("20" if int(full) < _CENTURY_TURN else "19") + full
    return _date(month, day, full) or found[0]


def _date(month: str, day: str, full_year: str) -> str:
    """ "November twenty-sixth, twenty twenty-six"; empty where there is no such month or day."""
    if not 1 <= int(month) <= len(_MONTHS) or not _is_day(day):
        return ""
    return f"{_MONTHS[int(month) - 1]} {_nth(day)}, {year(full_year)}"


def _year_month(found: re.Match[str]) -> str:
    """ "2026-11" → "November twenty twenty-six"; "2010-12" may be three years, and stays."""
    month = found["month"]
    if month[0] != "0" and month > found["short"]:
        return found[0]
    return f"{_MONTHS[int(month) - 1]} {year(found['year'])}"


def _month_and_day(found: re.Match[str]) -> str:
    month, day = found["month"] or found["month_on"], found["day"] or found["day_on"]
    return f"{_MONTHS[int(month) - 1]} {_nth(day)}"


def _month_first(found: re.Match[str]) -> str:
    if not _is_day(found["day"]):
        return found[0]
    last = f" to {_nth(found['last'])}" if found["last"] else ""
    return f"{_NAMES[found['month']]} {_nth(found['day'])}{last}{_of_year(found)}"


def _day_first(found: re.Match[str]) -> str:
    if not _is_day(found["day"]):
        return found[0]
    the = found["the"] or "the "
    return f"{the}{_nth(found['day'])} of {_NAMES[found['month']]}" + _of_year(found)


def _nth(day: str) -> str:
    return ordinal(str(int(day)))


def _of_year(found: re.Match[str]) -> str:
    return f", {year(found['year'])}" if found["year"] else ""


def _is_day(day: str) -> bool:
    return 1 <= int(day) <= 31  # noqa: PLR2004 - a month has no more


def _decade(found: re.Match[str]) -> str:
    century, decade = found["century"], found["decade"]
    if not century:  # "30s" alone may be seconds
        return found["of"] + plural(cardinal(found["short"]))
    if decade == "00":
        return "two thousands" if century == "20" else f"{cardinal(century)} hundreds"
    return f"{cardinal(century)} {plural(cardinal(decade))}"


def _clock(found: re.Match[str]) -> str:
    hour, minute, second = int(found["hour"]), int(found["minute"]), found["second"]
    words = cardinal(str(hour))
    if minute:
        words += f"{' oh' if minute < _FIRST_TEN else ''} {cardinal(str(minute))}"
    elif not found["half"] and not second:
        if hour in (0, 24):
            words = "midnight"
        else:
            words += " o'clock" if hour <= _NOON else " hundred"
    if second and int(second):
        words += f" and {cardinal(str(int(second)))} seconds"
    return words + _half(found)


def _split_seconds(found: re.Match[str]) -> str:
    second = found["second"]
    said = f"oh {cardinal(second[1])}" if second[0] == "0" else cardinal(second)
    return f"{cardinal(str(int(found['minute'])))} {said} point {spelt(found['part'])}"


def _hour(found: re.Match[str]) -> str:
    return cardinal(str(int(found["hour"]))) + _half(found)


def _half(found: re.Match[str]) -> str:
    """ " AM" or " PM"; the stop of "a.m." ends the sentence where nothing or a capital follows."""
    if not found["half"]:
        return ""
    after = found.string[found.end() : found.end() + _AHEAD].lstrip()
    ends = not after or (after[0].isupper() and not _TIME_GOES_ON.match(after))
    stop = "." if found["stop"] and ends else ""
    return f" {found['half'].upper()}M{stop}"
