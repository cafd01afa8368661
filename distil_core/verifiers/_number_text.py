"""Reads a text as ONE number, with the unit around it if there is one, and compares two of them.

The whole text must be the number: a text that goes on (`18 or 17`, `18*2`, `18-20`, `1,2,3,4`) is
not one. Values are exact fractions. Nothing is evaluated except one fraction, one power of ten and
one scale word (`2.5 million`). docs/answers.md states the rule as a table, which a test reads.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from distil_core.verifiers._answer_text import unmarked
from distil_core.verifiers._arithmetic_expressions import Expression, tokens_of
from distil_core.verifiers._final_answer import MAX_ANSWER_CHARACTERS
from distil_core.verifiers._number_units import factor_between, is_percent, unit_words

_MAX_EXPONENT = 400
_MAX_EQUATION_TOKENS = 64

VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5",
    "⅗": "3/5", "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8",
    "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT = re.compile("[⁻⁺-]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_TEXT = re.compile(
    r"\\(?:text\w{0,6}|math[a-z]{2,6}|mbox|bm|boldsymbol|operatorname)\s*\{([^{}]*)\}"
)
_LATEX = (
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|[\u00d7\u00b7\u22c5\u2219]"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])|÷"), "/"),
    (re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?|\\degree|\\circ|º|˚"), "°"),
    (re.compile(r"\\(?:approx|simeq|sim)(?![a-zA-Z])|[≃≅~]"), "≈"),
    (re.compile(r"\\pounds(?![a-zA-Z])"), "£"),
    (re.compile(r"\\euro(?![a-zA-Z])"), "€"),
)  # fmt: skip
_ANNOUNCED = re.compile(
    r"(?:so|thus|hence|therefore)?,?\s*(?:the\s+|my\s+)?(?:final\s+|correct\s+)?(?:answer|result)"
    r"\s*(?:is\b|=|:)\s*:?\s*",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"(?!.*\b(?:not|isn't|never)\b)(?:"
    r"\\?[^\W\d_]{1,20}(?:_\{?\w{1,10}\}?)?'?(?:\s?\([\w, ]{1,10}\))?"
    r"|m?\s?(?:\\angle|∠|\\triangle|\\overline|\\overrightarrow)\s*\{?[A-Z]{1,3}\}?|\|[A-Z]{1,3}\|"
    r"|[^\W\d_]{1,30}(?:[ '-]{1,2}[^\W\d_]{1,30}){0,7})"
)
_CONTRADICTED = re.compile(r",?\s*\(?\s*(?:and\s+)?not\s+[-+$\d.,/ ]{1,30}\)?$", re.IGNORECASE)

_CURRENCY = r"(?:(?:US|CA|AU|NZ|HK|C|A|S)?\$|[€£¥₹₽₩₪₫₺₴₦₱฿]|(?:USD|EUR|GBP|INR|Rs\.?)(?=[\s\d]))"
_DIGITS = (
    r"(?:\d{1,3}(?:,\d{3}){1,12}(?![,\d])|\d{1,3}(?: \d{3}){1,12}(?!\d| \d)|\d{1,400}(?!,?\d))"
)
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d{{1,400}})?|\.\d{{1,400}})"
_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "k": 10**3, "million": 10**6, "billion": 10**9,
    "trillion": 10**12, "bn": 10**9, "mn": 10**6, "lakh": 10**5, "crore": 10**7, "dozen": 12,
}  # fmt: skip
_NUMBER = re.compile(
    rf"(?P<sign>[-+])?\s*(?P<currency>{_CURRENCY})?\s*(?P<inner_sign>[-+])?\s*(?:"
    rf"(?:(?P<whole>{_DIGITS})(?:\s+and\s+|\s*[ +]?(?=\\frac)|\s+))?"
    r"(?:\\frac\s*(?:\{\s*(?P<top>-?\s*[\d.,]{1,60})\s*\}|(?P<top1>\d))"
    r"\s*(?:\{\s*(?P<bottom>-?\s*[\d.,]{1,60})\s*\}|(?P<bottom1>\d))"
    rf"|(?P<over>{_DECIMAL})\s*/\s*(?P<under>{_DECIMAL})(?![\d.,]))"
    r"|(?P<repeating>\d{0,40}\.\d{0,40})\\(?:overline|dot|bar)\s*\{?(?P<period>\d{1,40})\}?"
    rf"|(?P<decimal>{_DECIMAL})(?:[eE](?P<e>[-+]?\d{{1,4}})(?!\d))?"
    r"(?:\s*[*xX]\s*10\s*(?:\^|\*\*)\s*(?:\{\s*(?P<p1>[-+]?\s*\d{1,4})\s*\}|\(\s*(?P<p2>[-+]?\d{1,4})\s*\)"
    r"|(?P<p3>[-+]?\d{1,4})))?"
    r")(?![\d.]*\d)"
)  # fmt: skip
# `18K` is 18,000 and `18 K` a temperature.
_SCALE = re.compile(
    rf"(?:\s*({'|'.join(name for name in _SCALES if name != 'k')})s?|(?<=\d)(k))(?![a-zA-Z])",
    re.IGNORECASE,
)
_BARE_POWER = re.compile(r"^([-+]?)\s*10\s*(?:\^|\*\*)\s*(?=[{(\d+-])")
_CLOCK = re.compile(
    r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))?\s*(?:([ap])\.?\s?m\.?)?(?:\s*o'clock)?", re.IGNORECASE
)


@dataclass(frozen=True)
class NumberText:
    """A number as it was written. unit: its words in order, in lower case where they are full
    words; () where there is none. approximate: the text says "about"."""

    value: Fraction
    unit: tuple[str, ...] = ()
    approximate: bool = False


@dataclass(frozen=True)
class ClockText:
    """A time of day in seconds after midnight. exact: the text says a.m. or p.m., or the hour
    implies it."""

    seconds: int
    exact: bool


def read_number(text: str) -> NumberText | None:
    """The whole text as one number, or None. `x = 18` and `9 * 2 = 18` are read as 18; `17 = 18` is
    None."""
    if len(text) > MAX_ANSWER_CHARACTERS:
        return None
    plain = prepared(text)
    plain = plain[announced.end() :] if (announced := _ANNOUNCED.match(plain)) else plain
    *before, last = re.split("[=≈]", _CONTRADICTED.sub("", plain))
    number = _number_with_unit(last.strip())
    if number is None or not all(_may_stand_before(part.strip(), number) for part in before):
        return None
    is_approximate = plain.rfind("≈") > plain.rfind("=")
    return NumberText(number.value, number.unit, True) if is_approximate else number


def read_clock(text: str) -> ClockText | None:
    """The whole text as a time of day (`10:30 a.m.`, `22:30`, `5 pm`), or None."""
    match = _CLOCK.fullmatch(unmarked(_TEXT.sub(r" \1 ", text[:MAX_ANSWER_CHARACTERS])))
    if match is None or not (match[2] or match[4]) or int(match[1]) > (12 if match[4] else 24):
        return None
    hours = int(match[1])
    if match[4]:
        hours = hours % 12 + (12 if match[4] in "pP" else 0)
    seconds = 3600 * hours + 60 * int(match[2] or 0) + int(match[3] or 0)
    return ClockText(seconds, match[4] is not None or not 1 <= int(match[1]) <= 12)


def same_number(reference: NumberText, answer: NumberText) -> bool:
    """Whether the answer is exactly the reference's number. A unit may be missing on either side;
    two units must mean the same or be convertible (0.18 m, 18 cm)."""
    if answer.approximate and not reference.approximate and reference.value.denominator == 1:
        return False
    one, other = is_percent(reference.unit), is_percent(answer.unit)
    if one != other and not (reference.unit and answer.unit):
        percent, number = (reference, answer) if one else (answer, reference)
        return number.value in (percent.value, percent.value / 100)
    factor = factor_between(answer.unit, reference.unit)
    return factor is not None and answer.value * factor == reference.value


def normal_form(reference: NumberText, answer: NumberText) -> str:
    """One form for all answers that are equal under this reference."""
    if same_number(reference, answer):
        return str(reference.value)
    factor = None if is_percent(answer.unit) else factor_between(answer.unit, reference.unit)
    value = str(answer.value) if factor is None else str(answer.value * factor)
    unit = " ".join(answer.unit) if factor is None else ""
    return f"{'about ' if answer.approximate else ''}{value} {unit}".strip()


def same_clock(reference: ClockText, answer: ClockText) -> bool:
    """Whether the times are equal. The answer may be more exact than the reference (3:00 p.m. for
    3:00), but not less."""
    if reference.exact:
        return reference.seconds == answer.seconds
    return reference.seconds % 43200 == answer.seconds % 43200


def prepared(text: str) -> str:
    """The text without marks and with its number in ASCII, as `leading_number` reads it."""
    plain = unmarked(_TEXT.sub(r" \1 ", unmarked(text)))
    for pattern, replacement in _LATEX:
        plain = pattern.sub(replacement, plain)
    plain = "".join(f" {VULGAR[c]} " if c in VULGAR else c for c in plain)
    plain = _SUPERSCRIPT.sub(_as_power, plain)
    return " ".join(plain.split())


def _as_power(match: re.Match[str]) -> str:
    plain = match[0].translate(_SUPERSCRIPTS)
    return match[0] if match[0].isascii() else f"^{{{plain}}}"


def _number_with_unit(text: str) -> NumberText | None:
    if text.startswith("(") and text.endswith(")") and text.count("(") == 1:
        text = text[1:-1].strip()
    text = _with_whole_power(text)
    number = _matched_number(text)
    if number is None:
        return None
    match, value = number
    end = match.end()
    while scale := _SCALE.match(text, end):
        value *= _SCALES[(scale[1] or scale[2]).lower()]
        end = scale.end()
    unit = unit_words(match["currency"] or "", text[end:])
    return None if unit is None else NumberText(value, unit)


def leading_number(text: str) -> tuple[Fraction, str] | None:
    """The number, without currency, at the start of a prepared text, and the rest of the text."""
    text = _with_whole_power(text)
    number = _matched_number(text)
    if number is None or number[0]["currency"]:
        return None
    return number[1], text[number[0].end() :]


def _with_whole_power(text: str) -> str:
    return _BARE_POWER.sub(r"\g<1>1*10^", text)


def _matched_number(text: str) -> tuple[re.Match[str], Fraction] | None:
    match = _NUMBER.match(text)
    value = _value(match) if match else None
    return None if match is None or value is None else (match, value)


def _value(match: re.Match[str]) -> Fraction | None:
    """The number's value; None for a division by zero and an exponent beyond 400."""
    exponent = sum(int((match[n] or "0").replace(" ", "")) for n in ("e", "p1", "p2", "p3"))
    if abs(exponent) > _MAX_EXPONENT:
        return None
    try:
        if match["decimal"]:
            value = _fraction(match["decimal"]) * Fraction(10) ** exponent
        elif match["period"]:
            value = _repeating(match["repeating"], match["period"])
        else:
            top = match["top"] or match["top1"] or match["over"]
            bottom = match["bottom"] or match["bottom1"] or match["under"]
            value = _fraction(top) / _fraction(bottom)
            if match["whole"]:
                value += _fraction(match["whole"])
    except (ValueError, ZeroDivisionError):
        return None
    signs = (match["sign"] or "") + (match["inner_sign"] or "")
    return None if len(signs) > 1 else -value if signs == "-" else value


def _fraction(digits: str) -> Fraction:
    return Fraction(re.sub(r"[ ,]", "", digits))


def _repeating(digits: str, period: str) -> Fraction:
    whole, _, fixed = digits.partition(".")
    repeated = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    return Fraction(f"{whole or 0}.{fixed or 0}") + repeated


def _may_stand_before(part: str, number: NumberText) -> bool:
    """What may precede an equals sign: nothing, a name, the same number, or arithmetic that yields
    it."""
    if not part or _NAME.fullmatch(part):
        return True
    if stated := _number_with_unit(part):
        return same_number(number, stated)
    tokens = tokens_of(part)[: _MAX_EQUATION_TOKENS + 1]
    if len(tokens) > _MAX_EQUATION_TOKENS:
        return False
    reading = Expression(tokens, Fraction(1)).whole()
    return reading is not None and reading.value == number.value
