"""What a unit's name means: its size, its dimensions and the kind of quantity it measures.

pint is asked once for each name, and only about names made of letters. Its parser and calculations
never see a response's text, so nothing they raise depends on it.
"""

import math
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pint

Exponents = tuple[tuple[str, float], ...]

# Names that students and data sets write and pint does not know, or knows as something else:
# the same as a product of pint's units.
_ALIASES: dict[str, tuple[float, dict[str, int]]] = {
    "°": (1, {"degree": 1}), "deg": (1, {"degree": 1}), "°F": (1, {"degree_Fahrenheit": 1}),
    "°C": (1, {"degree_Celsius": 1}), "°c": (1, {"degree_Celsius": 1}), "°K": (1, {"kelvin": 1}),
    "°R": (1, {"degree_Rankine": 1}), "%": (1, {"percent": 1}), "pct": (1, {"percent": 1}),
    "percentage": (1, {"percent": 1}), "‰": (1, {"permille": 1}),
    "ppb": (1e-9, {}), "\u2032": (1, {"arcminute": 1}),
    "\u2033": (1, {"arcsecond": 1}), "sec": (1, {"second": 1}), "secs": (1, {"second": 1}),
    "yr": (1, {"year": 1}), "yrs": (1, {"year": 1}), "hr": (1, {"hour": 1}),
    "hrs": (1, {"hour": 1}), "mins": (1, {"minute": 1}), "amp": (1, {"ampere": 1}),
    "amps": (1, {"ampere": 1}), "w": (1, {"watt": 1}), "Nm": (1, {"newton": 1, "meter": 1}),
    "AU": (1, {"astronomical_unit": 1}), "G": (1e-4, {"tesla": 1}),
    "kG": (1e-1, {"tesla": 1}), "mG": (1e-7, {"tesla": 1}), "gauss": (1e-4, {"tesla": 1}),
    "Torr": (1, {"torr": 1}), "Cal": (1000, {"calorie": 1}), "D": (1, {"debye": 1}),
    "rev": (1, {"turn": 1}), "revs": (1, {"turn": 1}), "RPM": (1, {"revolutions_per_minute": 1}),
    "kmph": (1, {"kilometer": 1, "hour": -1}), "kmh": (1, {"kilometer": 1, "hour": -1}),
    "MPH": (1, {"mile": 1, "hour": -1}), "KPH": (1, {"kilometer": 1, "hour": -1}),
    "mps": (1, {"meter": 1, "second": -1}), "cfm": (1, {"foot": 3, "minute": -1}),
    "diopter": (1, {"meter": -1}), "dioptre": (1, {"meter": -1}), "henries": (1, {"henry": 1}),
    "ℏ": (1, {"dirac_constant": 1}), "BTU": (1, {"british_thermal_unit": 1}),
    "btu": (1, {"british_thermal_unit": 1}), "lbm": (1, {"pound": 1}),
    "hz": (1, {"hertz": 1}), "khz": (1e3, {"hertz": 1}), "ghz": (1e9, {"hertz": 1}),
    "ev": (1, {"electron_volt": 1}), "kev": (1e3, {"electron_volt": 1}),
    "kj": (1e3, {"joule": 1}), "kw": (1e3, {"watt": 1}), "kwh": (1e3, {"watt_hour": 1}),
    "kpa": (1e3, {"pascal": 1}), "footpound": (1, {"foot_pound": 1}),
    "kilohm": (1e3, {"ohm": 1}), "megohm": (1e6, {"ohm": 1}), "sqm": (1, {"meter": 2}),
    "sqft": (1, {"foot": 2}), "'": (1, {"foot": 1}), '"': (1, {"inch": 1}),
    "floz": (1, {"fluid_ounce": 1}), "lightyear": (1, {"light_year": 1}),
    "lightsecond": (1, {"speed_of_light": 1, "second": 1}),
    "lightminute": (1, {"speed_of_light": 1, "minute": 1}),
    "lighthour": (1, {"speed_of_light": 1, "hour": 1}),
}  # fmt: skip
# Logarithms of ratios, in decibels.
_LEVELS = {
    "dB": 1.0, "decibel": 1.0, "decibels": 1.0, "bel": 10.0,
    "Np": 20 / math.log(10), "neper": 20 / math.log(10), "nepers": 20 / math.log(10),
}  # fmt: skip
_COUNTED_NAMES = (
    "atom molecule particle photon electron proton neutron nucleon ion neutrino positron muon "
    "quark phonon nucleus count event decay disintegration fission collision cell bacterium "
    "oscillation vibration beat wave wavelength fringe line slit node antinode lens"
)
_COUNTED = frozenset(_COUNTED_NAMES.split())
_PLURALS = {"nuclei": "nucleus", "bacteria": "bacterium", "lenses": "lens"}
# Units with the same dimensions as others that measure another quantity.
_KINDS = {
    "hertz": "frequency", "becquerel": "activity", "curie": "activity", "rutherford": "activity",
    "turn": "cycle", "revolutions_per_minute": "cycle", "revolutions_per_second": "cycle",
    "gray": "absorbed dose", "rads": "absorbed dose", "sievert": "dose equivalent",
    "rem": "dose equivalent", "watt": "power", "horsepower": "power",
    "metric_horsepower": "power", "volt_ampere": "apparent power", "joule": "energy",
    "electron_volt": "energy", "calorie": "energy", "erg": "energy", "watt_hour": "energy",
    "british_thermal_unit": "energy", "newton": "force", "dyne": "force", "force_pound": "force",
}  # fmt: skip
# Symbols of physical constants, in which no answer is given: 5 k is 5,000 or an error.
_UNUSUAL = frozenset((
    "boltzmann_constant", "molar_gas_constant", "avogadro_constant", "faraday_constant", "are",
    "technical_atmosphere",
))  # fmt: skip
_WITH_OFFSET = {"degree_Celsius": (1.0, 273.15), "degree_Fahrenheit": (5 / 9, 459.67 * 5 / 9)}
_SYMBOLS_OF_PREFIXES = ("da", *"yzafpnumcdhkMGTPEZYµμ")
_MIN_WORD = 3
# Symbols that are written without a blank between them: kgm^2, JK^-1, kNm.
_RUN_TOGETHER = re.compile(
    r"(?:kg|k?N|k?J|k?W|k?V|mol|rad|k?Pa|eV|T|A|C|g|m|Ω)(?:kg|mol|rad|Pa|Hz|cm|m|s|A|K|C|N|V|T|h)+"
)
_SYMBOL = re.compile(r"kg|kN|kJ|kW|kV|kPa|mol|rad|Pa|Hz|cm|eV|.")


class UnknownUnitError(Exception):
    """No unit of that name is known."""


@dataclass(frozen=True)
class UnitMeaning:
    """A unit as `factor` times base units (grams, metres, seconds, ..) raised to powers. kinds:
    names that tell apart quantities of the same dimensions, with powers. offset: added in base
    units, for a temperature scale that does not begin at zero."""

    factor: float
    dimensions: Exponents = ()
    kinds: Exponents = ()
    offset: float = 0.0

    def __pow__(self, power: int) -> "UnitMeaning":
        """The power without the offset: in J/°C a degree is a difference. Raises
        `OverflowError`."""
        return UnitMeaning(self.factor**power, *self._raised(power))

    def _raised(self, power: int) -> tuple[Exponents, Exponents]:
        dimensions, kinds = (
            tuple((name, exponent * power) for name, exponent in exponents)
            for exponents in (self.dimensions, self.kinds)
        )
        return dimensions, kinds

    def __mul__(self, other: "UnitMeaning") -> "UnitMeaning":
        return UnitMeaning(
            self.factor * other.factor,
            _sum(self.dimensions, other.dimensions),
            _sum(self.kinds, other.kinds),
        )


def factor_meaning(name: str, power: int) -> UnitMeaning:
    """The meaning of one factor of a unit. Where several symbols are written together, the power
    belongs to the last one. Raises `UnknownUnitError` and `OverflowError`."""
    try:
        return unit_meaning(name) ** power
    except UnknownUnitError:
        if not _RUN_TOGETHER.fullmatch(name):
            raise
    *symbols, last = _SYMBOL.findall(name)
    meaning = unit_meaning(last) ** power
    for symbol in symbols:
        meaning = meaning * unit_meaning(symbol) ** (1 if power > 0 else -1)
    return meaning


@lru_cache(maxsize=4096)
def unit_meaning(name: str) -> UnitMeaning:
    """The meaning of a unit by its name. Case matters in symbols and in the symbols of prefixes
    (mW, MW, mJoule, MJoule), but not in words (Tesla, KiloOhm). Raises `UnknownUnitError`."""
    if (level := _LEVELS.get(name)) is not None:
        return UnitMeaning(level, kinds=(("level", 1),))
    if counted := _counted(name.lower()):
        return UnitMeaning(1.0, kinds=((f"number of {counted}", 1),))
    if alias := _ALIASES.get(name) or _ALIASES.get(_singular(name)):
        meaning = UnitMeaning(float(alias[0]))
        for unit, power in alias[1].items():
            one = _of_pint("", unit)
            meaning = one if alias == (1, {unit: 1}) else meaning * one**power
        return meaning
    if not name.isalpha():
        raise UnknownUnitError(name)
    likeliest = next(iter(_spellings(name)), None)
    if likeliest is None or likeliest[1] in _UNUSUAL:
        raise UnknownUnitError(name)
    return _of_pint(*likeliest)


def _counted(word: str) -> str | None:
    word = _PLURALS.get(word, word)
    return next((one for one in (word, _singular(word)) if one in _COUNTED), None)


def _singular(word: str) -> str:
    return word.removesuffix("s") if len(word) > _MIN_WORD else word


def _spellings(name: str) -> list[tuple[str, str]]:
    """The ways in which pint may read a name as prefix and unit, the likeliest first."""
    found = _parsed(name)
    if not found and name[0] == "K":
        # The K in Km and KJ can only mean kilo.
        found = [(p, unit) for p, unit in _spellings(f"k{name[1:]}") if p == "kilo"]
    word = name.lower()
    if not found and len(word) >= _MIN_WORD:
        found = [(p, unit) for p, unit in _parsed(word) if not p or word.startswith(p)]
    for symbol in () if found else _SYMBOLS_OF_PREFIXES:
        rest = name.removeprefix(symbol).lower()
        if name.startswith(symbol) and len(rest) >= _MIN_WORD:
            prefixes = [prefix for prefix, _ in _parsed(f"{symbol}meter")]
            found += [(p, unit) for p in prefixes for own, unit in _parsed(rest) if not own]
    return found


def _parsed(name: str) -> list[tuple[str, str]]:
    candidates = _registry().parse_unit_name(name, case_sensitive=True)
    return [(prefix, unit) for prefix, unit, _ in candidates]


@cache
def _of_pint(prefix: str, unit: str) -> UnitMeaning:
    import pint

    if unit in _WITH_OFFSET and not prefix:
        factor, offset = _WITH_OFFSET[unit]
        return UnitMeaning(factor, (("kelvin", 1),), offset=offset)
    registry = _registry()
    try:
        one, two = (
            registry.Quantity(number, registry.UnitsContainer({f"{prefix}{unit}": 1}))
            for number in (1.0, 2.0)
        )
        factor = float(one.to_root_units().magnitude)
        is_linear = math.isclose(2 * factor, float(two.to_root_units().magnitude))
    except (pint.PintError, ValueError) as error:
        raise UnknownUnitError(f"{prefix}{unit}") from error
    if not is_linear:
        raise UnknownUnitError(f"{prefix}{unit}")
    root: Any = one.to_root_units().unit_items()
    return _meaning(unit, factor, dict(root))


def _meaning(unit: str, factor: float, root: dict[str, float]) -> UnitMeaning:
    """The meaning, where angles, bits and counts become kinds: pint lists them among the base units
    and treats them as dimensionless."""
    kind = _KINDS.get(unit)
    kinds: dict[str, float] = {kind: 1} if kind else {}
    dimensions: dict[str, float] = {}
    for name, power in root.items():
        if name == "radian":
            kinds.update({} if kind == "cycle" else {"angle": power})
        elif name == "bit":
            kinds["information"] = power
        elif name != "count":
            dimensions[name] = power
    return UnitMeaning(factor, _sorted(dimensions), _sorted(kinds))


@cache
def _registry() -> "pint.UnitRegistry[Any]":
    import pint

    return pint.UnitRegistry()


def _sum(one: Exponents, other: Exponents) -> Exponents:
    total = dict(one)
    for name, power in other:
        total[name] = total.get(name, 0) + power
    return _sorted(total)


def _sorted(exponents: dict[str, float]) -> Exponents:
    return tuple(sorted((name, power) for name, power in exponents.items() if power))
