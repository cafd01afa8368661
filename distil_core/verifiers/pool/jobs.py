"""What is verified, the outcome, and the digests by which a verdict is found again."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from distil_core.config.models import ConsultParams
from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.source_code import code_digest, code_of, import_closure
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verification

Outcome = Verification | VerifierError
"""A verdict, or why there is none."""


class NoVerdictInTimeError(VerifierError):
    """The verifier had not finished after `consult.verify_timeout_s`."""


@dataclass(frozen=True)
class VerificationJob:
    """One response to one problem."""

    problem: Problem
    response: str

    @cached_property
    def key(self) -> bytes:
        """Sixteen bytes of the hash of everything that the verifier is given."""
        problem = self.problem
        parts = [problem.prompt, problem.reference, problem.metadata, self.response]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def settings_digest(params: ConsultParams, stage_version: int) -> str:
    """Stands for everything but the job that a verdict depends on: the verifier, its options,
    what it may reveal, and its code as it is now, a user's own package included."""
    parts = [
        params.verifier.model_dump(mode="json"),
        params.reveal,
        params.verify_timeout_s,
        stage_version,
        _code_digest(params.verifier.name),
    ]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _code_digest(name: str) -> str:
    """Of the verifier and of what starts it, which other code of ours leaves as it is."""
    room = VERIFIERS.place.package
    pool = code_digest(import_closure(f"{room}.pool", [room, "distil_core.worker_pool"]))
    return pool + code_of(VERIFIERS.resolve(name), room).digest
