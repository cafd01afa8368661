"""What a task of the study is made of.

A task is a problem source with its expert, its base policy and what an iteration may spend. All
methods spend the same; only the learning rate is chosen, for each from the same grid.
"""

import hashlib
from typing import Literal

from distil_core.config.models import (
    ComputeParams,
    ConsultParams,
    ContextParams,
    FromScratchBase,
    ProblemParams,
    Settings,
)

COMPUTE = ComputeParams(device="cpu", dtype="float32", num_threads=1)


class Budget(Settings):
    """What a run may spend. num_prompts, num_rollouts, num_steps: in each iteration.
    num_validation, num_test: held-out problems, disjoint. num_samples: of each of them."""

    num_iterations: int
    num_prompts: int
    num_rollouts: int
    num_steps: int
    batch_rollouts: int
    max_new_tokens: int
    num_validation: int
    num_test: int
    num_samples: int


class Study(Settings):
    """tuning_seeds: choose each method's learning rate by validation pass@1 after the last
    iteration; test_seeds: measured at that rate. Each seed has problems and a base of its own."""

    learning_rates: tuple[float, ...]
    tuning_seeds: tuple[int, ...]
    test_seeds: tuple[int, ...]


class StudyTask(Settings):
    """title: for tables. expert: 'self' is the frozen base with feedback in its context, 'program'
    the source's own `oracle_distributions`."""

    title: str
    expert: Literal["self", "program"]
    problems: ProblemParams
    base: FromScratchBase
    context: ContextParams
    consult: ConsultParams
    budget: Budget
    study: Study

    def digest(self, *more: object) -> str:
        """Of all settings but the seeds' lists and grid: results of other settings are not used."""
        text = repr((self.model_dump(exclude={"title", "study"}, exclude_defaults=True), more))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def quick(task: StudyTask) -> StudyTask:
    """The task in miniature: every part runs, nothing is learned."""
    small = {"num_warm_start": 64, "num_train": 64, "num_eval": 8}
    budget = {
        "num_iterations": 1,
        "num_prompts": 4,
        "num_steps": 2,
        "batch_rollouts": 8,
        "num_validation": 4,
        "num_test": 4,
    }
    phase = task.base.phases[0].model_copy(update={"num_steps": 2})
    return task.model_copy(
        update={
            "problems": task.problems.model_copy(update=small),
            "base": task.base.model_copy(update={"phases": (phase,), "batch_size": 16}),
            "budget": task.budget.model_copy(update=budget),
            "study": Study(learning_rates=(0.001,), tuning_seeds=(101,), test_seeds=(1, 2)),
        }
    )
