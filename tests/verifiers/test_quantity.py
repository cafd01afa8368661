"""Numbers with units: what is read, compared and named, and that nothing is evaluated."""

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers._quantity_text import QuantityError, read_quantity
from distil_core.verifiers.quantity import QuantityVerifier
from tests.verifiers.shared_data import shared_rows

JOULE_PER_MOL_KELVIN = (("J", 1), ("mol", -1), ("K", -1))


def build(reveal: str = "nothing", **options: Any) -> QuantityVerifier:
    values = {"forms": ["boxed", "plain"], **options}
    verifier: QuantityVerifier = VERIFIERS.build("quantity", values, reveal=reveal)
    return verifier


@pytest.fixture(scope="module")
def verifier() -> QuantityVerifier:
    return build()


@pytest.mark.parametrize(
    ("text", "number", "units"),
    [
        ("3.0e8 m/s", 3.0e8, (("m", 1), ("s", -1))),
        ("50 cm", 50.0, (("cm", 1),)),
        ("1,234.5 J", 1234.5, (("J", 1),)),
        ("−5 °C", -5.0, (("°C", 1),)),
        (r"5.4 \times 10^6 \mathrm{~N} / \mathrm{C}", 5.4e6, (("N", 1), ("C", -1))),
        (r"$1.92 \times 10^{-11} \mathrm{~m} / \mathrm{s}^2 $", 1.92e-11, (("m", 1), ("s", -2))),
        ("5.66 x 10^(-7) Tesla", 5.66e-7, (("Tesla", 1),)),
        ("10^5 Pa", 1e5, (("Pa", 1),)),
        ("1.83×10⁻¹¹ m s⁻²", 1.83e-11, (("m", 1), ("s", -2))),
        ("8.3 J/(mol K)", 8.3, JOULE_PER_MOL_KELVIN),
        (
            r"8.3\ \frac{\mathrm{J}}{\mathrm{mol}\cdot\mathrm{K}}",
            8.3,
            (("J", 1), ("mol", -1), ("K", -1)),
        ),
        (r"74.8^\circ", 74.8, (("°", 1),)),
        (r"3\,\mu\mathrm{C}", 3.0, (("µC", 1),)),
        ("q = 56 pC.", 56.0, (("pC", 1),)),
        ("7.84", 7.84, ()),
    ],
)
def test_what_is_read(text: str, number: float, units: tuple[tuple[str, int], ...]) -> None:
    quantity = read_quantity(text)[0]
    assert quantity.number == pytest.approx(number)
    assert quantity.units == units


@pytest.mark.parametrize(
    "text",
    [
        "", "m/s", "10**10**10", "10^10^10", "5 m**10**10", "1e99999 m", "1e400 m", "5 m^13",
        "5 m^0", "nan m", "inf", "5 m)", "5 (m", "5 /", "5 m per", "5 5 m", "1.2.3 m",
        "5 m ^ 2 ^ 2", "0\u00bc0", "5 m or 7 m", "1/0 m", "\\frac{5}{0} m",
        "5 __import__('os')", "5 " + "m*" * 100, "5 " + "m" * 200, "5 " + "(" * 100, "9" * 500,
    ],
)  # fmt: skip
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(QuantityError):
        read_quantity(text)


@pytest.mark.parametrize(
    ("reference", "response", "verdict", "message"),
    [
        ("56 pC", "So the charge is 56 pC.", "correct", ""),
        ("56 pC", r"\boxed{5.62\times 10^{-11}\,\mathrm{C}}", "correct", ""),
        ("3.0e8 m/s", "300000 km/s", "correct", ""),
        ("50 cm", "between 0 and 0.5 m", "correct", ""),
        ("25 °C", "298.15 K", "correct", ""),
        ("1 J/K", "1 J/°C", "correct", ""),
        ("74.8°", "1.3055 rad", "correct", ""),
        ("0 m", "0 km", "correct", ""),
        ("7.84", "7.84", "correct", ""),
        ("56 pC", "q = 56", "malformed", "has no unit, and one is needed"),
        ("56 pC", "56 banana", "malformed", "has the unit 'banana', which is not known"),
        ("56 pC", "a lot", "malformed", "is no number with a unit"),
        ("56 pC", "", "malformed", "gives no answer as"),
        ("5 m", "1e300 quettametre", "malformed", "cannot be calculated with"),
        ("5 J s", "5 hbar^-12", "malformed", "cannot be calculated with"),
        ("5 dB", "5 dB^2", "wrong", "a unit of another kind of quantity"),
        ("5 K", "5 °C^2", "wrong", "is in °C^2, a unit of another kind of quantity"),
        ("5 m", "7 m = 5 m", "wrong", "says that different quantities are equal"),
        ("5 m", "5 \u2460", "malformed", "which is not known"),
        ("5 m", "5 m\u00b9\u2460", "malformed", "which is not known"),
        ("5 kg", "5 kg of \ud800", "malformed", "cannot be read at"),
        ("56 pC", "56 N/C", "wrong", "is in N/C, a unit of another kind of quantity"),
        ("7.84", "7.84 m", "wrong", "has a unit, but the quantity asked for has none"),
        ("56 pC", "56 nC", "wrong", "by a power of ten"),
        ("56 pC", "-56 pC", "wrong", "in its sign only"),
        ("56 pC", "57.5 pC", "wrong", "rounding"),
        ("56 pC", "99 pC", "wrong", "The answer '99 pC' is wrong."),
    ],
)
def test_verdicts_and_what_feedback_names(
    verifier: QuantityVerifier, reference: str, response: str, verdict: str, message: str
) -> None:
    result = verifier.verify(Problem("?", reference), response)
    assert result.verdict == verdict, result
    assert result.reward == float(verdict == "correct")
    assert message in "".join(item.text for item in result.feedback)


def test_what_a_response_thinks_is_no_answer(verifier: QuantityVerifier) -> None:
    for response, verdict in (
        ("<think>\\boxed{7 m}?</think>\\boxed{5 m}", "correct"),
        ("\\boxed{5 m}<think>or \\boxed{7 m}", "correct"),
        ("<think>\\boxed{5 m}", "malformed"),
    ):
        assert verifier.verify(Problem("?", "5 m"), response).verdict == verdict


def test_the_whole_quantity_at_the_end_of_prose_counts(verifier: QuantityVerifier) -> None:
    response = "It takes 1 h 30 min."
    for reference, verdict in (("90 min", "correct"), ("30 min", "wrong")):
        assert verifier.verify(Problem("?", reference), response).verdict == verdict


def test_prose_that_ends_with_a_quantity_it_denies(verifier: QuantityVerifier) -> None:
    for response in (
        "It is not 5 m",
        "5 m or 7 m",
        "either 7 m or 5 m",
        "more than 5 m",
        "x > 5 m",
    ):
        assert verifier.verify(Problem("?", "5 m"), response).verdict == "malformed"


def test_the_right_value_is_told_only_where_the_run_says_so() -> None:
    problem = Problem("?", "56 pC")
    told = build("expected_outputs").verify(problem, "56 nC").feedback[0].text
    assert told.endswith("The right answer is 56 pC.")


def test_tolerances() -> None:
    problem = Problem("?", "100 m")
    assert build(relative_tolerance=0.05).verify(problem, "104 m").verdict == "correct"
    assert build(relative_tolerance=0.0).verify(problem, "100.001 m").verdict == "wrong"
    absolute = build(relative_tolerance=0.0, absolute_tolerance=2.0)
    assert absolute.verify(problem, "10150 cm").verdict == "correct"
    assert absolute.verify(problem, "10250 cm").verdict == "wrong"


@pytest.mark.parametrize("reference", ["", "a lot", "5 banana", "1e999 m", "5 m or 7 m"])
def test_a_reference_that_is_no_quantity_is_no_wrong_answer(
    verifier: QuantityVerifier, reference: str
) -> None:
    with pytest.raises(VerifierError, match="reference"):
        verifier.check_problem(Problem("?", reference))
    with pytest.raises(VerifierError, match="reference"):
        verifier.verify(Problem("?", reference), "5 m")


UNITS = [
    *("", "m", "km", "m/s", "kg m^2 s^-3", "N/C", "J/(mol K)", "°C", "eV", "%", "dB", "pH", "Å"),
    *("kΩ", "°F/s", "Hz", "rpm", "Bq", "lm", "cd", "photons", "rad", "hbar", "square feet", "bits"),
]


@settings(max_examples=300, deadline=None)
@given(
    st.floats(1e-30, 1e30) | st.floats(-1e30, -1e-30) | st.just(0.0),
    st.sampled_from(UNITS),
    st.sampled_from(UNITS),
)
def test_every_quantity_is_equal_to_itself_and_any_two_can_be_compared(
    verifier: QuantityVerifier, number: float, unit: str, other: str
) -> None:
    text = f"{number:.6e} {unit}"
    assert verifier.verify(Problem("?", text), f"\\boxed{{{text}}}").verdict == "correct"
    verifier.verify(Problem("?", text), f"\\boxed{{{number:.6e} {other}}}")


@pytest.mark.parametrize(
    "response",
    [
        "1" * 100_000,
        "1 " * 500,
        "5 m" + "^2" * 500,
        "\\frac{" * 20_000,
        "5 " + "°" * 1000,
        "1=" * 600,
    ],
)
def test_hostile_text_costs_little(verifier: QuantityVerifier, response: str) -> None:
    verifier.verify(Problem("?", "5 m"), "5 m")  # pint loads its units
    started = time.process_time()
    assert verifier.verify(Problem("?", "5 m"), response).verdict == "malformed"
    assert time.process_time() - started < 2


def test_sciknowevals_numeric_options_are_read(verifier: QuantityVerifier) -> None:
    """Of all options that begin with a number, most are one number and a unit; each that is read
    as a reference is equal to itself and not to ten times itself."""
    read = total = 0
    for row in shared_rows("sciknoweval/physics-train.jsonl", "sciknoweval/physics-test.jsonl"):
        for option in re.findall(r"^[A-D]: (\$?-?\d.*)$", row["prompt"], re.MULTILINE):
            total += 1
            try:
                result = verifier.verify(Problem("?", option), f"\\boxed{{{option}}}")
            except VerifierError:
                continue
            read += 1
            assert result.verdict == "correct", option
    assert read / total > 0.9, f"{read} of {total}"
