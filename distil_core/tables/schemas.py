"""All tables: the type of their rows, of which the Parquet file's schema is made.

Each column's documentation travels in the Parquet file itself. A schema's version rises when a
column's name, type or meaning changes; readers refuse another, but for those before to which the
new one only added columns. Token ids are those the model saw or sampled, never encoded again from
text.
"""

from dataclasses import dataclass
from typing import Annotated

from distil_core.tables.columns import (
    Flag,
    Float32,
    Float32s,
    Float64,
    Int32,
    Int32s,
    Int64,
    NullableFloat32s,
    TableSchema,
    Text,
    TokenIds,
)


@dataclass(frozen=True)
class ProblemRow:
    """A problem of a split."""

    problem_id: Annotated[Text, "hash of the prompt: equal problems have equal ids"]
    prompt: Annotated[Text, "what the student sees"]
    reference: Annotated[Text, "gold solution; read by verifiers only"]
    metadata: Annotated[Text, "JSON for verifiers"]


PROBLEMS = TableSchema("problems", 1, ProblemRow)


@dataclass(frozen=True)
class FeedbackItem:
    """One piece of rich feedback, as text. kind: the field of context.expert_template that it is
    for."""

    kind: Annotated[Text, "execution_trace, tool_output, expert_correction, .."]
    text: Annotated[Text, "the feedback as text"]


@dataclass(frozen=True)
class TurnRow:
    """One turn of a rollout: what the policy wrote, and what the environment made of it."""

    num_tokens: Annotated[Int32, "token ids that the policy wrote, its end token included"]
    num_observation_tokens: Annotated[
        Int32, "token ids that the environment wrote after them; 0 after the last turn"
    ]
    finish_reason: Annotated[Text, "'stop' or 'length'"]
    action: Annotated[Text, "the policy's text without the end token, to read"]
    observation: Annotated[Text | None, "the environment's answer, to read; null after the last"]
    reward: Annotated[Float32 | None, "the environment's, of this turn; null where it gave none"]
    verdict: Annotated[
        Text | None, "of the rollout, at its last turn, where the environment judges it; else null"
    ]
    feedback: Annotated[tuple[FeedbackItem, ...], "typed rich feedback on this turn"]
    is_marked: Annotated[Flag, "the environment marks it as a decision that matters"]
    isolation: Annotated[Text | None, "under which code of this turn ran; null where none did"]


@dataclass(frozen=True)
class RolloutRow:
    """What the student sampled, or why there is nothing.

    With turns, response_ids are all tokens after the context in order: each turn's, and those that
    the environment wrote after it. behaviour_logprobs, finish_reason and response are then those of
    the policy's tokens, of the last turn and of its text.
    """

    rollout_id: Annotated[Text, "iteration/problem_id/sample index"]
    problem_id: Annotated[Text, "of the problems table"]
    sample_index: Annotated[Int32, "which of the problem's rollouts, from 0"]
    seed: Annotated[Int64, "of this rollout's random numbers"]
    context_ids: Annotated[TokenIds, "the student's context, as token ids"]
    response_ids: Annotated[TokenIds, "sampled token ids, end token included"]
    behaviour_logprobs: Annotated[
        Float32s, "log-probability of each response token under the sampler really used"
    ]
    finish_reason: Annotated[Text, "'stop', 'length', or 'error'"]
    response: Annotated[Text, "the response's text without the end token, to read"]
    error: Annotated[Text | None, "why there is no response, else null"]
    turns: Annotated[
        tuple[TurnRow, ...], "of rollouts in an environment; empty for a single response"
    ] = ()


ROLLOUTS = TableSchema("rollouts", 2, RolloutRow, added=(("turns",),))


@dataclass(frozen=True)
class ConsultationRow:
    """What the tools, and other sources of feedback, say of a rollout."""

    rollout_id: Annotated[Text, "of the rollouts table, in its order"]
    reward: Annotated[
        Float32 | None,
        "in [0, 1]; null when no verdict could be reached, which is no wrong answer",
    ]
    verdict: Annotated[Text, "'correct', 'wrong', 'malformed', 'truncated', 'error'"]
    feedback: Annotated[tuple[FeedbackItem, ...], "typed rich feedback"]
    isolation: Annotated[
        Text | None, "under which the response's own code ran; null where none of it ran"
    ]
    error: Annotated[Text | None, "why there is no verdict, else null"]


CONSULTATIONS = TableSchema("consultations", 2, ConsultationRow)


@dataclass(frozen=True)
class FeedbackTableRow:
    """A rollout with the expert's distribution at each of the T tokens that the policy wrote.

    docs/method.md#stored-distribution says what of it is stored. With turn_lengths, response_ids
    also hold what the environment wrote between the turns, of which nothing else is stored.
    """

    rollout_id: Annotated[Text, "of the rollouts table"]
    problem_id: Annotated[Text, "rollouts of one problem are a group"]
    reward: Annotated[Float32, "in [0, 1]"]
    context_ids: Annotated[TokenIds, "the student's context"]
    expert_context_ids: Annotated[TokenIds, "what the expert read; empty if none"]
    response_ids: Annotated[TokenIds, "T sampled token ids"]
    behaviour_logprobs: Annotated[Float32s, "T values"]
    has_expert: Annotated[Flag, "False: the expert had nothing to say, no loss"]
    expert_counts: Annotated[Int32s, "T values: expert ids stored at each position"]
    expert_ids: Annotated[
        Int32s, "sum(expert_counts) token ids, position by position, most likely first"
    ]
    expert_logprobs: Annotated[Float32s, "of expert_ids, natural logarithm"]
    expert_tail_logprobs: Annotated[
        Float32s, "T values: log of the mass outside the stored ids, -inf if none"
    ]
    turn_lengths: Annotated[
        Int32s,
        "how response_ids are made up: tokens of the policy, of the environment, of the policy, "
        "..; empty where the policy wrote them all",
    ] = ()
    marked_turns: Annotated[
        Int32s, "turns, from 0, that the environment marks as decisions that matter"
    ] = ()
    turn_rewards: Annotated[
        NullableFloat32s,
        "the environment's of each turn, beside the rollout's own; null where it gave none, empty "
        "where it gave no turn any",
    ] = ()


FEEDBACK = TableSchema(
    "feedback",
    3,
    FeedbackTableRow,
    added=(("turn_lengths", "marked_turns"), ("turn_rewards",)),
)


@dataclass(frozen=True)
class ContinuationRow:
    """Tokens that the expert wrote itself: no importance weight and no future credit is theirs,
    since the student never sampled them."""

    rollout_id: Annotated[Text, "the student's rollout that the expert wrote on"]
    problem_id: Annotated[Text, "of the problems table"]
    context_ids: Annotated[
        TokenIds,
        "the student's context and what the student wrote before the expert took over",
    ]
    response_ids: Annotated[TokenIds, "T token ids, all written by the expert"]
    expert_counts: Annotated[Int32s, "as in the feedback table"]
    expert_ids: Annotated[Int32s, "as in the feedback table"]
    expert_logprobs: Annotated[Float32s, "as in the feedback table"]
    expert_tail_logprobs: Annotated[Float32s, "as in the feedback table"]


CONTINUATIONS = TableSchema("continuations", 1, ContinuationRow)
CONTINUATIONS_FOLDER = "continuations"
"""Of the expert's own rows, beside the shards of a feedback table."""


@dataclass(frozen=True)
class EvaluationRow:
    """A held-out problem, with what is counted of the policy's samples and the expert's; the
    expert's columns are by default of one that was not asked."""

    problem_id: Annotated[Text, "of the problems table"]
    split: Annotated[Text, "'eval' or 'generalisation'"]
    num_samples: Annotated[Int32, "n"]
    num_correct: Annotated[Int32, "c"]
    num_malformed: Annotated[Int32, "responses that break the task's format"]
    num_truncated: Annotated[Int32, "responses cut at max_new_tokens"]
    num_distinct: Annotated[Int32, "distinct response texts"]
    num_distinct_answers: Annotated[Int32, "distinct answers among finished responses"]
    majority_correct: Annotated[
        Float64, "whether the most frequent answer is right; of tied ones, the share that is"
    ]
    response_tokens_mean: Annotated[Float64, "mean length in tokens"]
    entropy_per_response: Annotated[
        Float64, "mean over samples of -log of the sampler's probability of the response, in nats"
    ]
    entropy_per_token: Annotated[Float64, "the same, all samples' nats by all tokens"]
    first_response: Annotated[Text, "sample 0, to read"]
    first_verdict: Annotated[Text, "of sample 0, as in consultations"]
    expert_num_samples: Annotated[
        Int32, "responses of the expert, each with the feedback on one of the first samples"
    ] = 0
    expert_num_correct: Annotated[Int32, "of these"] = 0
    expert_success_student_logprob: Annotated[
        Float64, "sum over the expert's correct responses of the policy's log-probability"
    ] = 0.0
    expert_success_logprob: Annotated[
        Float64, "sum over the expert's correct responses of the expert's log-probability"
    ] = 0.0
    expert_feedback: Annotated[
        Text | None,
        "what the tools said of sample 0, to read; null where the expert was not asked",
    ] = None
    expert_response: Annotated[Text | None, "the expert's response to it, to read"] = None


EVALUATION = TableSchema("evaluation", 2, EvaluationRow)
