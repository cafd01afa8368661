"""A package of somebody else's, installed beside DistIL, runs a whole campaign (60 s).

Its verifier, problem source and expert are entry points, its objective a dotted path.
"""

import json
from pathlib import Path

import example_scratch as scratch
import pytest
import yaml


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> scratch.Environment:
    return scratch.install(tmp_path_factory.mktemp("installed"), editable=False)


@pytest.fixture(scope="module")
def campaign(
    environment: scratch.Environment, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The workspace after `make run`, and what that said."""
    root = scratch.make_workspace(tmp_path_factory.mktemp("campaign") / "workspace")
    status, output = environment.run_module(root, "distil_flows.cli", "run")
    assert status == 0, output
    return root, output


def test_names_lead_to_the_installed_package(
    environment: scratch.Environment, tmp_path: Path
) -> None:
    (tmp_path / "ask.py").write_text(
        "import json\n"
        "from distil_core.experts import EXPERTS\n"
        "from distil_core.objectives import OBJECTIVES\n"
        "from distil_core.problems import PROBLEM_SOURCES\n"
        "from distil_core.verifiers import VERIFIERS\n"
        "found = [VERIFIERS.resolve('reversed_digits'), PROBLEM_SOURCES.resolve('reversed_digits'),"
        " EXPERTS.resolve('answer_key'), OBJECTIVES.resolve('my_lab.focal_objective')]\n"
        "print(json.dumps([[one.module_name, one.origin, one.distribution, one.version,"
        " str(one.source_file)] for one in found]))\n"
        "assert 'answer_key' in EXPERTS.names() and 'oracle' in EXPERTS.names()\n"
    )
    status, output = environment.run_module(tmp_path, "ask")
    assert status == 0, output
    found = json.loads(output)
    assert [one[:4] for one in found] == [
        ["my_lab.reversal_verifier", "entry_point", "my-lab", "0.3.0"],
        ["my_lab.reversed_digits", "entry_point", "my-lab", "0.3.0"],
        ["my_lab.answer_key", "entry_point", "my-lab", "0.3.0"],
        ["my_lab.focal_objective", "dotted_path", None, None],
    ]
    for *_, file in found:
        assert Path(file).is_relative_to(environment.programs.parent)


def test_a_campaign_of_its_components_runs(campaign: tuple[Path, str]) -> None:
    root, output = campaign
    for stage in ("base", "consult@001", "tabulate@001", "train@001", "gate@001"):
        assert f"{stage} " in output, output
    curve = (root / "data/iterations/001/train_curve.csv").read_text(encoding="utf-8")
    assert "focus" in curve.splitlines()[0].split(",")
    frozen = yaml.safe_load((root / "iterations/001.yaml").read_text(encoding="utf-8"))
    assert frozen["train"]["objective"] == scratch.OBJECTIVE


def test_dvc_has_nothing_to_do_after_it(
    environment: scratch.Environment, campaign: tuple[Path, str]
) -> None:
    status, output = environment.run_module(campaign[0], "dvc", "status")
    assert (status, output.strip()) == (0, "Data and pipelines are up to date.")


def test_without_the_package_the_settings_say_what_is_missing() -> None:
    """This process has no such package: the campaign's settings are refused when they are read."""
    from distil_core.campaign import parse_params
    from distil_core.errors import ConfigError

    expected = r"params\.yaml: unknown problem source 'reversed_digits'.* must be installed here"
    with pytest.raises(ConfigError, match=expected):
        parse_params(scratch.example_settings(), "params.yaml")
