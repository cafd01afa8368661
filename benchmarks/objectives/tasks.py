"""The study's tasks: the default one, and three built to separate the methods.

Each could go against the method it was built for: where the student does learn what the expert
does, local matching suffices; where the expert leaves no mass to a bad action, no direction of the
divergence matters.
"""

from typing import Any

from benchmarks.objectives.settings import Budget, Study, StudyTask
from distil_core.config.models import (
    ArchitectureParams,
    Component,
    ConsultParams,
    ContextParams,
    FromScratchBase,
    ProblemParams,
    WarmStartPhase,
)

_STUDY = Study(
    learning_rates=(0.0003, 0.001, 0.003), tuning_seeds=(101, 102), test_seeds=(1, 2, 3, 4, 5)
)
_CONTEXT = ContextParams(
    student_template="{prompt}|",
    expert_template="{prompt}?{attempt}#{verdict} {execution_trace}|",
    max_context_tokens=96,
)


def _base(num_steps: int, hidden_size: int, correction_fraction: float = 0.0) -> FromScratchBase:
    return FromScratchBase(
        kind="from_scratch",
        architecture=ArchitectureParams(
            hidden_size=hidden_size,
            num_layers=2,
            num_heads=4,
            intermediate_size=3 * hidden_size,
            max_positions=96,
        ),
        phases=(WarmStartPhase(num_steps=num_steps, correction_fraction=correction_fraction),),
        batch_size=128,
        learning_rate=0.003,
        final_learning_rate_fraction=0.1,
        warmup_steps=50,
        weight_decay=0.01,
        max_grad_norm=1.0,
    )


def _component(name: str, **options: Any) -> Component:
    return Component(name=name, options=options)


def _consult(name: str, **options: Any) -> ConsultParams:
    return ConsultParams(verifier=_component(name, **options), reveal="nothing")


def _situation(
    probability: float, accepted: list[int], expert_masses: list[float]
) -> dict[str, Any]:
    return {
        "probability": probability,
        "accepted": accepted,
        "expert_masses": expert_masses,
    }


_CHOICE_BUDGET = Budget(
    num_iterations=6,
    num_prompts=64,
    num_rollouts=4,
    num_steps=8,
    batch_rollouts=64,
    max_new_tokens=3,
    num_validation=128,
    num_test=128,
    num_samples=8,
)


def _hidden_situation(title: str, bad_mass: float) -> StudyTask:
    """One of three slots is right, which one only the expert knows; the fourth never is.

    bad_mass: the expert's, on the fourth slot, whatever the situation. To the two other wrong
    slots it gives 0.0001: their masses' geometric mean is far below the fourth's, or as low.
    """
    right, wrong = round(0.9998 - bad_mass, 4), 0.0001
    masses = [[right if slot == i else wrong for slot in range(3)] for i in range(3)]
    return StudyTask(
        title=title,
        expert="program",
        problems=ProblemParams(
            source=_component(
                "multiple_choice",
                situations=[_situation(1 / 3, [i], [*masses[i], bad_mass]) for i in range(3)],
                demonstrator_masses=[0.2, 0.2, 0.2, 0.4],
            ),
            num_warm_start=4096,
            num_train=4096,
            num_eval=256,
        ),
        base=_base(num_steps=150, hidden_size=32),
        context=_CONTEXT,
        consult=_consult("multiple_choice"),
        budget=_CHOICE_BUDGET,
        study=_STUDY,
    )


_NEGLECTED_ACTION = StudyTask(
    title="An expert that neglects a good action",
    expert="program",
    problems=ProblemParams(
        source=_component(
            "multiple_choice",
            situations=[
                _situation(0.95, [0, 1], [0.93, 0.0001, 0.0699]),
                _situation(0.05, [0], [0.93, 0.0001, 0.0699]),
            ],
            demonstrator_masses=[0.03, 0.94, 0.03],
        ),
        num_warm_start=4096,
        num_train=4096,
        num_eval=256,
    ),
    base=_base(num_steps=150, hidden_size=32),
    context=_CONTEXT,
    consult=_consult("multiple_choice"),
    budget=_CHOICE_BUDGET,
    study=_STUDY,
)

TASKS = {
    "late_harm": StudyTask(
        title="Early choice, late harm",
        expert="program",
        problems=ProblemParams(
            source=_component(
                "worked_or_direct",
                num_digits=5,
                modulus=7,
                expert_direct_probability=0.7,
                demonstrator_direct_probability=0.5,
                demonstrator_slip_probability=0.1,
            ),
            num_warm_start=4096,
            num_train=4096,
            num_eval=384,
        ),
        base=_base(num_steps=400, hidden_size=48),
        context=_CONTEXT,
        consult=_consult("worked_or_direct", modulus=7),
        budget=Budget(
            num_iterations=6,
            num_prompts=96,
            num_rollouts=4,
            num_steps=12,
            batch_rollouts=96,
            max_new_tokens=7,
            num_validation=192,
            num_test=192,
            num_samples=8,
        ),
        study=_STUDY,
    ),
    "hidden_situation": _hidden_situation("A student that cannot match the expert", 0.0598),
    "hidden_situation_sure": _hidden_situation(
        "Cannot match an expert that never takes the bad slot", 0.0001
    ),
    "neglected_action": _NEGLECTED_ACTION,
    "neglected_action_slow": _NEGLECTED_ACTION.model_copy(
        update={
            "title": "A neglected good action, at one small learning rate",
            "study": _STUDY.model_copy(update={"learning_rates": (0.0003,)}),
        }
    ),
    "chain_arithmetic": StudyTask(
        title="The default task",
        expert="self",
        problems=ProblemParams(
            source=_component(
                "chain_arithmetic",
                num_operations=4,
                modulus=5,
                demonstrator_slip_probability=0.57,
            ),
            num_warm_start=8192,
            num_train=4096,
            num_eval=256,
        ),
        base=_base(num_steps=600, hidden_size=48, correction_fraction=0.2),
        context=_CONTEXT,
        consult=_consult("chain_arithmetic", modulus=5),
        budget=Budget(
            num_iterations=4,
            num_prompts=128,
            num_rollouts=4,
            num_steps=16,
            batch_rollouts=128,
            max_new_tokens=7,
            num_validation=128,
            num_test=128,
            num_samples=8,
        ),
        study=_STUDY.model_copy(update={"tuning_seeds": (101,)}),
    ),
}
