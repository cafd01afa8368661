"""Which policy a preview is of, also before there is a campaign."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distil_core.campaign.differences import changes, described
from distil_core.campaign.load import load_iteration_params
from distil_core.config.models import IterationParams, Params
from distil_core.errors import ConfigError
from distil_core.experts import EXPERTS
from distil_core.policy.pretrained import view_pretrained
from distil_core.validation import did_you_mean
from distil_core.workspace import CHAMPION_FOLDER, Workspace

LATEST = "latest"
_OF_BASE = ("seed", "problems", "base", "context", "consult")
"""What a base made here is made from."""


@dataclass(frozen=True)
class PreviewedPolicy:
    """policy_dir: the student. base_dir: the campaign's base. iteration: what would be run next
    with it. described: for people. notes: what they should know of it."""

    policy_dir: Path
    base_dir: Path
    iteration: int
    described: str
    notes: tuple[str, ...] = ()

    def expert_dir(self, params: Params) -> Path:
        """The weights or at least the tokenizer that the expert is built from."""
        weights = EXPERTS.options(
            params.tabulate.expert.name, params.tabulate.expert.options
        ).policy_weights
        if weights == "frozen":
            return self.base_dir
        kept = {"ema": "average", "champion": CHAMPION_FOLDER}.get(weights)
        folder = self.policy_dir / kept if kept else self.policy_dir
        return folder if folder.is_dir() else self.policy_dir

    def writing_expert_dir(self, params: Params, root: Path) -> Path | None:
        """The checkpoint that writes the expert's own responses; None for an expert that is no
        policy. root: the workspace's."""
        expert = params.tabulate.expert
        options = EXPERTS.options(expert.name, expert.options)
        if not options.writes_responses:
            return None
        return (
            root / options.checkpoint_path if options.checkpoint_path else self.expert_dir(params)
        )


def find_policy(
    workspace: Workspace, params: Params, scratch_dir: Path, chosen: str | None = None
) -> PreviewedPolicy:
    """The base of the settings, or what is chosen: `latest`, the policy that the next iteration
    would start from; a number, the policy of that iteration; a checkpoint folder, in place of the
    base.

    scratch_dir: where a checkpoint from outside is laid out. Raises `ConfigError` where there is
    none, and `CheckpointError` where it is none.
    """
    if chosen is not None and chosen != LATEST and not chosen.isdigit():
        return _folder(chosen)
    base_dir, described_base, notes = _base(workspace, params, scratch_dir)
    number = _latest(workspace) if chosen == LATEST else int(chosen or 0)
    if not number:
        return PreviewedPolicy(base_dir, base_dir, 1, described_base, notes)
    folder = workspace.policy_dir(number)
    if chosen == LATEST:
        folder = workspace.handover_dir(number)
    if not (folder / "config.json").exists():
        raise ConfigError(
            f"--policy {chosen}: there is no policy in {workspace.relative(folder)}: run iteration "
            f"{number} first, or bring it back with `dvc checkout`"
        )
    name = f"the policy that iteration {number} handed over" if chosen == LATEST else ""
    return PreviewedPolicy(
        folder, base_dir, number + 1, name or f"the policy of iteration {number}", notes
    )


def _folder(chosen: str) -> PreviewedPolicy:
    folder = Path(chosen).expanduser()
    if not (folder / "config.json").exists():
        raise ConfigError(
            f"--policy {chosen}: expected `{LATEST}`, an iteration's number, or a checkpoint "
            f"folder with a config.json{did_you_mean(chosen, [LATEST])}"
        )
    folder = folder.absolute()
    return PreviewedPolicy(folder, folder, 1, f"the checkpoint {chosen}")


def _base(
    workspace: Workspace, params: Params, scratch_dir: Path
) -> tuple[Path, str, tuple[str, ...]]:
    folder = workspace.policy_dir(0)
    if params.base.kind == "pretrained" and (
        params.base.warm_start is None or not (folder / "config.json").exists()
    ):
        folder = scratch_dir / "base"
        notes = view_pretrained(params.base, folder)
        if params.base.warm_start is not None:
            notes.append(
                "the base is looked at before its warm start (base.warm_start), after which it "
                "answers otherwise: `distil restart`, then `dvc repro base` makes it"
            )
        return folder, f"the base {params.base.path_or_id}", tuple(notes)
    if not (folder / "config.json").exists():
        raise ConfigError(
            "base.kind is from_scratch: the stage `base` makes the policy, and there is none in "
            "data/policy-000 yet. `distil restart`, then `dvc repro base` makes it and its "
            "problems and nothing else; or preview a checkpoint with --policy FOLDER"
        )
    return folder, "the base in data/policy-000", tuple(_made_otherwise(workspace, params))


def _made_otherwise(workspace: Workspace, params: Params) -> list[str]:
    """Whether the settings would make another base than the one that is there."""
    if not workspace.frozen_params_file(0).exists():
        return []
    frozen = load_iteration_params(workspace, 0, with_components=False)
    differing = changes(_of_base(frozen), _of_base(params))
    if not differing:
        return []
    return [
        "data/policy-000 was made with other settings than these "
        f"({described(differing)}): `distil restart` would have another base made, which is warm-"
        "started on the expert's context as it is set then"
    ]


def _of_base(params: Params | IterationParams) -> dict[str, Any]:
    return params.model_dump(mode="json", include=set(_OF_BASE))


def _latest(workspace: Workspace) -> int:
    """The last iteration that handed a policy over; 0 for none."""
    folders = (workspace.root / "data" / "iterations").glob("[0-9][0-9][0-9]/handover/config.json")
    return max((int(file.parents[1].name) for file in folders), default=0)
