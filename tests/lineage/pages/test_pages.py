"""The pages a person reads in MLflow. A second; nothing imports MLflow."""

from dataclasses import replace

import pytest
from mlflow_scratch import make_campaign

from distil_core.lineage.evidence.iteration import History
from distil_core.lineage.pages.chain import Chain, Recorded
from distil_core.lineage.pages.page import campaign_page, run_page, version_page
from distil_core.lineage.pages.tables import settings_table


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Forty iterations, all but the last recorded."""
    history = History(make_campaign(tmp_path_factory.mktemp("pages") / "campaign", 40))
    evidence = {i: history[i] for i in range(41)}
    recorded = {i: Recorded(f"run{i}", f"m-{i}", i + 1) for i in range(40)}
    return Chain("chain-arithmetic", "1", evidence, recorded)


def short(chain: Chain, last: int) -> Chain:
    return replace(chain, evidence={i: chain.evidence[i] for i in range(last + 1)})


def test_run_page_in_short(chain: Chain) -> None:
    lines = run_page(short(chain, 3), {"train": 3.3}, "http://prefect/run").splitlines()
    assert lines[0] == (
        "pass@1 0.762 (0.749 to 0.775), pass@8 0.998 (0.992 to 1.000): policy 003 on 512 held-out "
        "problems; +0.128 pass@1 against its parent, "
        "[iteration 2](#/experiments/1/runs/run2?workflowType=machine_learning). "
        "The gate promoted it to champion."
    )
    digests = [chain.evidence[i].policy.short_md5 for i in (3, 2, 0)]
    assert all(digest in lines[2] for digest in digests)
    assert lines[2].endswith(f"`{chain.evidence[0].artifacts['warm_start'].short_md5}`")
    page = "\n".join(lines)
    assert "Time: train 3.3 s; 3.3 s in all." in page
    assert "[http://prefect/run](http://prefect/run)" in page
    assert "dvc checkout data/iterations/003/policy" in page


def test_long_campaign_fits_the_limit_of_a_note(chain: Chain) -> None:
    page = run_page(chain, {}, None, 8000)
    assert len(page) <= 8000
    for name in ("policy 040", "rollouts 039", "[policy 000]", "warm-start problems"):
        assert name in page
    assert "rollouts 002" not in page
    assert page.count("| …") == 2
    assert "lineage.md" in page
    whole = run_page(chain, {}, None)
    assert "rollouts 002" in whole
    assert "| …" not in whole
    assert len(campaign_page(chain, 3000)) <= 3000


def test_as_many_rows_as_fit(chain: Chain) -> None:
    limits = range(4000, 24_000, 1000)
    lengths = [len(run_page(chain, {}, None, limit)) for limit in limits]
    assert lengths == sorted(lengths)
    # An iteration has four rows where it comes from and one where the learning is.
    assert all(0 <= limit - length < 1200 for limit, length in zip(limits, lengths, strict=True))


def test_version_page_of_the_base(chain: Chain) -> None:
    page = version_page(short(chain, 0))
    warm_start = chain.evidence[0].artifacts["warm_start"]
    assert f"warm-start problems (`{warm_start.path}`, md5 `{warm_start.md5}`)" in page
    assert "parent" not in page


def test_changed_settings_cannot_break_the_table(chain: Chain) -> None:
    first = chain.evidence[0]
    second = replace(
        chain.evidence[1],
        settings=dict(first.settings) | {"context.student_template": "a|b\n`c`" + "x" * 200},
    )
    table = settings_table(replace(chain, evidence={0: first, 1: second}))
    (row,) = [line for line in table.splitlines() if "student_template" in line]
    assert row.replace("\\|", "").count("|") == 4
    many = replace(second, settings={f"key{i}": "1" for i in range(100)})
    assert "more, see *Parameters*" in settings_table(replace(chain, evidence={0: first, 1: many}))


def test_page_without_evaluation_numbers(chain: Chain) -> None:
    bare = {i: replace(chain.evidence[i], metrics={"mean_reward": 0.5}) for i in range(3)}
    page = run_page(replace(chain, evidence=bare), {}, None)
    assert page.startswith("not evaluated: policy 002")
