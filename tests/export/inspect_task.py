"""A tiny task of inspect_ai that knows nothing of distil: sums, and a scorer of its own."""

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import Score, Target, accuracy, scorer, stderr
from inspect_ai.solver import TaskState, generate, system_message

PROMPTS = ["1+2-1=", "2+2+1=", "0-1+2=", "1-1-1="]


@scorer(metrics=[accuracy(), stderr()])
def same_last_character():
    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion
        return Score(value=answer[-1:] == target.text, answer=answer)

    return score


@task
def sums(told: bool = False) -> Task:
    samples = [Sample(input=prompt, target="2", id=prompt) for prompt in PROMPTS]
    solvers = [system_message("Be right."), generate()] if told else [generate()]
    return Task(dataset=MemoryDataset(samples), solver=solvers, scorer=same_last_character())
