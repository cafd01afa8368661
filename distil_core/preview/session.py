"""Try settings once, or each time that one of their files changes, with models loaded once."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distil_core.config.models import ComputeParams, Params
from distil_core.errors import DistilError
from distil_core.preview.attempts import Preview
from distil_core.preview.estimate import estimate
from distil_core.preview.figures import figures_of
from distil_core.preview.findings import findings_of
from distil_core.preview.loaded import LoadedModels
from distil_core.preview.policies import PreviewedPolicy, find_policy
from distil_core.preview.settings import previewed_params, settings_files
from distil_core.preview.views import PreviewView, view_of
from distil_core.progress import ProgressCallback, no_progress
from distil_core.workspace import Workspace

_LOOK_EVERY_S = 0.3


@dataclass(frozen=True)
class Choices:
    """What is asked for. policy: see `find_policy`. params_file, template_file, overrides: see
    `previewed_params`."""

    num_problems: int
    policy: str | None = None
    params_file: Path | None = None
    template_file: Path | None = None
    overrides: Sequence[str] = ()


class PreviewSession:
    """Previews of one workspace.

    scratch_dir: a folder of this session's own. prepare: is called with the compute settings before
    anything computes. keeps: as in `LoadedModels`.
    """

    def __init__(
        self,
        workspace: Workspace,
        choices: Choices,
        scratch_dir: Path,
        prepare: Callable[[ComputeParams], None],
        keeps: bool,
    ):
        self._workspace = workspace
        self._choices = choices
        self._scratch_dir = scratch_dir
        self._prepare = prepare
        self._policy: tuple[str, PreviewedPolicy] | None = None
        self.models = LoadedModels(keeps)

    def try_once(self, progress: ProgressCallback = no_progress) -> PreviewView:
        """The settings as their files are now. Raises what a run would raise."""
        choices = self._choices
        params = previewed_params(
            self._workspace, choices.params_file, choices.template_file, choices.overrides
        )
        self._prepare(params.compute)
        tried = Preview(
            self._workspace,
            params,
            self._policy_of(params),
            self.models,
            self._scratch_dir,
            choices.num_problems,
            progress,
        ).run()
        figures = figures_of(tried)
        return view_of(tried, figures, findings_of(tried, figures), estimate(tried, figures))

    def watch(self, progress: ProgressCallback) -> Iterator[PreviewView | DistilError]:
        """A preview, or why there is none, and another one whenever a file of the settings has
        changed; for ever."""
        while True:
            before = self._stamps()
            try:
                yield self.try_once(progress)
            except DistilError as error:
                yield error
            while self._stamps() == before:
                time.sleep(_LOOK_EVERY_S)

    def _policy_of(self, params: Params) -> PreviewedPolicy:
        """Laid out again only for another base: merging an adapter takes a while."""
        key = params.base.model_dump_json()
        if params.base.kind == "from_scratch" or params.base.warm_start is not None:
            # What its notes say depends on all settings, and there is nothing to lay out.
            key = params.model_dump_json()
        if self._policy is None or self._policy[0] != key:
            found = find_policy(self._workspace, params, self._scratch_dir, self._choices.policy)
            self._policy = (key, found)
        return self._policy[1]

    def _stamps(self) -> list[tuple[str, int]]:
        files = settings_files(
            self._workspace, self._choices.params_file, self._choices.template_file
        )
        return [(str(file), file.stat().st_mtime_ns if file.exists() else 0) for file in files]
