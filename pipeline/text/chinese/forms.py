"""Written forms of Chinese as spoken words.

Our own rules: wetext reads "2月2日" as "二月两日" and "1,234" as "一,两百三十四".
"""

from __future__ import annotations

import re

from pipeline.text.addresses import EMAIL, with_said_addresses
from pipeline.text.chinese import amounts, calendar_forms
from pipeline.text.chinese.numerals import cardinal, decimal, dialled, spelt
from pipeline.text.unicode_forms import MINUS

_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_NUMBER = amounts.NUMBER
_SPACED = re.compile(rf"(?<=[{_HAN}])[ ](?=[-+]?\d)(?!\d{{1,2}}[.)、])|(?<=\d)[ ](?=[{_HAN}])")
_ALONE = r"(?<![\dA-Za-z.,+-])"
_DASH = r"[ -]?"
_TELEPHONE = re.compile(
    rf"{_ALONE}(?:(?P<country>\+?\(?86\)?|0086){_DASH})?(?:"
    rf"1[3-9]\d{_DASH}\d{{4}}{_DASH}\d{{4}}"
    r"|\(?0\d{2,3}\)?[ -]?\d{7,8}(?:(?:-|转|\s?ext\.?\s?)\d{1,6})?|0\d{2,3}[ -]\d{3,4}[ -]\d{4}"
    r"|[48]00[ -]?\d{3}[ -]?\d{4}|[48]00[ -]?\d{4}[ -]?\d{3}"
    r")(?![\d%]|[.,]\d)"
    rf"|{_ALONE}\+\d{{1,3}}(?:[ -]?\(?\d{{1,4}}\)?){{2,5}}(?![\d%]|[.,]\d)"
)
_NOT_DIALLED = re.compile(r"[() -]+")
_LEAST_TELEPHONE_DIGITS = 7
_HOTLINE = re.compile(
    r"(?P<before>(?:电话|拨打|致电|热线|报警|急救|火警|客服|服务台|短号|专线|打|拨|呼叫)(?:号码?|是|为|：|:|\s)*)"
    r"(?P<number>\d{3,6})(?![\d%.,:/A-Za-z]|-\d|[年月日元个人次分天])"
)
_HOTLINE_FIRST = re.compile(
    r"(?<![\d.,])(?P<number>110|119|120|122|114|12[0-9]{3}|100[0-9]{2}|95\d{3})(?![\d.,])"
    r"(?=(?:报警|急救|火警|热线|客服|服务|电话|平台|专线|网站|购票))"
)
_KNOWN_LINE = re.compile(
    r"(?<![\d.,¥$-])(?:955\d\d|100(?:00|10|86)|123(?:06|15|45)热线|12306|12315)(?![\d.,]|[元人个年月万])"
)
_CODE = re.compile(
    r"(?P<before>(?:号码|密码|验证码|口令|代码|邮编|邮政编码|QQ|编号|单号|卡号|尾号|学号|工号|账号|帐号|车牌|航班|车次|房号|"
    r"房间|单元|ID|身份证|账户|股票代码|取件码|兑换码|提取码|会议号|邀请码|群号|GB/T|GB|ISO|IEEE|RFC)(?:号码?|是|为|：|:|\s|为：|是：)*)"
    r"(?P<number>\d[\d -]{2,30}\d|\d{2,})(?![\d%,:/]|\.\d)"
)
_ROOM = re.compile(
    rf"{_ALONE}(?P<number>\d{{3,4}})(?=室|房|号房|包间|教室|路公交|路车|航班|次列车|次航班)"
)
_TRAIN = re.compile(r"(?<![A-Za-z])(?P<kind>[GDCZTK])(?P<number>\d{1,4})(?=次|号?列车)")
_FLIGHT = re.compile(r"(?<![A-Za-z0-9])(?P<kind>[A-Z]{2})(?P<number>\d{3,4})(?=次?航班)")
_NAMED = re.compile(
    r"(?<![\d.,A-Za-z])(?P<number>996|985|211|618|315|911|007)"
    r"(?=[”\"』]?(?:大学|院校|高校|工程|工作制|加班|晚会|大促|购物节|活动|事件|模式|的工作|和|、|/|或))"
)
_SHOPPING = re.compile(r"(?<=双)1[12](?!\d)")
_VERSION = re.compile(r"(?<![A-Za-z])[Vv]?(?P<groups>\d{1,4}(?:\.\d{1,4}){2,4})(?![\d%])")
_LETTER_V = re.compile(r"(?<![A-Za-z])[Vv](?P<number>\d+\.\d+)(?![\d.])")
_ROMAN = re.compile(r"(?<![A-Za-z])(?P<roman>VI{1,3}|I[VX]|I{1,3}|V|X)(?=[期型级类度世章卷部届])")
_ROMANS = {
    "I": "1", "II": "2", "III": "3", "IV": "4", "V": "5", "VI": "6", "VII": "7", "VIII": "8",
    "IX": "9", "X": "10",
}  # fmt: skip
_HOUSE = re.compile(r"(?<=\d)#(?=[楼栋号机门])")
_TOPIC = re.compile(r"#(?P<topic>[^\s#]{1,40})#")
_MENTION = re.compile(rf"(?<![A-Za-z0-9._])@(?=[{_HAN}A-Za-z])")
_ITEM = re.compile(r"(?:(?<=\s)|^)(?P<number>\d{1,2})\.[ ](?=\S)")
_CARD = re.compile(r"(?<![\d.,-])\d{4}(?:[ -]\d{4}){2,}(?:[ -]\d{1,4})?(?![\d.,-])")
_NO = re.compile(r"(?<![A-Za-z])(?:No\.|NO\.|№)\s?(?P<number>\d+)")
_BEFORE_NUMBERS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"\s?(?:≥|>=|⩾)\s?(?=[-\d])", "大于等于"),
        (r"\s?(?:≤|<=|⩽)\s?(?=[-\d])", "小于等于"),
        (r"\s?>\s?(?=[-\d])", "大于"),
        (r"\s?<\s?(?=[-\d])", "小于"),
        (r"\s?≠\s?", "不等于"),
        (r"\s?[≈≅]\s?", "约等于"),
        (r"\s?(?:±|\+/-)\s?", "正负"),
        (r"(?<=[大约])[~～∼]\s?(?=\d)", ""),
        (r"(?<![\w~℃°])[~～∼]\s?(?=\d)", "大约"),
        (r"√\s?(?=\d)", "根号"),
        ("∞", "无穷大"),
    )
)
_OPERATORS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"(?<=[\dA-Za-z)²³⁴])\s?[+＋]\s?(?=[\dA-Za-z(])", "加"),
        (r"(?<=[\d万亿千百])\+(?!\d)", "加"),
        (rf"\s?{MINUS}\s?", "减"),
        (r"(?<=[\d)])\s?[*xX]\s?(?=[\d(])|\s?×\s?(?=\w)", "乘"),
        (r"(?<=[\d)])\s?÷\s?(?=[\d(])", "除以"),
        (r"(?<=[\w)%])\s?=\s?(?=[\w(-])", "等于"),
        (rf"(?<=[{_HAN}A-Za-z])\s?&\s?(?=[{_HAN}])", "和"),
    )
)
_MINUS = re.compile(r"(?<=\d)\s?-\s?(?=\d+(?:\.\d+)?\s?(?:等于|=))")
_POWER = re.compile(r"(?<=[\dA-Za-z)])(?:\^(?P<up>\d{1,2})|(?P<raised>[²³⁴⁵⁶⁷⁸⁹]))")
_RAISED = dict(zip("²³⁴⁵⁶⁷⁸⁹", "23456789", strict=True))
_COUNTED = re.compile(
    r"[个只条件天位名岁块元斤吨倍种张本台辆套家座层份步句杯瓶碗把支枝盒包袋双对组群批篇首部颗粒滴门顿项轮局场款间匹头棵朵"
    r"枚幅扇盏顶根株片堆排米克升秒人口页亩]|分(?!之)"
    r"|次(?![方元要])|个月|周|小时|分钟|刻钟|公里|千米|厘米|毫米|平方|立方|千克|公斤|年(?!级|代|\d)|毛|分钱|角|枪|手机|夜|宿|倍"
)
_SECOND = re.compile(r"(?:第|初|星期|周|礼拜)$")
_NUMBERS = re.compile(
    rf"(?P<sign>(?<![\w)）%])[-+]|(?<=[{_HAN}])-(?=[\d.]+[度米元]))?"
    rf"(?<![\dA-Za-z_.])(?P<number>{_NUMBER})(?P<scale>万亿|[百千万亿]+)?"
    r"(?P<gap>\s?)(?![\d]|\.\d)"
)
_AFTER_LETTERS = re.compile(
    r"(?P<letters>[A-Z][A-Za-z]*|[A-Za-z]*[A-Z])(?P<gap>[ -]?)(?P<number>\d+(?:\.\d+)?)(?!\d)"
)
_NAME_DASH = re.compile(rf"(?<=[{_HAN}])-(?=\d{{1,3}}(?![\d.]|[度米元%]))")  # "歼-20"
_LONGEST_CARDINAL = 11  # digits; more are a code
_LONGEST_MODEL = 2
_SIGNS = {"-": "负", "+": "正", "": ""}
_SAID_IN_ADDRESS = {
    ".": "点", "/": "斜杠", "-": "杠", "_": "下划线", "@": "艾特", ":": "冒号", "?": "问号",
    "=": "等于", "&": "和", "#": "井号", "%": "百分号", "+": "加", "~": "波浪线", "\\": "反斜杠",
}  # fmt: skip
_HAN_AFTER = 12  # characters behind a number that say what it counts


def with_words(text: str) -> str:
    """Chinese text → the same with its written forms as words.

    Sums, dates, times, telephone numbers, measures, fractions, ranges, codes, addresses, signs
    between numbers, numbers. Pinyin with tones ("guo4") stays.
    """
    text = EMAIL.sub(lambda found: _address(found["user"] + "@" + found["host"]), text)
    text = with_said_addresses(text, _address)
    text = _MENTION.sub("艾特", _TOPIC.sub(r"\g<topic>，", text))
    text = _ROMAN.sub(lambda found: _ROMANS[found["roman"]], text)
    if not any(character.isnumeric() for character in text):
        return text
    text = _SPACED.sub("", _ITEM.sub(lambda found: cardinal(found["number"]) + "、", text))
    text = calendar_forms.with_times(calendar_forms.with_dates(text))
    text = _CARD.sub(lambda found: _in_groups(found[0]), text)
    text = _TELEPHONE.sub(_telephone, text)
    text = _codes(text)
    for pattern, words in _BEFORE_NUMBERS:
        text = pattern.sub(words, text)
    text = amounts.with_measures(amounts.with_money(_VULGAR.sub(_vulgar, text)))
    text = _NAME_DASH.sub("", _AFTER_LETTERS.sub(_model, _operated(text)))
    text = amounts.with_ranges(text, _COUNTED)
    return _NUMBERS.sub(_number, text)


def digits(text: str) -> str:
    """The digits of a text, one by one; other characters but white space and hyphens stay."""
    return "".join(
        spelt(c) if c.isascii() and c.isdecimal() else c for c in text if c not in " -\t"
    )


def telephone(text: str) -> str:
    """The digits of a text in groups, as a telephone number is said."""
    plus = "加" if text.lstrip().startswith("+") else ""
    return plus + "，".join(map(dialled, re.findall(r"[0-9]+", text)))


def number(sign: str, digits: str) -> str:
    """A number; the sign is "-", "+" or nothing."""
    return _SIGNS[sign] + decimal(digits)


def ordinal(digits: str) -> str:
    """Digits → "第二十一"."""
    return "第" + cardinal(digits)


def fraction(whole: str | None, over: str, under: str) -> str:
    """ "1", "3", "4" → "一又四分之三"."""
    return (f"{cardinal(whole)}又" if whole else "") + amounts.fraction(over, under)


_VULGAR = re.compile("(?P<whole>[0-9]+)?(?P<part>[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒])")
_PARTS = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5",
    "⅗": "3/5", "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8",
    "⅞": "7/8", "⅐": "1/7", "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip


def _vulgar(found: re.Match[str]) -> str:
    over, under = _PARTS[found["part"]].split("/")
    return fraction(found["whole"], over, under)


def _codes(text: str) -> str:
    """Text with its numbers that are names, digit by digit."""
    text = _HOTLINE.sub(lambda found: found["before"] + dialled(found["number"]), text)
    text = _HOTLINE_FIRST.sub(lambda found: dialled(found["number"]), text)
    text = _KNOWN_LINE.sub(lambda found: re.sub(r"\d+", _dialled, found[0]), text)
    text = _TRAIN.sub(lambda found: found["kind"] + dialled(found["number"]), text)
    text = _FLIGHT.sub(lambda found: found["kind"] + dialled(found["number"]), text)
    text = _NAMED.sub(lambda found: spelt(found["number"]), text)
    text = _SHOPPING.sub(lambda found: cardinal(found[0]), text)
    text = _CODE.sub(lambda found: found["before"] + _in_groups(found["number"]), text)
    text = _ROOM.sub(lambda found: dialled(found["number"]), text)
    text = _VERSION.sub(_version, text)
    text = _LETTER_V.sub(lambda found: "V" + decimal(found["number"]), text)
    text = _NO.sub(lambda found: cardinal(found["number"]) + "号", text)
    return _HOUSE.sub("号", text) if "#" in text else text


def _operated(text: str) -> str:
    for pattern, words in _OPERATORS:
        text = pattern.sub(words, text)
    text = _MINUS.sub("减", text)
    return _POWER.sub(_power, text)


def _power(found: re.Match[str]) -> str:
    up = found["up"] or _RAISED[found["raised"]]
    return {"2": "的平方"}.get(up) or f"的{cardinal(up)}次方"


def _telephone(found: re.Match[str]) -> str:
    written = found[0]
    groups = re.findall(r"\d+", written)
    if sum(map(len, groups)) < _LEAST_TELEPHONE_DIGITS:
        return written
    plus = "加" if written[0] == "+" else ""
    said = _NOT_DIALLED.sub("，", written.strip("+() -"))
    return plus + re.sub(r"\d+", _dialled, said)


def _dialled(digits: re.Match[str]) -> str:
    return dialled(digits[0])


def _in_groups(number: str) -> str:
    return "，".join(map(dialled, re.findall(r"\d+", number)))


def _version(found: re.Match[str]) -> str:
    groups = found["groups"].split(".")
    letter = found[0][0] if found[0][0] in "Vv" else ""
    is_address = len(groups) == 4 and not letter  # noqa: PLR2004 - bytes of one
    return letter.upper() + "点".join(map(spelt if is_address else cardinal, groups))


def _number(found: re.Match[str]) -> str:
    digits, scale = found["number"], found["scale"] or ""
    text, start, end = found.string, found.start(), found.end("scale" if scale else "number")
    sign = _SIGNS[found["sign"] or ""]
    is_counted = scale[:1] in "万亿千" if scale else _COUNTED.match(text[end : end + _HAN_AFTER])
    if digits == "2" and is_counted and not _SECOND.search(text[max(start - 2, 0) : start]):
        words = "两"
    elif digits.isdecimal() and len(digits) > _LONGEST_CARDINAL:
        words = spelt(digits)
    else:
        words = decimal(digits)
    return sign + words + scale + found["gap"]


def _model(found: re.Match[str]) -> str:
    """ "A4" → "A四"; what has three digits and more is read as a code."""
    digits = found["number"]
    is_code = digits.isdecimal() and len(digits) > _LONGEST_MODEL
    gap = "" if found["gap"] == "-" else found["gap"]
    return found["letters"] + gap + (dialled(digits) if is_code else decimal(digits))


def _address(address: str) -> str:
    address = re.sub(r"\d{2,}", lambda digits: spelt(digits[0]), address)
    return "".join(_SAID_IN_ADDRESS.get(character, character) for character in address)
