"""Worker processes for verification."""

from distil_core.config.models import ConsultParams
from distil_core.errors import VerifierError
from distil_core.verifiers.pool.jobs import NoVerdictInTimeError, Outcome, VerificationJob
from distil_core.worker_pool import WorkerFailure, WorkerPool


class Pool(WorkerPool[VerificationJob, Outcome]):
    """Processes that judge jobs. A row on which one dies twice, or that exceeds the limit, is a
    `VerifierError`."""

    worker_module = "distil_core.verifiers.pool.worker"

    def __init__(self, params: ConsultParams, num_workers: int, chunk_size: int):
        super().__init__(params, params.verify_timeout_s, num_workers, chunk_size)

    def died(self, how: str) -> Outcome:
        """A row's error."""
        return VerifierError(f"the verifier's process {how} on this response, twice")

    def overdue(self) -> Outcome:
        """A row's error."""
        return NoVerdictInTimeError(
            f"no verdict within {self._timeout_s:g} s (consult.verify_timeout_s); the verifier's "
            "process was ended"
        )

    def failed(self, failure: WorkerFailure, job: VerificationJob | None) -> Exception:
        """The verifier's own error, or that it has a defect."""
        if failure.error is not None:
            return failure.error
        where = "while it was built" if job is None else f"on problem {job.problem.problem_id}"
        return VerifierError(
            f"the verifier failed {where}, which is a defect of it:\n{failure.text}"
        )

    def not_started(self, how: str) -> Exception:
        """That it judged nothing."""
        return VerifierError(f"the verifier: {how}")
