"""Settings from YAML: what loads, what is refused, and that nothing is lost on the way (4 s)."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distil_core.campaign import load_iteration_params, load_params, parse_params
from distil_core.campaign.load import parse_iteration_params
from distil_core.config.models import IterationParams
from distil_core.errors import ConfigError
from distil_core.workspace import Workspace
from distil_core.yaml_text import dump_yaml

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path, settings: dict[str, Any]) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.params_file.write_text(yaml.safe_dump(settings))
    (tmp_path / "iterations").mkdir()
    frozen = {**settings, "iteration": 3, "stage_versions": {"train": 2}}
    workspace.frozen_params_file(3).write_text(yaml.safe_dump(frozen))
    return workspace


@pytest.mark.parametrize("name", ["params.yaml", "presets/instruct.yaml"])
def test_the_settings_of_this_project_load(name: str) -> None:
    parse_params(yaml.safe_load((PROJECT / name).read_text(encoding="utf-8")), name)


def test_loads_a_workspace(workspace: Workspace, settings: dict[str, Any]) -> None:
    params = load_params(workspace)
    assert params.train.objective.options == settings["train"]["objective"]["options"]
    frozen = load_iteration_params(workspace, 3)
    assert (frozen.iteration, frozen.stage_versions) == (3, {"train": 2})
    assert frozen.train == params.train


def test_a_number_in_exponent_form_is_a_number(workspace: Workspace) -> None:
    """YAML 1.1 reads 1e-3 as text, DVC's YAML 1.2 as a number."""
    text = workspace.params_file.read_text()
    for written in ("1e-3", "1E-3", "1.0e-3", ".001", "1_0e-4"):
        changed = re.sub(r"learning_rate: 0\.001\n", f"learning_rate: {written}\n", text)
        assert changed != text
        workspace.params_file.write_text(changed)
        assert load_params(workspace).train.learning_rate == 0.001


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"seed: [1, 2", r"^params\.yaml is not valid YAML: (?s:.*)line 1"),
        ("campaign: Grüße".encode("latin-1"), r"^params\.yaml is not valid YAML: .*utf-8"),
        (b"", r"^params\.yaml: expected a mapping of settings, found None"),
        (b"- seed\n", r"^params\.yaml: expected a mapping of settings, found \['seed'\]"),
        (b"!!python/object/apply:os.getcwd []", r"^params\.yaml is not valid YAML"),
    ],
)
def test_what_is_no_settings_file(workspace: Workspace, content: bytes, expected: str) -> None:
    workspace.params_file.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        load_params(workspace)


def test_no_workspace_here(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"no params\.yaml in {tmp_path}: run in a DistIL"):
        load_params(Workspace(tmp_path))


def test_an_iteration_that_does_not_exist(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"iteration 4 does not .*004\.yaml.*`distil extend`"):
        load_iteration_params(workspace, 4)
    with pytest.raises(ConfigError, match=r"must lie in 0 \.\. 999, found 1000"):
        load_iteration_params(workspace, 1000)


def test_a_frozen_file_of_another_iteration(workspace: Workspace) -> None:
    workspace.frozen_params_file(3).rename(workspace.frozen_params_file(5))
    with pytest.raises(ConfigError) as raised:
        load_iteration_params(workspace, 5)
    assert str(raised.value) == (
        "iterations/005.yaml: iteration is 3, expected 5; "
        "restore the file with `git checkout iterations/005.yaml`"
    )


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ("problems.source", "problem source"),
        ("sample.engine", "engine"),
        ("consult.verifier", "verifier"),
        ("tabulate.expert", "expert"),
        ("train.objective", "objective"),
    ],
)
def test_each_component_is_checked_by_name_and_options(
    settings: dict[str, Any], section: str, kind: str
) -> None:
    outer, inner = section.split(".")
    component = settings[outer][inner]
    component["options"]["depth"] = 1
    expected = f"params.yaml: options of {kind} '{component['name']}': depth: no such setting"
    with pytest.raises(ConfigError, match=expected):
        parse_params(settings, "params.yaml")
    settings[outer][inner] = {"name": "oracle_of_delphi", "options": {}}
    with pytest.raises(ConfigError, match=f"params.yaml: unknown {kind} 'oracle_of_delphi'; known"):
        parse_params(settings, "params.yaml")


def test_templates_are_checked(settings: dict[str, Any]) -> None:
    settings["context"]["student_template"] = "{prompt}{execution_trace}|"
    with pytest.raises(
        ConfigError, match=r"params\.yaml: context\.student_template: unknown field"
    ):
        parse_params(settings, "params.yaml")


# PyYAML folds the control character NEL into a space; nobody writes it into a template.
characters = st.characters(exclude_characters="\x85", exclude_categories=["Cs"])
text = st.text(characters, max_size=20).map(lambda raw: raw.replace("{", "{{").replace("}", "}}"))
positive = st.floats(1e-300, 1e300)
changes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**63 - 1),
        "sample.temperature": positive,
        "sample.top_p": st.floats(0, 1, exclude_min=True),
        "train.learning_rate": positive,
        "train.max_grad_norm": positive | st.just(math.inf),
        "train.weight_decay": st.floats(0, 1e9),
        "train.objective.options": st.fixed_dictionaries(
            {},
            optional={
                "weight": positive,
                "is_clip": positive | st.just(math.inf),
                "horizon": st.none() | st.integers(1, 10**6),
                "cost": st.sampled_from(["cross_entropy", "kl_divergence"]),
            },
        ),
        "base.phases": st.lists(
            st.fixed_dictionaries(
                {"num_steps": st.integers(1, 10**6), "correction_fraction": st.floats(0, 1)}
            ),
            min_size=1,
            max_size=3,
        ),
        "context.student_template": st.builds("{}{{prompt}}{}|".format, text, text),
        "context.expert_template": st.builds("{}{{prompt}}{{attempt}}{}|".format, text, text),
        "iteration": st.integers(0, 999),
        "stage_versions": st.dictionaries(
            st.text("a-b_c", max_size=8), st.integers(1, 2**40), max_size=3
        ),
    }
)


@given(changes)
@hypothesis_settings(deadline=None, max_examples=50, derandomize=True)
def test_what_is_written_is_read_again(changes: dict[str, Any]) -> None:
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = value
    params = parse_iteration_params(values, "here")
    written = dump_yaml(params.model_dump(mode="json"))
    again = parse_iteration_params(yaml.safe_load(written), "there")
    assert isinstance(again, IterationParams)
    assert again == params
    assert dump_yaml(again.model_dump(mode="json")) == written


@pytest.mark.parametrize(("max_logprobs", "fits"), [(16, True), (15, False)])
def test_an_engine_that_gives_the_expert_too_few_ids_is_refused(
    settings: dict[str, Any], max_logprobs: int, fits: bool
) -> None:
    options = {"mode": "in_process", "max_logprobs": max_logprobs}
    settings["tabulate"]["expert"]["options"] = {
        "weights": "frozen",
        "engine": {"name": "vllm", "options": options},
    }
    if fits:
        assert parse_params(settings, "test").tabulate.top_k == 16
    else:
        with pytest.raises(ConfigError, match=r"tabulate\.top_k 16 exceeds 15, the most ids"):
            parse_params(settings, "test")


def test_a_frozen_setting_that_this_version_does_not_know(tmp_path: Path) -> None:
    """As after an upgrade that dropped an option, or made a setting required."""
    values = yaml.safe_load((PROJECT / "iterations" / "003.yaml").read_text(encoding="utf-8"))
    values["sample"]["engine"]["options"]["flash"] = True
    workspace = Workspace(tmp_path)
    path = workspace.frozen_params_file(3)
    path.parent.mkdir()
    expected = r"(?s)003\.yaml: .*{}.* settings of iteration 3, .*git log.*distil restart"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=expected.format("flash: no such setting")):
        load_iteration_params(workspace, 3)
    del values["sample"]["engine"]["options"]["flash"]
    del values["gate"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=expected.format("gate")):
        load_iteration_params(workspace, 3)


def test_a_key_that_stands_twice_is_named_with_file_and_line(tmp_path: Path) -> None:
    text = (PROJECT / "params.yaml").read_text().replace("seed: ", "seed: 7\nseed: ", 1)
    (tmp_path / "params.yaml").write_text(text)
    line = text.split("\n").index("seed: 7") + 1
    expected = (
        rf"'seed' stands twice in one mapping, first in line {line}\n +in params\.yaml, line "
    )
    with pytest.raises(ConfigError, match=rf"{expected}{line + 1}, column 1"):
        load_params(Workspace(tmp_path))
