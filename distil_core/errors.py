"""The error tree: one class per boundary, so that a caller can tell whose fault a failure is.

Messages say what was expected, what was found, where, and what to do. A failed rollout is a row
with its error in the table, never one of these.
"""


class DistilError(Exception):
    """Base of every error this project raises on purpose; front doors print it without a trace."""


class ConfigError(DistilError):
    """`params.yaml`, a frozen iteration file or a component's options are wrong."""


class DataError(DistilError):
    """A table, problem set or artifact is missing, damaged, or of another schema or tokenizer."""


class CheckError(DistilError):
    """A table is beyond a limit at which the settings ask to stop."""


class ExpertError(DistilError):
    """The expert could not be consulted (as opposed to having nothing to say)."""


class ExpertUnavailableError(ExpertError):
    """The expert's endpoint did not answer, or asks to wait: the same question may be answered
    later."""


class SandboxError(DistilError):
    """The isolation for model-written code is missing or broke."""


class VerifierError(DistilError):
    """A verifier could not reach a verdict for a reason that is not the rollout's."""


class EnvironmentFault(DistilError):
    """An environment could not answer an action for a reason that is not the policy's."""


class CheckpointError(DistilError):
    """A policy or optimizer checkpoint is missing, incomplete, or does not fit."""


class EngineError(DistilError):
    """The engine that samples or scores could not start or answer."""


class EngineRefusedError(EngineError):
    """The engine cannot do what it is asked, with these settings or weights, however often it is
    tried."""


class TrainingError(DistilError):
    """Training stopped before the weights could be harmed (a non-finite loss, an empty table)."""


class GateError(DistilError):
    """The improvement gate ended the campaign, as its settings ask for."""


class LineageError(DistilError):
    """DVC, git or MLflow could not record or find what they should."""


class ExportError(DistilError):
    """A policy or a record could not be written or sent to where other programs read it: a folder,
    a model hub, a lineage server, another tracker."""
