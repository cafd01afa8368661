"""Contract tests of components, for those of DistIL as for anybody's own (docs/components.md).

In a test of your own: `check_objective("my_lab.focal_objective", {"gamma": 2.0})`; or one test for
each check: `@pytest.mark.parametrize("check", objective_checks("my_lab.focal_objective"), ids=str)`
and `check()` in it. From a shell: `distil check-component my_lab.focal_objective`.
"""

from distil_core.testing.checks import Check, CheckFailedError, CheckResult, as_table, run_checks
from distil_core.testing.engines import check_engine, engine_checks
from distil_core.testing.environments import check_environment, environment_checks
from distil_core.testing.experts import check_expert, expert_checks
from distil_core.testing.feedback_sources import check_feedback_source, feedback_source_checks
from distil_core.testing.objectives import check_objective, objective_checks
from distil_core.testing.problem_sources import check_problem_source, problem_source_checks
from distil_core.testing.programs import check_program, program_checks
from distil_core.testing.row_formats import check_row_format, row_format_checks
from distil_core.testing.tools import check_tool, tool_checks
from distil_core.testing.verifiers import check_verifier, verifier_checks

__all__ = [
    "Check",
    "CheckFailedError",
    "CheckResult",
    "as_table",
    "check_engine",
    "check_environment",
    "check_expert",
    "check_feedback_source",
    "check_objective",
    "check_problem_source",
    "check_program",
    "check_row_format",
    "check_tool",
    "check_verifier",
    "engine_checks",
    "environment_checks",
    "expert_checks",
    "feedback_source_checks",
    "objective_checks",
    "problem_source_checks",
    "program_checks",
    "row_format_checks",
    "run_checks",
    "tool_checks",
    "verifier_checks",
]
