"""One expression of an answer, rewritten in the LaTeX that latex2sympy reads."""

import re

from distil_core.verifiers._number_text import VULGAR
from distil_core.verifiers._number_units import unit_words

_COMMANDS = {
    "times": "\u00d7", "cdot": "\u00b7\u22c5\u2219", "le": "\u2264\u2a7d", "ge": "\u2265\u2a7e",
    "ne": "\u2260", "approx": "\u2248", "infty": "\u221e", "pi": "\u03c0", "cup": "\u222a",
    "cap": "\u2229", "emptyset": "\u2205", "in": "\u2208", "pm": "\u00b1", "mp": "\u2213",
    "lor": "\u2228", "land": "\u2227", "sum": "\u2211", "int": "\u222b", "alpha": "\u03b1",
    "beta": "\u03b2", "gamma": "\u03b3", "delta": "\u03b4", "varepsilon": "\u03b5",
    "theta": "\u03b8", "lambda": "\u03bb", "mu": "\u03bc\u00b5", "rho": "\u03c1",
    "sigma": "\u03c3", "tau": "\u03c4", "varphi": "\u03c6", "omega": "\u03c9",
}  # fmt: skip
_SIGNS = {
    "\u00f7": "/", "\u211d": r"\mathbb{R}", "\u2124": r"\mathbb{Z}", "\u2032": "'",
    "\u27e8": "(", "\u27e9": ")", "\u2147": "e", "\u00ba": "\u00b0", "\u02da": "\u00b0",
    **{sign: f"\\{name} " for name, signs in _COMMANDS.items() for sign in signs},
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPT = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ]+")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_ROOT = re.compile(r"([√∛∜])\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|\\?[a-zA-Z]+|\{[^{}]*\}))")
_MARKED = re.compile(
    r"\\(mathrm|mathbf|mathit|boldsymbol|bm|mathsf|text|textit|textbf)\s*\{\s*([a-zA-Z])\s*\}"
)
_OPERATOR = re.compile(r"\\(?:operatorname|mathrm|text)\s*\*?\s*\{\s*([a-z]{2,6})\s*\}")
_FUNCTIONS = frozenset(
    ("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh",
     "tanh", "log", "ln", "exp", "max", "min", "gcd", "lim")
)  # fmt: skip
_PLAIN = {
    "pi": r"\pi ", "infinity": r"\infty ", "infty": r"\infty ", "inf": r"\infty ", "oo": r"\infty ",
    "theta": r"\theta ", "alpha": r"\alpha ", "beta": r"\beta ", "lambda": r"\lambda ",
}  # fmt: skip
_REPLACEMENTS = (
    (re.compile(r"\\[dt]binom(?![a-zA-Z])"), r"\\binom"),
    (re.compile(r"\\(?:lvert|rvert|vert)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\(?:langle)(?![a-zA-Z])"), "("),
    (re.compile(r"\\(?:rangle)(?![a-zA-Z])"), ")"),
    (re.compile(r"\\lbrace(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"\\(?:[lr]brack)(?![a-zA-Z])"), lambda m: "[" if "l" in m[0][:2] else "]"),
    (re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?|\\degree"), "°"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\\ast(?![a-zA-Z])|\*"), r" \\cdot "),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\{[^{}]*\})\s*([a-z\d])"), r"\\frac\1{\2}"),
    (re.compile(r"\\frac\s*([a-z\d])\s*(\{)"), r"\\frac{\1}\2"),
    (re.compile(r"\\sqrt\s*(\d|(?<=\\sqrt )[a-z])"), r"\\sqrt{\1}"),
    (re.compile(r"_\s*(\d+|[a-zA-Z])(?!\w)"), r"_{\1}"),
    (re.compile(r"\^\s*(-?\d+(?:\.\d+)?)"), r"^{\1}"),
    (re.compile(r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
)
_MIXED = re.compile(
    r"(?<![\d.,}])(\d{1,20})\s*\\frac\s*\{(\d{1,20})\}\s*\{(\d{1,20})\}"
    r"|(?<![\d.,}/])(\d{1,20}) (\d{1,20})/(\d{1,20})(?![\d.])"
)
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\overline\s*\{(\d{1,20})\}")
_DECIMAL = re.compile(r"(?<![\d.])(\d{0,60})\.(\d{1,60})(?![\d.])")
_DEGREES = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*°")
_PERCENT = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*%")
_TRAILING_TEXT = re.compile(
    r"(.*\S)\s*\\(?:text\w{0,6}|mathrm|mbox)\s*\{([^{}]*)\}((?:\s*\^\{?-?[23]\}?)?)\s*\.?",
    re.DOTALL,
)
_TRAILING_WORDS = re.compile(
    r"(.*[\d})]) *((?:[a-zA-Z]{3,}|cm|mm|km|kg|mg|ml|mL|ft|in|lb|oz|mi|yd|sq)"
    r"(?:[ /.]+(?:[a-zA-Z]{2,})|\^\{?[23]\}?)*)\.?", re.DOTALL
)  # fmt: skip
_NAME = re.compile(
    r"(?:\\?[a-zA-Z]{1,20}|[^\W\d_])(?:_\{?\w{1,10}\}?|\^\{-1\})?'*(?:\s?\([\w, \\]{1,20}\))?"
    r"|m?\s?\\(?:angle|triangle|overline|overrightarrow|vec)\s*\{?\s*[A-Z]{1,4}\}?|\|?[A-Z]{1,4}\|?"
    r"|\\text\w{0,6}\s*\{[^{}\\]{1,60}\}(?:_\{?\w{1,10}\}?)?"
    r"|[a-zA-Z]{1,30}(?: [a-zA-Z]{1,30}){0,6}|\(\s*[a-zA-Z](?:\s*,\s*[a-zA-Z]){1,5}\s*\)"
    r"|(?:P|Pr|E|Var|\\Pr)\s?[(\[][^()=<>]{1,40}[)\]]"
)
_COMMAND = re.compile(r"\\(?!begin|end|mathbb)[a-zA-Z]+")
_LETTERS = re.compile(r"[a-zA-Z]{2,}")
_PROSE = (
    "all any the and for not odd yes no one two six ten red is it if or of on to in an as at by so"
)
_WORDS_OF_PROSE = frozenset(_PROSE.split())
_DOUBT = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|likely|about|around|approximately|approx|roughly|nearly"
    r"|not|unsure|guess|think|believe|least|most|between|more|less|than|either|or|wait|no)\b|\?",
    re.IGNORECASE,
)


class MathTextError(Exception):
    """The text is no answer; the message completes a sentence that says why. is_doubt: the text is
    an answer in doubt, or says what the answer is not."""

    def __init__(self, reason: str, *, is_doubt: bool = False):
        super().__init__(reason)
        self.is_doubt = is_doubt


def in_latex(text: str) -> str:
    """The text with mathematical characters and spellings (`½`, `√2`, `x²`, `∞`, `pi`) as LaTeX."""
    text = re.sub(
        rf"(\d?)\s*([{''.join(VULGAR)}])",
        lambda m: "{}\\frac{{{}}}{{{}}}".format(m[1], *VULGAR[m[2]].split("/")),
        text,
    )
    text = _ROOT.sub(lambda m: f"{_ROOTS[m[1]]}{{{(m[2] or m[3]).strip('{}')}}}", text)
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _SUBSCRIPT.sub(lambda m: f"_{{{m[0].translate(_SUBSCRIPTS)}}}", text)
    text = "".join(_SIGNS.get(character, character) for character in text)
    text = _MARKED.sub(_letter, text)
    text = _OPERATOR.sub(lambda m: f"\\{m[1]} " if m[1] in _FUNCTIONS else m[0], text)
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _letter(match: re.Match[str]) -> str:
    # `5\text{m}` may be metres; a letter in a maths font is the letter.
    return match[0] if match[1] == "text" and match.start() else match[2]


def is_name(text: str) -> bool:
    """Whether the left side of an equation is only a name for its right side."""
    return _NAME.fullmatch(text) is not None and not _DOUBT.search(text)


def without_unit(text: str) -> tuple[str, tuple[str, ...]]:
    """The expression, and the unit after it if there is one."""
    for pattern in (_TRAILING_TEXT, _TRAILING_WORDS):
        if match := pattern.fullmatch(text):
            words = "".join(part or "" for part in match.groups()[1:])
            unit = unit_words("", words)
            if unit is None and _DOUBT.search(words):
                raise MathTextError("is in doubt", is_doubt=True)
            if unit is not None:
                return match[1], unit
    if text.endswith("°") and not any(f"\\{name}" in text for name in _FUNCTIONS):
        return text[:-1], ("°",)
    if text.endswith("%"):
        return text[:-1], ("%",)
    return text.lstrip("$").rstrip("$"), ("$",) if "$" in text else ()


def expression_latex(text: str) -> str:
    """The expression in LaTeX. Raises `MathTextError` where it holds words or signs that are not
    mathematics."""
    text = _LETTERS.sub(_plain_word, _COMMAND.sub(r"\g<0> ", text))
    text = _MIXED.sub(_mixed, text)
    text = _REPEATING.sub(_repeating, text)
    text = _DEGREES.sub(lambda m: rf"(\frac{{{m[1]} \pi}}{{180}})", text)
    text = _PERCENT.sub(r"\\frac{\1}{100}", text)
    text = _DECIMAL.sub(lambda m: rf"\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}}", text)
    if "\\begin" not in text and "&" in text:
        raise MathTextError("is no number or expression")
    if re.search(r"\d\s+\d|[\"$%#@?°\x00-\x1f]|\\text|\d\.(?!\d)", text):
        is_doubt = _DOUBT.search(text) is not None and any(map(str.isdigit, text))
        raise MathTextError("is no number or expression", is_doubt=is_doubt)
    return text


def _plain_word(match: re.Match[str]) -> str:
    word, before = match[0], match.string[match.start() - 1 : match.start()]
    if before == "\\":
        return word
    if word in _FUNCTIONS:
        return f"\\{word} "
    if word in _PLAIN:
        return _PLAIN[word]
    if _is_environment(match) or (len(word) < 4 and word.lower() not in _WORDS_OF_PROSE):
        return word
    is_doubt = _DOUBT.search(word) is not None and any(map(str.isdigit, match.string))
    raise MathTextError("is a text and no expression", is_doubt=is_doubt)


def _is_environment(match: re.Match[str]) -> bool:
    return re.search(r"\\(?:begin|end|mathbb)\s*\{\s*$", match.string[: match.start()]) is not None


def _mixed(match: re.Match[str]) -> str:
    whole, top, bottom = (group for group in match.groups() if group)
    return rf"({whole} + \frac{{{top}}}{{{bottom}}})"


def _repeating(match: re.Match[str]) -> str:
    whole, fixed, period = match.groups()
    top = int((whole or "0") + fixed + period) - int((whole or "0") + fixed)
    return rf"\frac{{{top}}}{{{(10 ** len(period) - 1) * 10 ** len(fixed)}}}"
