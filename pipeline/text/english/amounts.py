"""Amounts as English words: money, percentages, measures."""

from __future__ import annotations

import re

from pipeline.text.english.numerals import SIGN_WORDS, cardinal, decimal

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_STARTS = r"(?<![\w.,])"
_DASH = r"[ ]?[-–—~][ ]?"
_TO = rf"(?:{_DASH}|[ ]to[ ])"

_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"), "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"), "₽": ("ruble", "rubles", "kopek", "kopeks"),
    "₩": ("won", "won", "", ""), "₪": ("shekel", "shekels", "", ""),
    "₫": ("dong", "dong", "", ""), "₿": ("bitcoin", "bitcoins", "", ""),
    "₺": ("lira", "lira", "", ""), "₴": ("hryvnia", "hryvnias", "", ""),
    "₦": ("naira", "naira", "", ""), "₱": ("peso", "pesos", "", ""), "฿": ("baht", "baht", "", ""),
    "¢": ("cent", "cents", "", ""),
}  # fmt: skip
_CODES = {
    "USD": "US $", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "RUB": "₽", "KRW": "₩",
    "ILS": "₪", "AUD": "Australian $", "CAD": "Canadian $", "NZD": "New Zealand $",
    "HKD": "Hong Kong $", "SGD": "Singapore $", "BTC": "₿",
}  # fmt: skip
_NAMED_CODES = {
    "CHF": ("Swiss franc", "Swiss francs"), "CNY": ("yuan", "yuan"), "RMB": ("yuan", "yuan"),
    "SEK": ("Swedish krona", "Swedish kronor"), "NOK": ("Norwegian krone", "Norwegian kroner"),
    "DKK": ("Danish krone", "Danish kroner"), "PLN": ("zloty", "zlotys"),
    "MXN": ("Mexican peso", "Mexican pesos"), "BRL": ("Brazilian real", "Brazilian reais"),
    "TRY": ("lira", "lira"), "ZAR": ("rand", "rand"), "THB": ("baht", "baht"),
}  # fmt: skip
_COUNTRIES = {
    "US": "US ", "U.S.": "US ", "A": "Australian ", "AU": "Australian ", "C": "Canadian ",
    "CA": "Canadian ", "NZ": "New Zealand ", "HK": "Hong Kong ", "S": "Singapore ",
    "SG": "Singapore ", "R": "Brazilian ", "NT": "Taiwan ",
}  # fmt: skip
_SCALES = {
    "k": "thousand", "m": "million", "mn": "million", "mm": "million", "mio": "million",
    "b": "billion", "bn": "billion", "t": "trillion", "tn": "trillion", "trn": "trillion",
}  # fmt: skip
_SCALE_WORDS = "hundred|thousand|million|billion|trillion"
_SYMBOL = "[$€£¥₹₽₩₪₫₿₺₴₦₱฿]"
# Digits may be grouped by points, and cents stand behind a comma, as in "€1.250,50".
_SUM = r"\d{1,3}(?:[.,]\d{3})+(?:[.,]\d{1,2})?(?!\d)|\d+(?:[.,]\d+)?|\.\d+"
_SHORT_SCALES = r"(?:[kKmMbB]|[mM]n|mm|mio|[bB]n|[tT]n|trn|T)(?![A-Za-z])"
_SCALE = rf"(?:[ ]?(?P<scale>{_SCALE_WORDS}|{_SHORT_SCALES}))"
_PER = r"(?:[ ]?/[ ]?(?P<per>[A-Za-z]+))?"
_SIGNED = r"(?P<signed>(?<![\w)])[-+])?"
_PREFIXED = re.compile(
    rf"{_SIGNED}(?:(?<![A-Za-z])(?P<country>US|U\.S\.|AU?|CA?|NZ|HK|SG?|R|NT))?(?P<symbol>{_SYMBOL})"
    rf"[ ]?(?P<low>{_SUM})"
    rf"(?:(?:{_DASH}(?:{_SYMBOL})?|[ ]to[ ]{_SYMBOL})(?P<high>{_SUM})(?!\d|/\d))?{_SCALE}?{_PER}"
)
_RUPEES = re.compile(r"\bRs\.? ?(?=\d)")
_SUMS = re.compile(rf"(?<=[\dkKmMbBn]){_DASH}(?=[$€£¥]\d)")
_SUFFIXED = re.compile(
    rf"{_STARTS}{_SIGNED}(?P<low>{_SUM})(?:{_TO}(?P<high>{_SUM}))?{_SCALE}?"
    rf"[ ]?(?P<symbol>[€£¥₹₽₩₪₫₿₺₴₦₱฿¢]|(?<!\^.)\$(?![\w$])){_PER}"
)
_ALL_CODES = "|".join((*_CODES, *_NAMED_CODES))
_CODE_FIRST = re.compile(
    rf"\b(?P<code>{_ALL_CODES})[ ]?(?P<low>{_SUM})(?:{_TO}(?P<high>{_SUM}))?{_SCALE}?(?![\w%])"
)
_CODE_LAST = re.compile(
    rf"{_STARTS}(?P<low>{_SUM})(?:{_TO}(?P<high>{_SUM}))?{_SCALE}?[ ]?(?P<code>{_ALL_CODES})\b"
)
_LONE = re.compile(r"(?<!\S)([$€£¥₹₽₩₪₫₿])(?=[\s.,;:!?)]|$)")
_MINOR_DIGITS = 2
_MINOR = "."  # where it stands in front of them
_ARTICLE = re.compile(r"\b(?:an?|every|each|another|this|that|first|next) $", re.IGNORECASE)
_NEAR = 12  # characters in which they are looked for
_NOUN = re.compile(
    r"[ -](?!(?:a|an|and|as|at|by|for|from|if|in|is|of|on|or|per|than|that|the|to|was|with)\b)"
    r"[a-z]{2,}"
)

_UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "μm": "micrometer",
    "nm": "nanometer", "mi": "mile", "yd": "yard", "ft": "foot", "kg": "kilogram", "g": "gram",
    "mg": "milligram", "μg": "microgram", "lb": "pound", "lbs": "pound", "oz": "ounce",
    "l": "liter", "L": "liter", "dl": "deciliter", "cl": "centiliter", "ml": "milliliter",
    "mL": "milliliter", "gal": "gallon", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute",
    "mins": "minute", "s": "second", "sec": "second", "secs": "second", "ms": "millisecond",
    "Ω": "ohm", "kΩ": "kilohm", "MΩ": "megohm", "μs": "microsecond",
    "ns": "nanosecond", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "W": "watt", "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt",
    "Wh": "watt hour", "kWh": "kilowatt hour", "MWh": "megawatt hour", "V": "volt",
    "kV": "kilovolt",
    "mA": "milliamp", "mAh": "milliamp hour", "Pa": "pascal", "hPa": "hectopascal",
    "kPa": "kilopascal", "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte",
    "TB": "terabyte", "PB": "petabyte", "KiB": "kibibyte", "MiB": "mebibyte", "GiB": "gibibyte",
    "kcal": "kilocalorie", "cal": "calorie", "kJ": "kilojoule", "dB": "decibel", "ha": "hectare",
    "px": "pixel", "mol": "mole", "km/h": "kilometer per hour", "kmh": "kilometer per hour",
    "kph": "kilometer per hour", "mph": "mile per hour", "m/s": "meter per second",
    "Mbps": "megabit per second", "Gbps": "gigabit per second", "kbps": "kilobit per second",
    "Mbit/s": "megabit per second", "Gbit/s": "gigabit per second", "MB/s": "megabyte per second",
    "GB/s": "gigabyte per second", "rpm": "revolution per minute", "fps": "frame per second",
    "bpm": "beat per minute", "mpg": "mile per gallon", "dpi": "dot per inch",
    "sqft": "square foot", "kgs": "kilogram", "tsp": "teaspoon", "tbsp": "tablespoon",
    "tsp.": "teaspoon", "tbsp.": "tablespoon", "qt": "quart", "pt": "pint",
    "cc": "cubic centimeter",
    "mcg": "microgram", "psi": "pound per square inch", "sq mi": "square mile", "lbs.": "pound",
    "lb.": "pound", "oz.": "ounce", "ft.": "foot", "hrs.": "hour", "mins.": "minute",
    "sq. ft.": "square foot", "mmHg": "millimeter of mercury",
    "ppm": "part per million", "sq ft": "square foot", "°C": "degree Celsius",
    "℃": "degree Celsius",
    "°F": "degree Fahrenheit", "° C": "degree Celsius", "° F": "degree Fahrenheit",
    "°": "degree", "º": "degree", "ºC": "degree Celsius",
}  # fmt: skip
_UNCHANGED = ("hertz", "kilohertz", "megahertz", "gigahertz")
_AREAS = {"²": "square", "³": "cubic", "^2": "square", "^3": "cubic"}
_POWERS = {"²": "squared", "³": "cubed", "2": "squared", "3": "cubed"}
UNIT = "|".join(re.escape(u) for u in sorted(_UNITS, key=len, reverse=True))
_MEASURE = re.compile(
    rf"{_STARTS}{_SIGNED}(?P<low>{NUMBER})(?:{_TO}(?P<high>{NUMBER}))?(?P<gap>[ -]?)"
    rf"(?P<unit>{UNIT})(?P<power>[²³]|\^[23])?(?:/(?P<per>{UNIT})(?P<per_power>[²³]|\^[23])?)?"
    rf"(?![\w°²³^])"
)
_PERCENT = re.compile(
    rf"{_STARTS}(?P<signed>(?<![%‰)])[-+])?(?P<low>{NUMBER})"
    rf"(?:(?:[%‰]?{_DASH}|[ ]to[ ])(?P<high>{NUMBER}))?"
    r"[ ]?(?P<sign>[%‰])"
)
_FEET = re.compile(r"(?<![\w.,])(\d{1,2})['’][ ]?(\d{1,2})(?:[\"”]|''|(?=[\s.,;)]|$))")
_COMPASS = re.compile(r"(?<=\d°)[ ]?([NS]?[EW]|[NS])(?![\w'])")
_POINTS = {
    "N": "north", "S": "south", "E": "east", "W": "west", "NE": "northeast", "NW": "northwest",
    "SE": "southeast", "SW": "southwest",
}  # fmt: skip
_INCH = re.compile(r"(?<=\d)[\"″](?=[ ,.;)x]|$)")
_OPENING, _CLOSING = re.compile(r'(?:^|[\s(])"(?=\w)'), re.compile(r'(?<=[^\s\d(])"')
_LONGEST_QUOTATION = 200  # characters
_FEET_FIRST = re.compile(r"\d['’][ ]?\d{1,2}$")
_BY_INCHES = re.compile(r"(?<=\d)[\"″] ?[x×] ?(?=\d)")
_IN = re.compile(
    r"(?<![\w.,])((?:\d+ )?\d+(?:\.\d+)?)[ ]in\b\.?"
    r"(?=[ ](?:long|wide|tall|high|deep|thick|x|by|of rain|of snow)\b)"
)
_ANGLE = re.compile(
    r"(?<![\w.,])(?P<degrees>\d{1,3})°[ ]?(?P<minutes>\d{1,2})['’′]"
    r"(?:[ ]?(?P<seconds>\d{1,2}(?:\.\d+)?)"
    r"[\"”″])?(?:[ ]?(?P<point>[NSEW])(?!\w))?"
)
_INCHES = re.compile(r"(?<!\w)(\d{1,2} ?ft\.?) (\d{1,2}) ?in\b\.?")
_SIGNS = {"%": "percent", "‰": "per mille"}


def with_money(text: str) -> str:
    """Text with its sums of money as words: "$1.25" → "one dollar and twenty-five cents"."""
    text = _RUPEES.sub("₹", text)
    text = _SUMS.sub(" to ", text)
    text = _PREFIXED.sub(_prefixed, text)
    text = _SUFFIXED.sub(_suffixed, text)
    text = _CODE_FIRST.sub(_coded, text)
    text = _CODE_LAST.sub(_coded, text)
    return _LONE.sub(lambda found: _CURRENCIES[found[1]][0], text)


def unit_name(unit: str, *, is_one: bool) -> str:
    """Its symbol → its name."""
    return _UNITS[unit] if is_one else _plural(_UNITS[unit])


def with_measures(text: str) -> str:
    """Text with its percentages, measures and temperatures as words."""
    text = _ANGLE.sub(_angle, _IN.sub(r"\1 inches", text))
    text = _COMPASS.sub(lambda found: f" {_POINTS[found[1]]}", text)
    text = _INCHES.sub(lambda found: f"{found[1]} {cardinal(found[2])} inches", text)
    text = _FEET.sub(lambda found: f"{cardinal(found[1])} foot {cardinal(found[2])}", text)
    return _MEASURE.sub(_measure, _PERCENT.sub(_percent, text))


def _angle(found: re.Match[str]) -> str:
    words = f"{cardinal(found['degrees'])} degrees {decimal(found['minutes'])} minutes"
    if found["seconds"]:
        words += f" {decimal(found['seconds'])} seconds"
    return words + (f" {_POINTS[found['point']]}" if found["point"] else "")


def with_inches(text: str) -> str:
    """Text with "inch" for a quotation mark behind a number that closes no quotation."""
    text = _BY_INCHES.sub(" by ", text)
    return _INCH.sub(_inch, text) if _INCH.search(text) else text


def _inch(found: re.Match[str]) -> str:
    before = found.string[max(found.start() - _LONGEST_QUOTATION, 0) : found.start()]
    is_closing = len(_OPENING.findall(before)) > len(_CLOSING.findall(before))
    if is_closing or _FEET_FIRST.search(before):
        return found[0]
    is_noun = re.match(r" [a-z]", found.string[found.end() : found.end() + _NEAR])
    return " inch" if is_noun else " inches"


def _prefixed(found: re.Match[str]) -> str:
    return _money(found, _COUNTRIES.get(found["country"] or "", ""), _CURRENCIES[found["symbol"]])


def _suffixed(found: re.Match[str]) -> str:
    return _money(found, "", _CURRENCIES[found["symbol"]])


def _coded(found: re.Match[str]) -> str:
    code = found["code"]
    if code in _NAMED_CODES:
        return _money(found, "", (*_NAMED_CODES[code], "", ""))
    country, symbol = _CODES[code][:-1], _CODES[code][-1]
    return _money(found, country, _CURRENCIES[symbol])


def _money(found: re.Match[str], country: str, names: tuple[str, str, str, str]) -> str:
    given = found.groupdict()
    one, many, minor_one, _ = names
    scale = given["scale"] or ""
    low = _digits(found["low"])
    if given["high"] and minor_one and _MINOR in {low[-3:-2], _digits(given["high"])[-3:-2]}:
        high = _digits(given["high"])
        words = " to ".join(
            _with_minor(one, country, names)
            if one[-3:-2] == _MINOR
            else f"{decimal(one)} {country}{many}"
            for one in (low, high)
        )
    elif given["high"]:
        words = (
            f"{decimal(low)} to {decimal(_digits(given['high']))}{_scaled(scale)} {country}{many}"
        )
    elif scale or not minor_one or len(low.partition(".")[2]) != _MINOR_DIGITS:
        is_one = low == "1" and not scale
        is_one = is_one or _stands_before_noun(found)
        words = f"{decimal(low)}{_scaled(scale)} {country}{one if is_one else many}"
    else:
        words = _with_minor(low, country, names)
    per = given.get("per")
    return (
        SIGN_WORDS.get(given.get("signed") or "", "") + words + (f" per {_per(per)}" if per else "")
    )


def _stands_before_noun(found: re.Match[str]) -> bool:
    """Whether an amount says what kind of thing follows: "a $5 bill"."""
    text, start, end = found.string, found.start(), found.end()
    before, after = text[max(start - _NEAR, 0) : start], text[end : end + _NEAR]
    return bool(_ARTICLE.search(before) and _NOUN.match(after))


def _with_minor(amount: str, country: str, names: tuple[str, str, str, str]) -> str:
    """ "1.25" → "one dollar and twenty-five cents"."""
    one, many, minor_one, minor_many = names
    whole, _, minor = amount.partition(".")
    parts: list[str] = []
    if int(whole or "0") or not int(minor):
        parts.append(f"{cardinal(whole or '0')} {country}{one if whole == '1' else many}")
    if int(minor):
        name = minor_one if int(minor) == 1 else minor_many
        parts.append(f"{cardinal(str(int(minor)))} {name}")
    return " and ".join(parts)


def _digits(amount: str) -> str:
    """ "1.250,50", "1,250.50" and "3,50" → digits with a decimal point."""
    head, mark, tail = max(
        (amount.rpartition(mark) for mark in ".,"), key=lambda split: len(split[0])
    )
    is_grouping = len(tail) == len("000") and (mark == "," or "." in head)
    if not mark or is_grouping:
        return amount.replace(",", "").replace(".", "")
    return head.replace(",", "").replace(".", "") + "." + tail


def _scaled(scale: str) -> str:
    return f" {_SCALES.get(scale.lower(), scale)}" if scale else ""


def _per(unit: str) -> str:
    return _UNITS.get(unit) or {"mo": "month", "yr": "year", "wk": "week"}.get(unit, unit)


def _percent(found: re.Match[str]) -> str:
    signed = SIGN_WORDS.get(found["signed"] or "", "")
    return f"{signed}{_span(found)} {_SIGNS[found['sign']]}"


def _measure(found: re.Match[str]) -> str:
    unit, gap = found["unit"], found["gap"]
    if gap == "-" and len(unit) == 1:  # "a 5-s" is a name
        return found[0]
    is_one = gap == "-" or (found["low"] == "1" and not found["high"])
    is_one = is_one or _stands_before_noun(found)
    name = unit_name(unit, is_one=is_one)
    if found["power"]:
        is_rate = " per " in name
        name = (
            f"{name} {_POWERS[found['power'][-1]]}"
            if is_rate
            else f"{_AREAS[found['power']]} {name}"
        )
    if found["per"]:
        area = f"{_AREAS[found['per_power']]} " if found["per_power"] else ""
        name += f" per {area}{_UNITS[found['per']]}"
    signed = SIGN_WORDS.get(found["signed"] or "", "")
    return f"{signed}{_span(found)} {name}{_stop(found, unit)}"


def _stop(found: re.Match[str], unit: str) -> str:
    """The stop of "mins." ends the sentence where nothing or a capital follows."""
    after = found.string[found.end() : found.end() + _NEAR].lstrip()
    return "." if unit.endswith(".") and (not after or after[0].isupper()) else ""


def _span(found: re.Match[str]) -> str:
    low = decimal(found["low"])
    return f"{low} to {decimal(found['high'])}" if found["high"] else low


def _plural(unit: str) -> str:
    head, gap, rest = unit.partition(" ")
    if rest.startswith("of "):
        return f"{head}s {rest}"
    if head in _UNCHANGED:
        return unit
    if head == "square":
        return f"{head} {_plural(rest)}"
    if rest and not rest.startswith(("per", "Celsius", "Fahrenheit")):  # "kilowatt hours"
        return f"{head} {rest}s"
    head = {"foot": "feet"}.get(head, head + "s")
    return head + gap + rest
