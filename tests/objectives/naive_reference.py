"""The objectives of docs/method.md again, as loops over plain floats.

Written from the formulas alone, so that production has something to disagree with.
"""

import math
from collections.abc import Callable
from typing import Any

from distil_core.objectives.base import ObjectiveBatch

Rows = list[list[float]]


class Naive:
    """A batch as nested lists, with each formula spelt out token by token."""

    def __init__(self, batch: ObjectiveBatch):
        self.student = batch.student_bucket_logprobs_btk.tolist()
        self.expert = batch.expert_bucket_logprobs_btk.tolist()
        self.sampled: Rows = batch.sampled_logprobs_bt.tolist()
        self.behaviour = batch.behaviour_logprobs_bt.tolist()
        self.response = batch.response_mask_bt.tolist()
        self.has_expert = batch.expert_mask_b.tolist()
        self.rewards = batch.rewards_b.tolist()
        self.groups = batch.group_ids_b.tolist()
        self.buckets = [] if batch.sampled_buckets_bt is None else batch.sampled_buckets_bt.tolist()
        self.rows = range(len(self.sampled))
        self.positions = range(len(self.sampled[0]))

    def trained(self, b: int, t: int) -> bool:
        return bool(self.response[b][t]) and any(self.says_something(b, k) for k in self.positions)

    def says_something(self, b: int, t: int) -> bool:
        return bool(
            self.response[b][t]
            and self.has_expert[b]
            and any(value > -math.inf for value in self.expert[b][t])
        )

    def weight(self, b: int, t: int, is_clip: float) -> float:
        return float(min(math.exp(self.sampled[b][t] - self.behaviour[b][t]), is_clip))

    def pairs(self, b: int, t: int) -> list[tuple[float, float]]:
        """(expert mass, student mass) where the expert has mass, then what is outside it."""
        inside = [
            (math.exp(e), math.exp(s))
            for e, s in zip(self.expert[b][t], self.student[b][t], strict=True)
            if e > -math.inf
        ]
        return [*inside, (0.0, max(0.0, 1.0 - sum(student for _, student in inside)))]

    def cross_entropy(self, b: int, t: int) -> float:
        if not self.says_something(b, t):
            return 0.0
        return -sum(e * math.log(s) for e, s in self.pairs(b, t) if e > 0)

    def expert_entropy(self, b: int, t: int) -> float:
        if not self.says_something(b, t):
            return 0.0
        return -sum(e * math.log(e) for e, _ in self.pairs(b, t) if e > 0)

    def reverse_kl(self, b: int, t: int, floor: float) -> float:
        return sum(s * math.log(s / max(e, floor)) for e, s in self.pairs(b, t) if s > 1e-15)

    def jensen_shannon(self, b: int, t: int, w: float) -> float:
        total = 0.0
        for e, s in self.pairs(b, t):
            mixture = w * e + (1 - w) * s
            total += w * e * math.log(e / mixture) if e > 0 else 0.0
            total += (1 - w) * s * math.log(s / mixture) if s > 0 else 0.0
        return total

    def label_cost(self, b: int, t: int) -> float:
        stored = self.expert[b][t][:-1]
        best = max(range(len(stored)), key=lambda k: stored[k])
        return -float(self.student[b][t][best]) if stored[best] > -math.inf else 0.0

    def sampled_log_ratio(self, b: int, t: int, floor: float) -> float:
        bucket = self.buckets[b][t]
        expert = math.exp(self.expert[b][t][bucket])
        student = math.exp(self.student[b][t][bucket]) if expert else self.pairs(b, t)[-1][1]
        return math.log(student / max(expert, floor))

    def local_loss(self, cost: Callable[[int, int], float], options: dict[str, Any]) -> float:
        """The masked, weighted, normalised sum of a token's cost; without `is_clip` in the options
        all weights are 1."""
        losses = [
            [
                (self.weight(b, t, options["is_clip"]) if "is_clip" in options else 1.0)
                * cost(b, t)
                if self.says_something(b, t)
                else 0.0
                for t in self.positions
            ]
            for b in self.rows
        ]
        return self.reduced(losses, options)

    def group_advantage(self, b: int, normalisation: str) -> float:
        members = [self.rewards[other] for other in self.rows if self.same_group(b, other)]
        mean = sum(members) / len(members)
        deviation = math.sqrt(sum((reward - mean) ** 2 for reward in members) / len(members))
        if normalisation == "none":
            return float(self.rewards[b] - mean)
        return float((self.rewards[b] - mean) / deviation) if deviation > 1e-6 else 0.0

    def same_group(self, b: int, other: int) -> bool:
        return bool(self.groups[other] == self.groups[b])

    def grpo(self, options: dict[str, Any]) -> float:
        total, rows_used, tokens_used = 0.0, set(), 0
        for b in self.rows:
            advantage = self.group_advantage(b, options["advantage_normalisation"])
            for t in self.positions:
                if not self.response[b][t]:
                    continue
                ratio = math.exp(self.sampled[b][t] - self.behaviour[b][t])
                clipped = min(max(ratio, 1 - options["clip_low"]), 1 + options["clip_high"])
                total -= min(ratio * advantage, clipped * advantage)
                rows_used.add(b)
                tokens_used += 1
        used = tokens_used if options["loss_normalisation"] == "tokens" else len(rows_used)
        return total / max(used, 1)

    def forward_gradients(self, options: dict[str, Any]) -> tuple[list[Rows], Rows]:
        """By the student's bucket log-probabilities, and by those of the sampled tokens: credit
        and importance weight are constants."""
        advantages = self.advantages(options)
        one = self.reduced([[1.0 for _ in self.positions] for _ in self.rows], options)
        counted = sum(self.trained(b, t) for b in self.rows for t in self.positions)
        scale = one / max(counted, 1)

        def weight(b: int, t: int) -> float:
            return self.weight(b, t, options["is_clip"]) * scale if self.trained(b, t) else 0.0

        local = [
            [
                [
                    -weight(b, t) * math.exp(e) if self.says_something(b, t) else 0.0
                    for e in self.expert[b][t]
                ]
                for t in self.positions
            ]
            for b in self.rows
        ]
        credit = [
            [weight(b, t) * options["weight"] * advantages[b][t] for t in self.positions]
            for b in self.rows
        ]
        return local, credit

    def credits(self, options: dict[str, Any]) -> Rows:
        def cost(b: int, t: int) -> float:
            entropy = self.expert_entropy(b, t) if options["cost"] == "kl_divergence" else 0.0
            return self.cross_entropy(b, t) - entropy

        horizon = options["horizon"] or len(self.positions)
        return [
            [
                sum(
                    options["discount"] ** (k - t - 1) * cost(b, k)
                    for k in self.positions
                    if t < k <= t + horizon
                )
                for t in self.positions
            ]
            for b in self.rows
        ]

    def baseline(self, future: Rows, b: int, t: int, kind: str) -> float:
        members = [
            future[other][t]
            for other in self.rows
            if self.same_group(b, other)
            and self.trained(other, t)
            and (kind == "group_mean" or other != b)
        ]
        return sum(members) / len(members) if members and kind != "none" else 0.0

    def advantages(self, options: dict[str, Any]) -> Rows:
        future = self.credits(options)
        values = [
            [
                future[b][t] - self.baseline(future, b, t, options["baseline"])
                if self.trained(b, t)
                else 0.0
                for t in self.positions
            ]
            for b in self.rows
        ]
        if options["advantage_normalisation"] == "none":
            return values
        used = [values[b][t] for b in self.rows for t in self.positions if self.trained(b, t)]
        mean = sum(used) / max(len(used), 1)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in used) / max(len(used), 1))
        return [[value / max(deviation, 1e-8) for value in row] for row in values]

    def forward_cross_entropy(self, options: dict[str, Any]) -> float:
        advantages = self.advantages(options)
        return self.reduced(
            [
                [
                    self.weight(b, t, options["is_clip"])
                    * (
                        self.cross_entropy(b, t)
                        + options["weight"] * advantages[b][t] * self.sampled[b][t]
                    )
                    for t in self.positions
                ]
                for b in self.rows
            ],
            options,
        )

    def reduced(self, losses: Rows, options: dict[str, Any]) -> float:
        counted = [(b, t) for b in self.rows for t in self.positions if self.trained(b, t)]
        normaliser = {
            "rollouts": max(len({b for b, _ in counted}), 1),
            "tokens": max(len(counted), 1),
            "constant": options.get("loss_constant"),
        }[options["loss_normalisation"]]
        return sum(losses[b][t] for b, t in counted) / float(normaliser)
