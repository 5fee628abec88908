"""Dates and times of day as Chinese words."""

from __future__ import annotations

import re

from pipeline.text.chinese.numerals import cardinal, counted, spelt

_ALONE = r"(?<![\dA-Za-z.,:/-])"
_ENDS = r"(?![\dA-Za-z/]|[-.,:]\d)"
_TO = r"\s?[-–—~～至到]\s?"
_YEAR = r"(?:1\d|20|21)\d\d"
_ISO = re.compile(
    rf"{_ALONE}(?P<year>\d{{4}})(?P<gap>[-/.])(?P<month>\d\d?)(?P=gap)(?P<day>\d\d?)"
    r"(?:[T ](?P<time>[0-2]?\d:[0-5]\d(?::[0-5]\d)?)(?:\.\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?"
    r"(?![\d/]|[-.]\d)"
)
_DAY_FIRST = re.compile(  # or the month, where the day would be none
    rf"{_ALONE}(?P<day>\d\d?)(?P<gap>[/.])(?P<month>\d\d?)(?P=gap)(?P<year>(?:19|20)\d\d){_ENDS}"
)
_YEAR_MONTH = re.compile(
    r"(?<![\dA-Za-z.,:/-])(?P<year>20\d\d)(?:[/.](?P<month>1[0-2]|0?[1-9])|-(?P<two>0[1-9]|1[0-2]))"
    r"(?![\d/.:A-Za-z-])"
)
_SPAN = re.compile(
    r"(?<=[日号月年])\s?[-–—~～]\s?(?=\d{1,4}[年月日号])|(?<=[周期][一二三四五六日天])\s?[-–—~～]\s?(?=[周星])"
)
_YEARS = re.compile(rf"(?<!\d)(?P<low>{_YEAR}){_TO}(?P<high>{_YEAR})(?=年)")
_YEAR_NAME = re.compile(
    r"(?<![\d.,])(?P<year>\d{4})(?=年)(?!年(?:前|来|历史|之久|的历史|间|以上))"
    r"|(?<![\d.,])(?P<short>\d\d)(?=年(?:代|\d{1,2}月|[上下]半年|初|底|末))"
    r"|(?<![\d.,])(?P<span>\d000|\d{1,2}00)(?=年(?:前|来|历史|之久|的历史|间|以上))"
)
_LIFE = re.compile(rf"(?<=[(（])(?P<low>{_YEAR}){_TO}(?P<high>{_YEAR})(?=[)）])")
_BORN = re.compile(r"(?<![\d.,])(?P<decade>\d[05])(?=后(?!\d))")
_MONTH_DAY = re.compile(
    rf"(?<![\d.])(?P<month>1[0-2]|0?[1-9])(?:{_TO}(?P<last_month>1[0-2]|0?[1-9]))?月(?:份)?"
    rf"(?:(?P<day>3[01]|[12]\d|0?[1-9])(?:{_TO}(?P<last>3[01]|[12]\d|0?[1-9]))?(?P<mark>[日号]))?"
)
_DAYS = re.compile(
    rf"(?<![\d.])(?P<day>3[01]|[12]\d|0?[1-9])(?:{_TO}(?P<last>3[01]|[12]\d|0?[1-9]))?日(?!元)"
)
_TIME = r"(?:[01]?\d|2[0-4]):[0-5]\d(?::[0-5]\d)?"
_TIMES = re.compile(rf"(?<![\d:.])(?P<low>{_TIME}){_TO}(?P<high>{_TIME})(?![\d:])")
_CLOCK = re.compile(
    r"(?P<before>.{0,6}?)(?<![\d:.])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)"
    r"(?::(?P<second>[0-5]\d))?(?P<half>\s?[AaPp]\.?[Mm]\.?(?![A-Za-z]))?(?![\d:])"
)
_SCORED = re.compile(r"比分|比|以|战胜|大胜|险胜|击败|逆转|负|领先|战平|打成|比例|率")
_HOUR = re.compile(
    r"(?<![\dA-Za-z.:])(?P<hour>2[0-4]|1?\d|0\d)点(?P<minute>[0-5]?\d分|[0-5]\d(?!\d))?(?!\d)"
)
_MONTHS, _NOON = 12, 12


def with_dates(text: str) -> str:
    """Text with its dates, years and decades as words."""
    text = _DAY_FIRST.sub(_day_first, text)
    text = _YEAR_MONTH.sub(_year_month, _ISO.sub(_iso, _SPAN.sub("到", text)))
    text = _YEARS.sub(lambda found: f"{spelt(found['low'])}到{spelt(found['high'])}", text)
    text = _LIFE.sub(lambda found: f"{spelt(found['low'])}到{spelt(found['high'])}", text)
    text = _YEAR_NAME.sub(_year_name, text)
    text = _BORN.sub(lambda found: spelt(found["decade"]), text)
    return _DAYS.sub(_days, _MONTH_DAY.sub(_month_day, text))


def with_times(text: str) -> str:
    """Text with its times of day as words: "八点零五分"; scores stay."""
    text = _TIMES.sub(lambda found: f"{_time(found['low'])}到{_time(found['high'])}", text)
    return _HOUR.sub(_hour, _CLOCK.sub(_clock, text))


def _iso(found: re.Match[str]) -> str:
    date = _date(found["year"], int(found["month"]), int(found["day"]))
    if not date:
        return found[0]
    time = _time(found["time"]) if found["time"] else ""
    zone = {"Z": "协调世界时"}.get(found["zone"] or "", "")
    return f"{date}{zone}{time}"


def _day_first(found: re.Match[str]) -> str:
    day, month = int(found["day"]), int(found["month"])
    if month > _MONTHS:
        day, month = month, day
    return _date(found["year"], month, day) or found[0]


def _date(year: str, month: int, day: int) -> str:
    """Empty where there is no such month or day."""
    if not 1 <= month <= _MONTHS or not 1 <= day <= 31:  # noqa: PLR2004 - a month has no more
        return ""
    return f"{spelt(year)}年{cardinal(str(month))}月{cardinal(str(day))}日"


def _year_month(found: re.Match[str]) -> str:
    return f"{spelt(found['year'])}年{_plain(found['month'] or found['two'])}月"


def _year_name(found: re.Match[str]) -> str:
    if found["span"]:
        return cardinal(found["span"])
    if found["short"]:
        is_decade = found.string.startswith("年代", found.end())
        is_round = is_decade and found["short"][1] == "0" and found["short"] != "00"
        return cardinal(found["short"]) if is_round else spelt(found["short"])
    return spelt(found["year"])


def _month_day(found: re.Match[str]) -> str:
    words = _plain(found["month"])
    if found["last_month"]:
        words += f"到{_plain(found['last_month'])}"
    words += "月份" if found[0].endswith("份") or "月份" in found[0] else "月"
    if found["day"]:
        words += _plain(found["day"])
        words += f"到{_plain(found['last'])}" if found["last"] else ""
        words += found["mark"]
    return words


def _days(found: re.Match[str]) -> str:
    last = f"到{_plain(found['last'])}" if found["last"] else ""
    return f"{_plain(found['day'])}{last}日"


def _plain(digits: str) -> str:
    return cardinal(str(int(digits)))


def _time(written: str) -> str:
    hour, minute, *second = written.split(":")
    words = counted(str(int(hour))) + "点"
    if int(minute) or second:
        words += _two_digits(minute) + "分"
    if second and int(second[0]):
        words += _two_digits(second[0]) + "秒"
    return words


def _two_digits(digits: str) -> str:
    return cardinal(str(int(digits))) if digits[0] != "0" or digits == "00" else spelt(digits)


def _clock(found: re.Match[str]) -> str:
    before = found["before"]
    if _SCORED.search(before) and not found["half"] and not found["second"]:
        return found[0]
    half = (found["half"] or "").strip().lower()
    word = ("上午" if half[0] == "a" else "下午") if half else ""
    time = found[0][len(before) :]
    time = time[: len(time) - len(found["half"] or "")]
    return before + word + _time(time)


def _hour(found: re.Match[str]) -> str:
    minute = found["minute"] or ""
    digits = minute.rstrip("分")
    words = f"{counted(str(int(found['hour'])))}点"
    return words + (_two_digits(digits) if digits else "") + ("分" if minute.endswith("分") else "")
