"""The runs of a campaign's experiment, and which of them belong to the workspace's chain.

A campaign's run holds one chain of iterations: those of one `distil restart`, and what `extend`
added. A chain that differs from it, by other settings, other results or fewer iterations, gets a
run of its own, under which the iterations that both share appear as well. Policies are registered
once.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from distil_core.lineage.evidence.iteration import History
from distil_core.lineage.mlflow import _internals
from distil_core.lineage.mlflow.params import as_params, of_the_chain

if TYPE_CHECKING:
    from mlflow.entities import Run

_MAX_NAMED = 3
_MAX_VALUE_CHARS = 40

_Params = Mapping[str, str]


class ChainRuns:
    """All runs of the experiment. fitting: campaigns' runs under which the workspace's chain can be
    recorded. campaign: the one with most of the chain; None where there is none."""

    def __init__(self, history: History, runs: Iterable["Run"]):
        self._history = history
        self._campaigns: list[Run] = []
        self._children: dict[str, list[Run]] = {}
        for run in runs:
            self.add(run)
        last = history.last_finished()
        self._last_finished = -1 if last is None else last
        self.fitting = [run for run in self._campaigns if self._fits(run)]
        self.campaign = max(self.fitting, key=self._num_recorded, default=None)

    def add(self, run: "Run") -> None:
        """Add a run; runs of other programs in the experiment lack our tags and are ignored."""
        role = run.data.tags.get("distil.role")
        if role == "campaign":
            self._campaigns.append(run)
            self._campaigns.sort(key=lambda each: (campaign_number(each), each.info.start_time))
        elif role == "iteration":
            self._children.setdefault(_parent(run), []).append(run)

    def remove(self, run: "Run") -> None:
        """Remove the run of an iteration, if it is known."""
        known = self._children.get(_parent(run), [])
        known[:] = [each for each in known if each.info.run_id != run.info.run_id]

    def finished(self, iteration: int) -> "Run | None":
        """The iteration's run in the chain, for the iteration as it is in `dvc.lock` now."""
        return next((run for run in self.of(iteration) if _is_finished(run)), None)

    def of(self, iteration: int) -> list["Run"]:
        """All such runs, including those that a crash left unfinished."""
        return [run for run in self._recorded(self.campaign) if self._is_of(run, iteration)]

    def shared(self, iteration: int) -> list["Run"]:
        """Finished runs of the very same iteration in all chains, the first one first."""
        runs = [run for children in self._children.values() for run in children]
        same = [run for run in runs if _is_finished(run) and self._is_of(run, iteration)]
        return sorted(same, key=lambda run: int(run.data.tags["distil.model_version"]))

    def next_number(self) -> int:
        """The number of the next campaign's run."""
        return 1 + max(map(campaign_number, self._campaigns), default=0)

    def next_name(self) -> str:
        """The name of the next campaign's run, made of the settings that differ from the first
        one's, where the first iteration with other settings is."""
        name = f"campaign {self.next_number()}"
        if not self._campaigns:
            return name
        theirs = self._settings_of(self._campaigns[0])
        for iteration in sorted(theirs.keys() & set(self._history.iterations)):
            before, after = theirs[iteration], self._settings(iteration)
            if before != after:
                since = f" from iteration {iteration} on" if iteration else ""
                return f"{name}: {_named(before, after)}{since}"
        return name

    def settings_digest(self) -> str:
        """The digest of the settings at the chain's beginning."""
        return hashlib.sha256(json.dumps(self._settings(0), sort_keys=True).encode()).hexdigest()

    def _fits(self, campaign: "Run") -> bool:
        """Whether the chain equals, or continues, what the campaign's run holds."""
        settings = self._settings_of(campaign)
        if not settings:
            digest = campaign.data.tags.get("distil.settings_digest")
            return digest == self.settings_digest() if digest else self._is_of(campaign, 0)
        return all(
            iteration in self._history.iterations and before == self._settings(iteration)
            for iteration, before in settings.items()
        ) and all(
            self._is_of(run, _iteration(run))
            for run in self._recorded(campaign)
            # The results of iterations that are not up to date are not known yet.
            if _is_finished(run) and _iteration(run) <= self._last_finished
        )

    def _settings_of(self, campaign: "Run") -> dict[int, _Params]:
        """The settings in a campaign's run, by iteration."""
        runs = {_iteration(run): run for run in self._recorded(campaign) if _is_finished(run)}
        if campaign.data.params:
            runs |= {0: campaign}
        return {iteration: of_the_chain(run.data.params) for iteration, run in runs.items()}

    def _settings(self, iteration: int) -> _Params:
        return of_the_chain(as_params(self._history.settings(iteration)))

    def _recorded(self, campaign: "Run | None") -> list["Run"]:
        return self._children.get(campaign.info.run_id, []) if campaign else []

    def _num_recorded(self, campaign: "Run") -> int:
        return sum(map(_is_finished, self._recorded(campaign)))

    def _is_of(self, run: "Run", iteration: int) -> bool:
        """Whether the run is of the iteration as it is in `dvc.lock` now."""
        return _iteration(run) == iteration and run.data.tags.get(
            "distil.lock_digest"
        ) == self._history.digest(iteration)


def campaign_number(campaign: "Run") -> int:
    """The number of a campaign's run; runs from before there were numbers count as the first."""
    return int(campaign.data.tags.get("distil.campaign_number", 1))


def _named(before: _Params, after: _Params) -> str:
    """The settings that differ, as far as the name has room."""
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    values = [f"{name} {after.get(name, '(not set)')[:_MAX_VALUE_CHARS]}" for name in names]
    more = len(names) - _MAX_NAMED
    return ", ".join(values[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _parent(run: "Run") -> str:
    return str(run.data.tags.get(_internals.PARENT_RUN_TAG, ""))


def _iteration(run: "Run") -> int:
    return int(run.data.tags["distil.iteration"])


def _is_finished(run: "Run") -> bool:
    return bool(run.info.status == "FINISHED")
