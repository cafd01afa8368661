"""The checks find what is wrong: components with one defect each fail the check that is about it.

The example package's modules, with one line of each changed (40 s).
"""

import itertools
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from distil_core.problems import PROBLEM_SOURCES
from distil_core.testing import run_checks
from distil_core.testing.kinds import Samples, component_checks

PACKAGE = Path(__file__).parents[1] / "example_package" / "my_lab"
NUMBERS = itertools.count()

OBJECTIVE = "focal_objective"
VERIFIER = "reversal_verifier"
SOURCE = "reversed_digits"
EXPERT = "answer_key"
OPTIONS: dict[str, dict[str, Any]] = {SOURCE: {"num_digits": 4}}
KINDS = {
    OBJECTIVE: "objective",
    VERIFIER: "verifier",
    SOURCE: "problem source",
    EXPERT: "expert",
}
Changed = Callable[..., str]


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Changed:
    """Write a copy of the package, a module of it changed; returns that one's dotted path."""

    def write(module: str, *replacements: tuple[str, str]) -> str:
        package = f"broken_{next(NUMBERS)}"
        (tmp_path / package).mkdir()
        for file in PACKAGE.glob("*.py"):
            text = file.read_text(encoding="utf-8").replace("my_lab.", f"{package}.")
            if file.stem == module:
                for old, new in replacements:
                    assert old in text, old
                    text = text.replace(old, new)
            (tmp_path / package / file.name).write_text(text, encoding="utf-8")
        return f"{package}.{module}"

    monkeypatch.syspath_prepend(tmp_path)
    return write


def failed(name: str) -> dict[str, str]:
    """What was found by each check that failed."""
    module = name.rpartition(".")[2]
    digits = PROBLEM_SOURCES.build(f"{name.partition('.')[0]}.{SOURCE}", OPTIONS[SOURCE])
    problems = list(islice(digits.problems("train", 1), 3))
    samples = Samples(problems, responses=["0123", problems[0].reference])
    results = run_checks(component_checks(KINDS[module], name, OPTIONS.get(module, {}), samples))
    return {str(one.check): one.detail for one in results if one.outcome == "failed"}


@pytest.mark.parametrize("module", KINDS)
def test_as_it_is_it_passes(changed: Changed, module: str) -> None:
    assert failed(changed(module)) == {}


DEFECTS: dict[str, tuple[str, str, str, str]] = {
    "no explanation of an option": (
        OBJECTIVE,
        '    """How sharply it looks away from what is learned; 0 is plain cross-entropy."""\n',
        "",
        "each option is explained",
    ),
    "options that can be changed": (
        OBJECTIVE,
        '    """What the loss looks at."""\n',
        '    """What the loss looks at."""\n\n    model_config = {"frozen": False}\n',
        "the module is found, with Options and build",
    ),
    "masked positions that are read": (
        OBJECTIVE,
        "        return reduce_loss(",
        "        losses_bt = losses_bt + 0.0 * batch.sampled_logprobs_bt.sum()\n"
        "        return reduce_loss(",
        "what is masked is not read, and gets no gradient",
    ),
    "a loss that depends on a row's place": (
        OBJECTIVE,
        "        losses_bt = weights_bt * ",
        "        place_b1 = torch.arange(len(weights_bt), dtype=weights_bt.dtype)[:, None]\n"
        "        losses_bt = (1 + place_b1) * weights_bt * ",
        "the order of rows does not matter",
    ),
    "turns of padding that are read": (
        OBJECTIVE,
        "        diagnostics = {",
        '        turns_bt = getattr(batch, "turn_ids_bt", None)\n'
        "        if turns_bt is not None:\n"
        "            losses_bt = losses_bt / (1 + turns_bt.amax(1, keepdim=True))\n"
        "        diagnostics = {",
        "with several turns, what stands on padding is not read",
    ),
    "turns compared with those of the row beside it": (
        OBJECTIVE,
        "        diagnostics = {",
        '        turns_bt = getattr(batch, "turn_ids_bt", None)\n'
        "        if turns_bt is not None:\n"
        "            losses_bt = losses_bt * (1 + (turns_bt == turns_bt[:1]))\n"
        "        diagnostics = {",
        "rollouts of several turns train, in any order",
    ),
    "a group's mean that nobody was told of": (
        OBJECTIVE,
        "        diagnostics = {",
        "        same_bb = batch.group_ids_b[:, None] == batch.group_ids_b[None]\n"
        "        losses_bt = losses_bt * same_bb.sum(1, keepdim=True)\n"
        "        diagnostics = {",
        "compares_rollouts says whether other rollouts of a prompt count",
    ),
    "a gradient that goes nowhere": (
        OBJECTIVE,
        "matched.expert_logprobs_btk, matched.student_logprobs_btk\n        )\n        diagnostics",
        "matched.expert_logprobs_btk, matched.student_logprobs_btk\n        )\n"
        "        losses_bt = torch.as_tensor(losses_bt.tolist(), dtype=losses_bt.dtype) + 0.0 * (\n"
        "            matched.student_logprobs_btk.sum(-1)\n        )\n        diagnostics",
        "the gradient is that of the loss (float64, stop-gradients held fixed)",
    ),
    "a diagnostic that is a tensor": (
        OBJECTIVE,
        "        return reduce_loss(",
        "        if True:\n"
        "            return ObjectiveOutput(\n"
        "                losses_bt.masked_fill(~mask_bt, 0).sum(),\n"
        "                losses_bt.masked_fill(~mask_bt, 0).detach(),\n"
        '                {"focus": weights_bt.mean()},\n'
        "            )\n"
        "        return reduce_loss(",
        "diagnostics are finite plain floats",
    ),
    "a response that raises": (
        VERIFIER,
        "        formed = len(response)",
        "        int(response)\n        formed = len(response)",
        "no response makes it raise, and each gets a verdict and a reward in [0, 1]",
    ),
    "a reward above 1": (
        VERIFIER,
        "float(share == 1)",
        "2 * float(share == 1)",
        "no response makes it raise, and each gets a verdict and a reward in [0, 1]",
    ),
    "nothing that is right": (
        VERIFIER,
        "        formed = len(response) == len(expected)",
        '        if response == "no answer":\n            response = expected\n'
        "        formed = len(response) == len(expected)",
        "what answers nothing is not right",
    ),
    "a memory of earlier responses": (
        VERIFIER,
        '        feedback = [FeedbackItem("execution_trace", "".join(marks))]',
        "        self.num_seen = 1 + getattr(self, 'num_seen', 0)\n"
        '        feedback = [FeedbackItem("execution_trace", str(self.num_seen))]',
        "the same response gets the same verdict, in any order and from another one built",
    ),
    "one answer for all": (
        VERIFIER,
        "answer=response if formed else None",
        'answer="a number" if formed else None',
        "responses with one `answer` get one verdict",
    ),
    "an isolation that the options do not tell": (
        VERIFIER,
        "    is_bounded = True\n",
        '    is_bounded = True\n    isolation = "rlimits_only"\n',
        "the isolation told by the options is the one it has",
    ),
    "another verdict in a worker": (
        VERIFIER,
        '"".join(marks))]',
        '"".join(marks) + str(__import__("os").getpid()))]',
        "worker processes judge as this one does",
    ),
    "random numbers from nowhere": (
        SOURCE,
        'random = generator(seed, "problems", split)',
        "random = np.random.default_rng()",
        "seed and split alone decide which problems, and in which order",
    ),
    "splits that are one": (
        SOURCE,
        'generator(seed, "problems", split)',
        'generator(seed, "problems")',
        "the held-out problems are not those that are trained on",
    ),
    "an oracle that runs ahead": (
        SOURCE,
        "problem.reference[: len(attempt) + 1]",
        "problem.reference",
        "its oracle says one character for each of an attempt's, and at most one more",
    ),
    "a character that is not of the alphabet": (
        SOURCE,
        "reference=prompt[::-1])",
        'reference="\\u2192" + prompt[::-1])',
        "prompts and supervised text are of its alphabet",
    ),
    "mass that is missing": (
        EXPERT,
        "{solution[position]: 1.0}",
        "{solution[position]: 0.5}",
        "distributions have mass 1 and keep top_k and top_p",
    ),
    "answers that are missing": (
        EXPERT,
        "        return answers",
        "        return answers[:-1]",
        "it gives one answer to each query, with a distribution for each token",
    ),
    "an answer that depends on others": (
        EXPERT,
        "self._states(query),",
        "self._states(query) if done == 1 else [{} for _ in query.response_ids],",
        "an answer depends on its own query alone",
    ),
    "a problem that must be there": (
        EXPERT,
        '            raise ExpertError("expert',
        '            raise RuntimeError("expert',
        "it can be asked nothing, and about a rollout without feedback or problem",
    ),
    "weights that are no policy's": (
        EXPERT,
        "    doubt: float",
        "    @property\n    def policy_weights(self):\n        return 'latest'\n\n    doubt: float",
        "its options tell the campaign what it works with",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_fails_the_check_that_is_about_it(changed: Changed, defect: str) -> None:
    module, old, new, check = DEFECTS[defect]
    found = failed(changed(module, (old, new)))
    assert check in found, found


def test_a_reference_that_is_told_is_found_where_the_prompt_does_not_give_it(
    changed: Changed,
) -> None:
    """The example's answer follows from the prompt, so nothing is hidden; here it does not."""
    name = changed(
        VERIFIER,
        ("expected = problem.prompt[::-1]", "expected = problem.reference"),
        (" or problem.reference != problem.prompt[::-1]", ""),
        ('"".join(marks))]', '"".join(marks) + f" expected {problem.reference}")]'),
    )
    found = failed(name)
    assert "of the reference" in found["with reveal nothing, feedback does not hold the reference"]


def test_a_wider_distribution_than_asked_for_is_found(changed: Changed) -> None:
    name = changed(
        EXPERT,
        ("self._setting.top_k,", "64,"),
        ("{solution[position]: 1.0}", "{solution[position]: 0.4, 60: 0.2, 61: 0.2, 62: 0.2}"),
    )
    found = failed(name)
    assert "top_k is 2" in found["distributions have mass 1 and keep top_k and top_p"]
