"""The schemas of all tables. Each field's documentation travels in the Parquet file itself.

A schema's version rises when a column's name, type or meaning changes; readers refuse another.
Token ids are those the model saw or sampled, never encoded again from text.
"""

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class TableSchema:
    """A named, versioned Arrow schema."""

    name: str
    version: int
    arrow: pa.Schema


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("item", kind, nullable=False))


PROBLEMS = TableSchema(
    "problems",
    1,
    pa.schema(
        [
            _field("problem_id", pa.string(), "hash of the prompt: equal problems have equal ids"),
            _field("prompt", pa.string(), "what the student sees"),
            _field("reference", pa.string(), "gold solution; read by verifiers only"),
            _field("metadata", pa.string(), "JSON for verifiers"),
        ]
    ),
)

ROLLOUTS = TableSchema(
    "rollouts",
    1,
    pa.schema(
        [
            _field("rollout_id", pa.string(), "iteration/problem_id/sample index"),
            _field("problem_id", pa.string(), "of the problems table"),
            _field("sample_index", pa.int32(), "which of the problem's rollouts, from 0"),
            _field("seed", pa.int64(), "of this rollout's random numbers"),
            _field("context_ids", _list(pa.int32()), "the student's context, as token ids"),
            _field("response_ids", _list(pa.int32()), "sampled token ids, end token included"),
            _field(
                "behaviour_logprobs",
                _list(pa.float32()),
                "log-probability of each response token under the sampler really used",
            ),
            _field("finish_reason", pa.string(), "'stop', 'length', or 'error'"),
            _field("response", pa.string(), "the response's text without the end token, to read"),
            _field("error", pa.string(), "why there is no response, else null", nullable=True),
        ]
    ),
)

_FEEDBACK_ITEM = pa.struct(
    [
        _field("kind", pa.string(), "execution_trace, tool_output, expert_correction, .."),
        _field("text", pa.string(), "the feedback as text"),
    ]
)

CONSULTATIONS = TableSchema(
    "consultations",
    2,
    pa.schema(
        [
            _field("rollout_id", pa.string(), "of the rollouts table, in its order"),
            _field(
                "reward",
                pa.float32(),
                "in [0, 1]; null when no verdict could be reached, which is no wrong answer",
                nullable=True,
            ),
            _field("verdict", pa.string(), "'correct', 'wrong', 'malformed', 'truncated', 'error'"),
            _field("feedback", _list(_FEEDBACK_ITEM), "typed rich feedback"),
            _field(
                "isolation",
                pa.string(),
                "under which the response's own code ran; null where none of it ran",
                nullable=True,
            ),
            _field("error", pa.string(), "why there is no verdict, else null", nullable=True),
        ]
    ),
)

FEEDBACK = TableSchema(
    "feedback",
    1,
    pa.schema(
        [
            _field("rollout_id", pa.string(), "of the rollouts table"),
            _field("problem_id", pa.string(), "rollouts of one problem are a group"),
            _field("reward", pa.float32(), "in [0, 1]"),
            _field("context_ids", _list(pa.int32()), "the student's context"),
            _field("expert_context_ids", _list(pa.int32()), "what the expert read; empty if none"),
            _field("response_ids", _list(pa.int32()), "T sampled token ids"),
            _field("behaviour_logprobs", _list(pa.float32()), "T values"),
            _field("has_expert", pa.bool_(), "False: the expert had nothing to say, no loss"),
            _field(
                "expert_counts", _list(pa.int32()), "T values: expert ids stored at each position"
            ),
            _field(
                "expert_ids",
                _list(pa.int32()),
                "sum(expert_counts) token ids, position by position, most likely first",
            ),
            _field("expert_logprobs", _list(pa.float32()), "of expert_ids, natural logarithm"),
            _field(
                "expert_tail_logprobs",
                _list(pa.float32()),
                "T values: log of the mass outside the stored ids, -inf if none",
            ),
        ]
    ),
)

CONTINUATIONS = TableSchema(
    "continuations",
    1,
    pa.schema(
        [
            _field("rollout_id", pa.string(), "the student's rollout that the expert wrote on"),
            _field("problem_id", pa.string(), "of the problems table"),
            _field(
                "context_ids",
                _list(pa.int32()),
                "the student's context and what the student wrote before the expert took over",
            ),
            _field("response_ids", _list(pa.int32()), "T token ids, all written by the expert"),
            _field("expert_counts", _list(pa.int32()), "as in the feedback table"),
            _field("expert_ids", _list(pa.int32()), "as in the feedback table"),
            _field("expert_logprobs", _list(pa.float32()), "as in the feedback table"),
            _field("expert_tail_logprobs", _list(pa.float32()), "as in the feedback table"),
        ]
    ),
)
"""Rows beside a feedback table whose tokens are the expert's: no importance weight and no future
credit is theirs, since the student never sampled them."""

EVALUATION = TableSchema(
    "evaluation",
    2,
    pa.schema(
        [
            _field("problem_id", pa.string(), "of the problems table"),
            _field("split", pa.string(), "'eval' or 'generalisation'"),
            _field("num_samples", pa.int32(), "n"),
            _field("num_correct", pa.int32(), "c"),
            _field("num_malformed", pa.int32(), "responses that break the task's format"),
            _field("num_truncated", pa.int32(), "responses cut at max_new_tokens"),
            _field("num_distinct", pa.int32(), "distinct response texts"),
            _field("num_distinct_answers", pa.int32(), "distinct answers among finished responses"),
            _field(
                "majority_correct",
                pa.float64(),
                "whether the most frequent answer is right; of tied ones, the share that is",
            ),
            _field("response_tokens_mean", pa.float64(), "mean length in tokens"),
            _field(
                "entropy_per_response",
                pa.float64(),
                "mean over samples of -log of the sampler's probability of the response, in nats",
            ),
            _field("entropy_per_token", pa.float64(), "the same, all samples' nats by all tokens"),
            _field("first_response", pa.string(), "sample 0, to read"),
            _field("first_verdict", pa.string(), "of sample 0, as in consultations"),
            _field(
                "expert_num_samples",
                pa.int32(),
                "responses of the expert, each with the feedback on one of the first samples",
            ),
            _field("expert_num_correct", pa.int32(), "of these"),
            _field(
                "expert_success_student_logprob",
                pa.float64(),
                "sum over the expert's correct responses of the policy's log-probability",
            ),
            _field(
                "expert_success_logprob",
                pa.float64(),
                "sum over the expert's correct responses of the expert's log-probability",
            ),
            _field(
                "expert_feedback",
                pa.string(),
                "what the tools said of sample 0, to read; null where the expert was not asked",
                nullable=True,
            ),
            _field(
                "expert_response",
                pa.string(),
                "the expert's response to it, to read",
                nullable=True,
            ),
        ]
    ),
)
