"""From a problem's sampled responses and what the tools made of them to its row of the table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distil_core.tools.base import FeedbackItem, Verdict


@dataclass(frozen=True)
class JudgedResponse:
    """One sampled response. verdict: the verifier's, of the text as far as it goes. answer: the
    verifier's form of it, if it has one. logprob: of the whole response under the sampler."""

    text: str
    num_tokens: int
    logprob: float
    is_truncated: bool
    verdict: Verdict
    answer: str | None
    feedback: tuple[FeedbackItem, ...] = ()

    @property
    def is_correct(self) -> bool:
        """A truncated response is never correct."""
        return self.verdict == "correct" and not self.is_truncated

    @property
    def stated_verdict(self) -> str:
        """The verdict as consultations have it."""
        return "truncated" if self.is_truncated else self.verdict

    @property
    def vote(self) -> str | None:
        """For which answer it counts: the verifier's form of it, or the text where there is none.
        A truncated or malformed response gives no answer."""
        if self.stated_verdict in ("truncated", "malformed"):
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

    Entropy is the Monte Carlo estimate -log mu(y), mu the distribution really sampled from
    (temperature and top_p included). Its mean over responses is unbiased for the entropy of mu over
    responses, cut at max_new_tokens; per token it is a ratio of two means, which is consistent.
    """
    num_tokens = sum(response.num_tokens for response in responses)
    nats = -sum(response.logprob for response in responses)
    return {
        "problem_id": problem_id,
        "split": split,
        "num_samples": len(responses),
        "num_correct": sum(response.is_correct for response in responses),
        "num_malformed": sum(response.stated_verdict == "malformed" for response in responses),
        "num_truncated": sum(response.is_truncated for response in responses),
        "num_distinct": len({response.text for response in responses}),
        "num_distinct_answers": len(_votes(responses)),
        "majority_correct": majority_correct(responses),
        "response_tokens_mean": num_tokens / len(responses),
        "entropy_per_response": nats / len(responses),
        "entropy_per_token": nats / num_tokens,
        "first_response": responses[0].text,
        "first_verdict": responses[0].stated_verdict,
    }


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
