"""Verify many responses: in worker processes, each pair once, resumable, with bounded memory."""

from distil_core.verifiers.pool.jobs import Outcome, VerificationJob, settings_digest
from distil_core.verifiers.pool.journal import Journal, JournalVerifier
from distil_core.verifiers.pool.run import verify_all

__all__ = [
    "Journal",
    "JournalVerifier",
    "Outcome",
    "VerificationJob",
    "settings_digest",
    "verify_all",
]
