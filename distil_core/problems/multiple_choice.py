"""Multiple choice in which the right answer depends on a situation that the prompt does not show.

`kdw=` stands for a case with three slots, chosen by number; the response is one digit. Each problem
has a hidden situation, which decides which slots are accepted. An expert can be told the situation;
the student can only learn what is good on average. It is the smallest task in which a student
cannot match its expert, or in which the expert gives an accepted slot almost no mass.
"""

import json
import string
from collections.abc import Iterator, Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from distil_core.problems.base import Problem, ProblemSourceOptions
from distil_core.registry import ComponentOptions
from distil_core.seeds import generator

_SUM_TOLERANCE = 1e-6
_WRONG_LENGTH = 1 / 16

Mass = Annotated[float, Field(ge=0, le=1)]


class Situation(ComponentOptions):
    """A situation that the prompt does not tell."""

    probability: Mass
    """Of this situation."""
    accepted: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    """Its right slots, from 0, the one that the reference names first."""
    expert_masses: tuple[Mass, ...]
    """What an expert that knows of it would do, a slot each."""


class Options(ProblemSourceOptions):
    """Choices whose right answer depends on what the prompt hides."""

    situations: tuple[Situation, ...] = Field(min_length=1)
    """Hidden from prompts."""
    demonstrator_masses: tuple[Mass, ...] = Field(min_length=2, max_length=10)
    """How demonstrations choose, a slot each, whatever the situation."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        num_slots = len(self.demonstrator_masses)
        masses = {"demonstrator_masses": self.demonstrator_masses}
        for index, situation in enumerate(self.situations):
            masses[f"situations.{index}.expert_masses"] = situation.expert_masses
            if max(situation.accepted) >= num_slots:
                raise ValueError(
                    f"situations.{index}.accepted names slot {max(situation.accepted)}, but "
                    f"demonstrator_masses has {num_slots} slots, counted from 0"
                )
        for name, values in masses.items():
            if len(values) != num_slots:
                raise ValueError(f"{name}: expected {num_slots} slots, found {len(values)}")
        masses["the situations' probabilities"] = tuple(s.probability for s in self.situations)
        for name, values in masses.items():
            if abs(sum(values) - 1.0) > _SUM_TOLERANCE:
                raise ValueError(f"{name}: expected a sum of 1, found {sum(values):g}")
        return self


class MultipleChoice:
    """An endless seeded stream of cases, each with a situation drawn for it."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        random = generator(seed, "problems", split)
        situations = self._options.situations
        probabilities = [situation.probability for situation in situations]
        num_slots = len(self._options.demonstrator_masses)
        while True:
            letters = "".join(string.ascii_lowercase[i] for i in random.permutation(26)[:num_slots])
            index = _draw(random, probabilities)
            accepted = "".join(map(str, situations[index].accepted))
            yield Problem(
                prompt=f"{letters}=",
                reference=accepted[0],
                metadata=json.dumps({"accepted": accepted, "situation": index}),
            )

    def alphabet(self) -> str:
        return f"{string.ascii_lowercase}0123456789="

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        return str(_draw(random, self._options.demonstrator_masses))

    def corrupted_attempt(self, problem: Problem, random: np.random.Generator) -> str:
        """A random slot; one attempt in sixteen has none or two."""
        attempt = str(random.integers(0, len(self._options.demonstrator_masses)))
        if random.random() < _WRONG_LENGTH:
            return "" if random.random() < 0.5 else attempt * 2
        return attempt

    def oracle_characters(self, problem: Problem, attempt: str) -> str:
        return problem.reference

    def oracle_distributions(self, problem: Problem, attempt: str) -> list[dict[str, float]]:
        """What the informed expert would write at each state along `attempt` and after it:
        characters and their masses; the empty string stands for ending the response."""
        situation = self._options.situations[json.loads(problem.metadata)["situation"]]
        first = {str(slot): mass for slot, mass in enumerate(situation.expert_masses) if mass}
        return [first, *({"": 1.0} for _ in attempt)]


def _draw(random: np.random.Generator, masses: Sequence[float]) -> int:
    """A random index with these probabilities."""
    cumulative = np.cumsum(masses)
    return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))


def build(options: Options) -> MultipleChoice:
    """The source, by name from the registry."""
    return MultipleChoice(options)
