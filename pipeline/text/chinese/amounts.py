"""Amounts as Chinese words: money, percentages, measures, ranges, fractions, ratios."""

from __future__ import annotations

import re

from pipeline.text.chinese.numerals import cardinal, counted, decimal

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
_STARTS = r"(?<![\dA-Za-z.,])"
_TO = r"\s?[-–—~～]\s?"
_SCALE = r"(?P<scale>\s?(?:万亿|百万|千万|[十百千万亿]))?"
_SYMBOLS = {
    "$": "美元", "US$": "美元", "€": "欧元", "£": "英镑", "¥": "元", "HK$": "港元", "NT$": "新台币",
    "A$": "澳元", "C$": "加元", "S$": "新加坡元", "₩": "韩元", "₽": "卢布", "₹": "卢比",
    "฿": "泰铢",
}  # fmt: skip
_CODES = {
    "RMB": "元", "CNY": "元", "USD": "美元", "EUR": "欧元", "GBP": "英镑", "JPY": "日元",
    "HKD": "港元", "KRW": "韩元", "TWD": "新台币",
}  # fmt: skip
_SYMBOL = "|".join(re.escape(one) for one in sorted(_SYMBOLS, key=len, reverse=True))
_CODE = "|".join(_CODES)
_MONEY = re.compile(
    rf"(?P<sign>(?<![\dA-Za-z)])-)?(?<![A-Za-z])(?P<symbol>{_SYMBOL}|(?:{_CODE})\s?)\s?(?P<low>{NUMBER})"
    rf"(?:{_TO}(?:{_SYMBOL})?(?P<high>{NUMBER}))?{_SCALE}(?:\s?元)?"
)
_MONEY_BEHIND = re.compile(
    rf"{_STARTS}(?P<low>{NUMBER})(?:{_TO}(?P<high>{NUMBER}))?{_SCALE}\s?"
    rf"(?P<symbol>[$€£¥₩₽₹฿]|(?:{_CODE})(?![A-Za-z]))"
)
_PERCENT = re.compile(
    rf"(?P<sign>(?<![\dA-Za-z)%])[-+])?(?<![\dA-Za-z.,])(?P<low>{NUMBER})(?P<first>[%‰]?){_TO}"
    rf"(?P<high>{NUMBER})(?P<mark>[%‰])"
    rf"|(?P<one_sign>(?<![\dA-Za-z)%])[-+])?(?<![\dA-Za-z.,])(?P<one>{NUMBER})\s?(?P<one_mark>[%‰])"
)
_OF = {"%": "百分之", "‰": "千分之"}
_UNITS = {
    "km": "公里", "m": "米", "dm": "分米", "cm": "厘米", "mm": "毫米", "μm": "微米", "nm": "纳米",
    "kg": "千克", "g": "克", "mg": "毫克", "μg": "微克", "t": "吨", "lb": "磅", "oz": "盎司",
    "L": "升", "l": "升", "mL": "毫升", "ml": "毫升", "ha": "公顷", "ft": "英尺", "mi": "英里",
    "h": "小时", "min": "分钟", "s": "秒", "ms": "毫秒", "μs": "微秒", "ns": "纳秒",
    "Hz": "赫兹", "kHz": "千赫", "MHz": "兆赫", "GHz": "吉赫", "W": "瓦", "kW": "千瓦",
    "MW": "兆瓦", "kWh": "千瓦时", "V": "伏", "kV": "千伏", "mA": "毫安", "mAh": "毫安时",
    "Pa": "帕", "kPa": "千帕", "MPa": "兆帕", "hPa": "百帕", "dB": "分贝", "kcal": "千卡",
    "kJ": "千焦", "px": "像素", "rpm": "转每分钟", "fps": "帧每秒", "bpm": "次每分钟",
    "Mbps": "兆比特每秒", "Gbps": "吉比特每秒", "kbps": "千比特每秒", "mph": "英里每小时",
    "℃": "摄氏度", "°C": "摄氏度", "℉": "华氏度", "°F": "华氏度", "°": "度",
    "m²": "平方米", "m2": "平方米", "km²": "平方公里", "cm²": "平方厘米", "mm²": "平方毫米",
    "mmHg": "毫米汞柱", "mmol": "毫摩尔", "mol": "摩尔", "Ω": "欧姆", "kΩ": "千欧", "MΩ": "兆欧",
    "m³": "立方米", "m3": "立方米", "cm³": "立方厘米",
}  # fmt: skip
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_MEASURE = re.compile(
    rf"(?P<sign>(?<![\dA-Za-z)])[-+])?(?<![\dA-Za-z.,])(?P<low>{NUMBER})(?:{_TO}(?P<low_sign>-)?"
    rf"(?P<high>{NUMBER}))?{_SCALE}\s?(?P<unit>{_UNIT})(?:/(?P<per>{_UNIT}|[人天日月年次个]))?"
    r"(?![A-Za-z0-9²³°])"
)
_BASED = re.compile(
    rf"(?P<sign>(?<![\dA-Za-z)])-)?(?<![\dA-Za-z.,])(?P<low>{NUMBER}){_TO}(?P<high>{NUMBER})"
    r"(?P<counts>\s?[\u4e00-\u9fff]{0,3})(?![\dA-Za-z])"
)
_PER = re.compile(
    r"(?<=[元米克斤吨里升块角分次人个页件公])/(?=(?:平方米|[天日月年人次个斤台小分秒米克吨升公亩页件吨]))"
)
_FRACTION = re.compile(rf"{_STARTS}(?P<over>\d{{1,9}})/(?P<under>\d{{1,9}})(?![\d/A-Za-z]|\.\d)")
_MIXED = re.compile(
    rf"{_STARTS}(?P<whole>\d+)(?:又|\s)(?P<over>\d{{1,3}})/(?P<under>\d{{1,3}})(?![\d/])"
)
_RATIO = re.compile(
    rf"(?<![\dA-Za-z.:])(?:{NUMBER})(?:\s?[:：]\s?(?:{NUMBER})){{1,3}}(?![\d:A-Za-z])"
)
_PRESSURE = re.compile(r"(?<![\d.,])(\d{2,3})/(\d{2,3})(?=\s?mmHg)")
_SPAN = re.compile(
    r"(?:(?<=\d[万亿千百元℃°%米度岁天年月日号分秒斤人块])|(?<=°C)|(?<=°F)|(?<=\dkm)|(?<=\dkg)|(?<=\dcm)|(?<=\dmm))"
    r"\s?[-–—~～]\s?(?=\d)"
)
_ANGLE = re.compile(
    r"(?<![\d.])(?P<degrees>\d{1,3})°\s?(?P<minutes>\d{1,2})['’′](?:\s?(?P<seconds>\d{1,2}(?:\.\d+)?)[\"”″])?"
)
_SCORE = re.compile(
    r"(比分|战胜|大胜|击败|险胜|逆转|战平|负于|领先|以)(\s?)(\d{1,3})\s?[-–—:]\s?(\d{1,3})(?!\d)"
)
_SCORE_FIRST = re.compile(
    r"(?<![\d.])(\d{1,3})\s?[-–—:]\s?(\d{1,3})(?=\s?(?:战胜|大胜|击败|险胜|力克|逆转|战平|领先|获胜|取胜|落败|负于|落后|完胜|惜败))"
)
_SIGNS = {"-": "负", "+": "正", "": ""}


def with_money(text: str) -> str:
    """Text with its sums of money as words."""
    return _MONEY_BEHIND.sub(_money, _MONEY.sub(_money, text))


def with_measures(text: str) -> str:
    """Text with its percentages, measures, scores, ratios and fractions as words."""
    text = _ANGLE.sub(_angle, _PRESSURE.sub(r"\1比\2", text))
    text = _MEASURE.sub(_measure, _PERCENT.sub(_percent, _SPAN.sub("到", text)))
    text = _PER.sub("每", text)
    text = _MIXED.sub(
        lambda found: f"{cardinal(found['whole'])}又{fraction(found['over'], found['under'])}", text
    )
    text = _FRACTION.sub(lambda found: fraction(found["over"], found["under"]), text)
    text = _SCORE.sub(
        lambda found: f"{found[1]}{found[2]}{cardinal(found[3])}比{cardinal(found[4])}", text
    )
    text = _SCORE_FIRST.sub(lambda found: f"{cardinal(found[1])}比{cardinal(found[2])}", text)
    return _RATIO.sub(_ratio, text)


def _ratio(found: re.Match[str]) -> str:
    return "比".join(decimal(part.strip()) for part in re.split("[:：]", found[0]))


def _angle(found: re.Match[str]) -> str:
    seconds = f"{decimal(found['seconds'])}秒" if found["seconds"] else ""
    return f"{cardinal(found['degrees'])}度{decimal(found['minutes'])}分{seconds}"


def with_ranges(text: str, count: re.Pattern[str]) -> str:
    """Text with "3-5天" as words. count: what is counted, in front of which 2 is another word."""

    def said(found: re.Match[str]) -> str:
        behind = found["counts"].lstrip()
        read = counted if count.match(behind) else decimal
        sign = "负" if found["sign"] else ""
        return f"{sign}{read(found['low'])}到{read(found['high'])}{found['counts']}"

    return _BASED.sub(said, text)


def fraction(over: str, under: str) -> str:
    """ "1", "2" → "二分之一"."""
    return f"{cardinal(under)}分之{cardinal(over)}"


def _money(found: re.Match[str]) -> str:
    symbol = found["symbol"].strip()
    name = _SYMBOLS.get(symbol) or _CODES[symbol]
    sign = _SIGNS[found.groupdict().get("sign") or ""]
    scale = (found["scale"] or "").strip()
    high = f"到{counted(_whole(found['high']))}" if found["high"] else ""
    return f"{sign}{counted(_whole(found['low']))}{high}{scale}{name}"


def _whole(amount: str) -> str:
    return amount.removesuffix(".00")


def _percent(found: re.Match[str]) -> str:
    if found["one"]:
        sign = _SIGNS[found["one_sign"] or ""]
        return f"{sign}{_OF[found['one_mark']]}{decimal(found['one'])}"
    of = _OF[found["mark"]]
    second = of if found["first"] else ""
    sign = _SIGNS[found["sign"] or ""]
    return f"{sign}{of}{decimal(found['low'])}到{second}{decimal(found['high'])}"


def _measure(found: re.Match[str]) -> str:
    unit = _UNITS[found["unit"]]
    scale = (found["scale"] or "").strip()
    words = counted(found["low"])
    sign = _SIGNS[found["sign"] or ""]
    if found["sign"] == "-" and unit in {"摄氏度", "华氏度"}:
        sign = "零下"
    if found["high"]:
        words += f"到{'零下' if found['low_sign'] else ''}{counted(found['high'])}"
    if found["per"]:
        return f"每{_UNITS.get(found['per'], found['per'])}{sign}{words}{scale}{unit}"
    if "每" in unit:  # "转每分钟"
        what, _, per = unit.partition("每")
        return f"每{per}{sign}{words}{scale}{what}"
    return f"{sign}{words}{scale}{unit}"
