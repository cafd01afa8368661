"""Programs that the expert `program` asks how a response should go on. One module each, found by
name.

A module defines `Options` and `build`, which gives a `Program`: any function of a problem, the
response so far and the feedback.
"""

from distil_core.components import ComponentPlace
from distil_core.experts.programs.base import Program, ProgramOptions
from distil_core.registry import Registry

PROGRAMS: Registry[ProgramOptions, Program] = Registry(
    ComponentPlace("program", "distil_core.experts.programs", "distil.programs"),
    ProgramOptions,
    Program,
    {},
)
