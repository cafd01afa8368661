"""From a problem's sampled responses and what the tools made of them to its row of the table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distil_core.errors import VerifierError
from distil_core.verifiers.base import FeedbackItem, Verdict

_MAX_SHARE_WITHOUT_VERDICT = 0.1


@dataclass(frozen=True)
class JudgedResponse:
    """One sampled response. verdict: the verifier's, of the text as far as it goes; 'error' where
    it reached none, for the reason in `error`, which is no wrong answer. answer: the verifier's
    form of it, if it has one. logprob: of the whole response under the sampler."""

    text: str
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


EXPERT_NOT_ASKED: Mapping[str, Any] = {
    "expert_num_samples": 0,
    "expert_num_correct": 0,
    "expert_success_student_logprob": 0.0,
    "expert_success_logprob": 0.0,
    "expert_feedback": None,
    "expert_response": None,
}
"""The expert's columns of a row where it was not asked."""


def problem_row(problem_id: str, split: str, responses: Sequence[JudgedResponse]) -> dict[str, Any]:
    """The problem's row of the evaluation table (tables/schemas.py), without the expert's columns.

    num_samples and what is counted are of the responses with a verdict; lengths and entropy of all.

    Entropy is the Monte Carlo estimate -log mu(y), mu the distribution really sampled from
    (temperature and top_p included). Its mean over responses is unbiased for the entropy of mu over
    responses, cut at max_new_tokens; per token it is a ratio of two means, which is consistent.
    """
    num_tokens = sum(response.num_tokens for response in responses)
    nats = -sum(response.logprob for response in responses)
    with_verdict = [response for response in responses if response.error is None]
    return {
        "problem_id": problem_id,
        "split": split,
        "num_samples": len(with_verdict),
        "num_correct": sum(response.is_correct for response in with_verdict),
        "num_malformed": sum(response.stated_verdict == "malformed" for response in with_verdict),
        "num_truncated": sum(response.is_truncated for response in with_verdict),
        "num_distinct": len({response.text for response in with_verdict}),
        "num_distinct_answers": len(_votes(with_verdict)),
        "majority_correct": majority_correct(with_verdict),
        "response_tokens_mean": num_tokens / len(responses),
        "entropy_per_response": nats / len(responses),
        "entropy_per_token": nats / num_tokens,
        "first_response": responses[0].text,
        "first_verdict": responses[0].stated_verdict,
    }


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
