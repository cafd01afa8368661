"""Units in LaTeX, siunitx and words, rewritten as the symbols that `_quantity_text` reads."""

import re
import unicodedata

from distil_core.verifiers._answer_text import closing_brace

_MAX_MACROS = 8
_SIUNITX = re.compile(
    r"\\(SI|qty|num|si|unit|ang|SIlist)(?![a-zA-Z])\s*(?:\[[^\[\]]{0,80}\])?\s*(?=\{)"
)
_OPTION = re.compile(r"\s*(?:\[[^\[\]]{0,80}\])?\s*(?=\{)")
_PREFIXES = (
    "quecto|ronto|yocto|zepto|atto|femto|pico|nano|micro|milli|centi|deci|deca|deka|hecto|kilo|mega"
    "|giga|tera|peta|exa|zetta|yotta|ronna|quetta"
)
_UNIT_MACROS = (
    (re.compile(r"\\(?:tothe|raiseto)\s*\{\s*([-+]?\d{1,3})\s*\}"), r"^\1 "),
    (re.compile(r"\\per(?![a-zA-Z])"), " / "),
    (re.compile(r"\\squared(?![a-zA-Z])"), "^2 "),
    (re.compile(r"\\cubed(?![a-zA-Z])"), "^3 "),
    (re.compile(r"\\(?:degreeCelsius|celsius)(?![a-zA-Z])"), " °C "),
    (re.compile(r"\\(?:degree|arcdegree)(?![a-zA-Z])"), " ° "),
    (re.compile(r"\\percent(?![a-zA-Z])"), " % "),
    (re.compile(rf"\\({_PREFIXES})\s*\\(?=[a-zA-Z])"), r"\\\1"),
    (re.compile(r"\\([a-zA-Z]{1,40})\s*"), r" \1 "),
    (re.compile(r"(?<=[a-zA-Z}\d])\.(?=[a-zA-Z\\])|~"), " "),
)
_GROUP = r"\\(?:text[a-z]{0,6}|math[a-z]{2,6}|operatorname|mbox|hbox|bm|boldsymbol|rm|bf)\s*\*?\s*"
_LATEX = (
    # The prefix in \mathrm{k}\Omega, which is no unit by itself.
    (re.compile(rf"{_GROUP}\{{\s*~?\s*([a-zA-Zµ]|da)\s*\}}\s*(?=\\Omega|Ω)"), r" \1"),
    (re.compile(rf"{_GROUP}\{{((?:[^{{}}\\]|\\[^a-zA-Z{{}}]|\\[a-zA-Z]+(?!\s*\{{))*)\}}"), r" \1 "),
    (re.compile(r"~(?=\s*[a-zA-Z\\])"), " "),
    (re.compile(r"\{\s*\}?\s*\^\s*\\circ\s*\}"), "°"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\(?:degree|circ)(?![a-zA-Z])|[º˚]"), "°"),
    (re.compile(r"\^\s*\{?\s*\\prime\s*\\prime\s*\}?|''|\u2032\u2032"), "\u2033"),
    (re.compile(r"\^\s*\{?\s*\\prime\s*\}?"), "\u2032"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|[\u00d7\u00b7\u22c5\u2219\u2022]"), " * "),
    (re.compile(r"\\(?:Omega|ohm|upOmega)(?![a-zA-Z])\s*"), "Ω "),
    (re.compile(r"\\(?:u|up|text)?(?:mu|micro)(?![a-zA-Z])\s*"), "µ"),
    (re.compile(r"\\(?:AA|r?angstrom)(?![a-zA-Z])\s*"), "Å "),
    (re.compile(r"\\(?:ell)(?![a-zA-Z])"), "L"),
    (re.compile(r"\\hbar(?![a-zA-Z])"), "ħ"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\(?:rm|mathrm|bf|it)(?![a-zA-Z])\s*"), " "),
    (
        re.compile(r"\\frac\s*\{([^{}]*[^\W\d_][^{}]*|1)\}\s*\{([^{}]*[^\W\d_][^{}]*)\}"),
        r"(\1)/(\2)",
    ),
)
_CHARACTERS = {
    "\u03bc": "µ", "\u2126": "Ω", "\u03a9": "Ω", "\u212b": "Å", "\u2103": "°C", "\u2109": "°F",
    "\u2113": "L", "\u210f": "ħ", "㎜": "mm", "㎝": "cm",
    "㎞": "km", "㎏": "kg", "㎡": "m^2", "㎥": "m^3",
}  # fmt: skip
_DEGREES = r"(?:degrees?|deg\.?|°)\s*"
_WORDS = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (rf"{_DEGREES}(?:celsius|centigrade)\b", "°C"),
        (rf"{_DEGREES}fahrenheit\b", "°F"),
        (rf"{_DEGREES}kelvins?\b", "kelvin"),
        (rf"{_DEGREES}rankine\b", "°R"),
        (r"\bper\s+cent\b", "%"),
        (r"\bparts\s+per\s+million\b", "ppm"),
        (r"\bparts\s+per\s+billion\b", "ppb"),
        (r"\blight[ -]?(year|second|minute|hour)s?\b", r"light\1"),
        (r"electron[ -]volts?\b", "electronvolt"),
        (r"\bnautical[ -]miles?\b", "nmi"),
        (r"\bastronomical[ -]units?\b", "au"),
        (r"\b(?:unified\s+)?atomic[ -]mass[ -]units?\b", "amu"),
        (r"\bmetric[ -]ton(?:ne)?s?\b", "tonne"),
        (r"\bhorse[ -]powers?\b", "horsepower"),
        (r"\b(?:mm|millimet(?:er|re)s?)[ -]?(?:of\s+)?(?:hg|mercury)\b", "mmHg"),
        (r"\b(?:in|inch(?:es)?)[ -]?(?:of\s+)?(?:hg|mercury)\b", "inHg"),
        (r"\bpounds?[ -]force\b", "lbf"),
        (r"\b(?:kilogram|kg)s?[ -]force\b", "kgf"),
        (r"\bpounds?\s+per\s+square\s+inch\b", "psi"),
        (r"\b(?:foot|feet|ft)[ .*-]{1,3}(?:pounds?|lbs?)\b(?![ -]*(?:force|f))", "footpound"),
        (r"\bfluid[ -]ounces?\b|\bfl\.?\s*oz\.?", "floz"),
        (r"\barc[ -](minute|second)s?\b", r"arc\1"),
        (r"\bbritish\s+thermal\s+units?\b", "BTU"),
        (r"\bstandard\s+atmospheres?\b", "atm"),
        (rf"\b({_PREFIXES})[ -](?=[a-z])", r"\1"),
        (r"\b(sq|cu)\.\s*", r"\1 "),
    )
)
_DEGREE_SYMBOL = re.compile(rf"{_DEGREES}([CFKR])(?![a-zA-Z])")


def plain_units(text: str) -> str:
    """The text with its units as symbols and plain words. The caller bounds its length and
    nesting."""
    text = unicodedata.normalize("NFC", text)
    for _ in range(_MAX_MACROS):
        if (expanded := _without_siunitx(text)) == text:
            break
        text = expanded
    for pattern, replacement in _LATEX:
        # Three times, since groups such as \mathrm{\text{m}} nest.
        for _ in range(3):
            text = pattern.sub(replacement, text)
    text = "".join(_CHARACTERS.get(character, character) for character in text)
    text = re.sub("Ω(?=[^\\W\\d_])", "Ω ", text)
    for words, symbol in _WORDS:
        text = words.sub(symbol, text)
    return _DEGREE_SYMBOL.sub(r"°\1", text)


def _without_siunitx(text: str) -> str:
    """The first siunitx macro expanded: `\\SI{5}{\\kilo\\metre}` to `5 kilometre`."""
    match = _SIUNITX.search(text)
    if match is None:
        return text
    arguments: list[str] = []
    position = match.end()
    for _ in range(2 if match[1] in ("SI", "qty") else 1):
        option = _OPTION.match(text, position)
        end = closing_brace(text, option.end()) if option else -1
        if option is None or end < 0:
            return text
        arguments.append(text[option.end() + 1 : end])
        position = end + 1
    return f"{text[: match.start()]} {_expanded(match[1], arguments)} {text[position:]}"


def _expanded(macro: str, arguments: list[str]) -> str:
    if macro == "ang":
        degrees = arguments[0].split(";")
        return " ".join(
            f"{part}{sign}" for part, sign in zip(degrees, "°\u2032\u2033", strict=False) if part
        )
    number = "" if macro in ("si", "unit") else arguments[0]
    if macro == "num":
        return number
    unit = arguments[-1]
    for pattern, replacement in _UNIT_MACROS:
        unit = pattern.sub(replacement, unit)
    return f"{number} {unit}"
