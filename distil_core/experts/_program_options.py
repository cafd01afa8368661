"""Settings of the program expert: which program, at which states, under which limits."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from distil_core.config.models import Component, Positive, PositiveFraction
from distil_core.experts.base import ExpertOptions
from distil_core.experts.programs import PROGRAMS


class Options(ExpertOptions):
    """A program of the user's own, in place of a model (docs/experts.md#a-program)."""

    program: Component
    """Which one: a built-in program, one that an installed package adds, or the dotted path of a
    module; with its options (docs/components.md#a-program)."""
    states: Literal["every", "line_starts", "first_wrong_line"] = "every"
    """Which of a rollout's states are asked about. 'every': before each of its tokens.
    'line_starts': the first state in each line. 'first_wrong_line': each state of the first line
    that no text of the program, asked at its start, has; the lines' first states are asked to find
    it. The other states stay without label. In an environment, of each turn for itself."""
    share_of_states: PositiveFraction = 1.0
    """Share of these states that is asked about, rounded up in each rollout (in an environment, in
    each of its turns) and chosen at random from the seed."""
    needs_feedback: bool = False
    """Whether rollouts without feedback are left out."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the mass that is spread evenly over the vocabulary."""
    continuations_per_rollout: Annotated[int, Field(ge=0)] = 0
    """Of how many of a rollout's states the program's text becomes a row of its own."""
    max_new_tokens: PositiveInt = 256
    """The longest such row, in tokens."""
    num_workers: PositiveInt = 2
    """Processes that ask the program."""
    timeout_s: Positive = 10.0
    """Wall-clock limit of one question, after which its state has no label."""
    max_timeouts: PositiveInt | None = 100
    """Questions that may exceed it before the stage ends; null for any number. All that was
    answered until then is recorded."""

    @field_validator("program")
    @classmethod
    def _known_program(cls, program: Component) -> Component:
        PROGRAMS.options(program.name, program.options)
        return program

    @property
    def follows_turns(self) -> bool:
        """Whether the program does."""
        return PROGRAMS.options(self.program.name, self.program.options).follows_turns

    @property
    def components_used(self) -> tuple[tuple[str, str], ...]:
        """The program, and what it uses."""
        inner = PROGRAMS.options(self.program.name, self.program.options)
        return (("program", self.program.name), *inner.components_used)
