"""From a problem's sampled responses and what the tools made of them to its row of the table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.rollouts.sampled import SampledRollout
from distil_core.tables.schemas import EvaluationRow
from distil_core.verifiers.base import FeedbackItem, Verdict, Verifier

_MAX_SHARE_WITHOUT_VERDICT = 0.1


@dataclass(frozen=True)
class JudgedResponse:
    """One sampled response, or rollout in an environment: then `text` is of its last turn, which
    answers, and `attempt` of all turns. verdict: the verifier's, of the text as far as it goes, or
    the environment's; 'error' where there is none, for the reason in `error`, which is no wrong
    answer. answer: the verifier's form of it, if it has one. num_tokens, logprob: of all that the
    policy wrote, under the sampler."""

    text: str
    attempt: str
    num_tokens: int
    logprob: float
    is_truncated: bool
    verdict: Verdict | Literal["error"]
    answer: str | None
    feedback: tuple[FeedbackItem, ...] = ()
    error: str | None = None

    @property
    def is_correct(self) -> bool:
        """A truncated response is never correct."""
        return self.verdict == "correct" and not self.is_truncated

    @property
    def stated_verdict(self) -> str:
        """The verdict as consultations have it."""
        return "truncated" if self.is_truncated and self.error is None else self.verdict

    @property
    def vote(self) -> str | None:
        """For which answer it counts: the verifier's form of it, or the text where there is none.
        A truncated or malformed response gives no answer, nor does one without verdict."""
        if self.stated_verdict in ("truncated", "malformed", "error"):
            return None
        return self.text if self.answer is None else self.answer


@dataclass(frozen=True)
class ExpertScores:
    """What the expert's columns of a problem's row say (tables/schemas.py, `EvaluationRow`); by
    default of an expert that was not asked."""

    num_samples: int = 0
    num_correct: int = 0
    success_student_logprob: float = 0.0
    success_logprob: float = 0.0
    feedback: str | None = None
    response: str | None = None


EXPERT_NOT_ASKED = ExpertScores()


def judge_samples(
    problems: Sequence[Problem],
    samples: Sequence[SampledRollout],
    verifier: Verifier,
) -> list[JudgedResponse]:
    """Each sample with its verdict, or the error of the verifier, engine or environment in place of
    one; problems and samples in one order."""
    judged = []
    for problem, rollout in zip(problems, samples, strict=True):
        sample, text = rollout.response, rollout.answer
        response = JudgedResponse(
            text=text,
            attempt=rollout.attempt,
            num_tokens=len(sample.token_ids),
            logprob=sum(sample.behaviour_logprobs),
            is_truncated=sample.finish_reason == "length",
            verdict="error",
            answer=None,
            error=sample.error,
        )
        if rollout.verdict is not None:
            response = replace(response, verdict=rollout.verdict, feedback=rollout.feedback)
        elif sample.error is None:
            try:
                found = verifier.verify(problem, text)
                response = replace(
                    response,
                    verdict=found.verdict,
                    answer=found.answer,
                    feedback=(*rollout.feedback, *found.feedback),
                )
            except VerifierError as error:
                response = replace(response, error=str(error))
        judged.append(response)
    return judged


def problem_row(
    problem_id: str,
    split: str,
    responses: Sequence[JudgedResponse],
    expert: ExpertScores = EXPERT_NOT_ASKED,
) -> EvaluationRow:
    """The problem's row of the evaluation table.

    num_samples and what is counted are of the responses with a verdict; lengths and entropy of all
    that the engine gave, 0 where it gave none.

    Entropy is the Monte Carlo estimate -log mu(y), mu the distribution really sampled from
    (temperature and top_p included). Its mean over responses is unbiased for the entropy of mu over
    responses, cut at max_new_tokens; per token it is a ratio of two means, which is consistent.
    """
    num_tokens = sum(response.num_tokens for response in responses)
    num_responses = sum(response.num_tokens > 0 for response in responses)
    nats = -sum(response.logprob for response in responses)
    with_verdict = [response for response in responses if response.error is None]
    return EvaluationRow(
        problem_id=problem_id,
        split=split,
        num_samples=len(with_verdict),
        num_correct=sum(response.is_correct for response in with_verdict),
        num_malformed=sum(response.stated_verdict == "malformed" for response in with_verdict),
        num_truncated=sum(response.is_truncated for response in with_verdict),
        num_distinct=len({response.attempt for response in with_verdict}),
        num_distinct_answers=len(_votes(with_verdict)),
        majority_correct=majority_correct(with_verdict),
        response_tokens_mean=num_tokens / max(1, num_responses),
        entropy_per_response=nats / max(1, num_responses),
        entropy_per_token=nats / max(1, num_tokens),
        first_response=responses[0].attempt,
        first_verdict=responses[0].stated_verdict,
        expert_num_samples=expert.num_samples,
        expert_num_correct=expert.num_correct,
        expert_success_student_logprob=expert.success_student_logprob,
        expert_success_logprob=expert.success_logprob,
        expert_feedback=expert.feedback,
        expert_response=expert.response,
    )


def require_verdicts(responses: Sequence[JudgedResponse], max_missing: int | None = None) -> None:
    """Raise `VerifierError` where too many responses have no verdict for figures to be made of the
    rest: all of them, or more than max_missing, by default one or a tenth of them."""
    errors = [response.error for response in responses if response.error is not None]
    if max_missing is None:
        max_missing = max(1, int(_MAX_SHARE_WITHOUT_VERDICT * len(responses)))
    if errors and len(errors) > min(max_missing, len(responses) - 1):
        raise VerifierError(
            f"{len(errors)} of {len(responses)} responses have no verdict, at most {max_missing} "
            f"may be without one; the first says: {errors[0]}. Mend the reason and run the stage "
            "again: verdicts so far are kept"
        )


def majority_correct(responses: Sequence[JudgedResponse]) -> float:
    """The chance that the most frequent answer is right, ties broken by a fair draw.

    With no vote at all it is 0.
    """
    votes = _votes(responses)
    if not votes:
        return 0.0
    most = max(votes.values())
    leading = {answer for answer, count in votes.items() if count == most}
    right = {response.vote for response in responses if response.is_correct}
    return len(leading & right) / len(leading)


def _votes(responses: Sequence[JudgedResponse]) -> Counter[str]:
    return Counter(response.vote for response in responses if response.vote is not None)
