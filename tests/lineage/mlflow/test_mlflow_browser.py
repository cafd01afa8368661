"""A person's way through MLflow's pages, in a real browser. About 40 s."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_scratch import PROJECT, make_campaign

from distil_core.lineage.dvc.lock import locked_outputs
from distil_core.lineage.mlflow.record import record_iteration
from distil_core.lineage.snapshot.take import take_snapshot
from distil_core.workspace import Workspace

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WAIT_S = 90

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no chromium or chromedriver: `make browser` installs them",
)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_campaign(tmp_path_factory.mktemp("browser") / "campaign", 2)
    for name in ("params.yaml", "iterations.yaml", "dvc.yaml", "pyproject.toml"):
        shutil.copy(PROJECT / name, workspace.root)
    for iteration in range(3):
        take_snapshot(workspace, iteration)
        record_iteration(workspace, iteration, f"http://127.0.0.1:4200/runs/flow-run/{iteration}")
    return workspace


@pytest.fixture(scope="module")
def pages(campaign: Workspace) -> Iterator[str]:
    """Address of `make ui` on the campaign."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    log = campaign.root.parent / "ui.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "distil_flows.cli", "ui", "--port", str(port)],
            cwd=campaign.root,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        f"user-data-dir={tmp_path / 'profile'}", "window-size=1400,1800",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def test_from_a_version_back_to_the_problems(campaign: Workspace, pages: str, browser: Any) -> None:
    browser.get(f"{pages}/#/models/chain-arithmetic/versions/3")
    text = _text_with(browser, "parent: version 2")
    rollouts = locked_outputs(campaign, "sample@002")["data/iterations/002/rollouts.parquet"]
    problems = locked_outputs(campaign, "problems")
    for shown in (
        rollouts.md5,
        locked_outputs(campaign, "tabulate@002")["data/iterations/002/feedback"].md5,
        "refs/distil/chain-arithmetic/002",
        "http://127.0.0.1:4200/runs/flow-run/2",
        problems["data/problems/train.parquet"].md5,
    ):
        assert shown in text
    _picture(browser, "lineage-version.png")
    _click(browser, "policy 001")
    assert "refs/distil/chain-arithmetic/001" in _text_with(browser, "parent: version 1")
    _click(browser, "policy 000")
    text = _text_with(browser, "base policy, from warm-start problems")
    assert problems["data/problems/warm_start.parquet"].md5 in text
    _click(browser, "iteration 0 (base)")
    text = _text_with(browser, "warm-start-problems")
    assert "refs/distil/chain-arithmetic/000" in text


def test_from_a_dataset_forward_to_the_policies(pages: str, browser: Any) -> None:
    from mlflow.tracking import MlflowClient

    (run,) = MlflowClient(pages).search_runs(["1"], "tags.`distil.role` = 'campaign'")
    view = "workflowType=machine_learning"
    browser.get(f"{pages}/#/experiments/1/runs/{run.info.run_id}?{view}")
    _text_with(browser, "pass@1 0.")
    _show_all(browser)
    text = _text_with(browser, "Which policies each dataset led to")
    assert "dataset md5 trained on it through those" in " ".join(text.split())
    assert "policies 001 to 002" in text
    _picture(browser, "lineage-forward.png")
    _click(browser, "policy 002")
    _text_with(browser, "parent: version 2")


def _text_with(browser: Any, wanted: str) -> str:
    """The page's visible text, once it holds `wanted`."""
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    def text() -> str:
        return str(browser.find_element("tag name", "body").text)

    wait = WebDriverWait(browser, WAIT_S, ignored_exceptions=[StaleElementReferenceException])
    try:
        wait.until(lambda _: wanted in text())
    except TimeoutException:
        pytest.fail(f"no {wanted!r} on {browser.current_url}:\n{text()}")
    return text()


def _click(browser: Any, link_text: str) -> None:
    """Follow a link; MLflow opens those of a note in a tab of their own."""
    before = set(browser.window_handles)
    element = browser.find_element("link text", link_text)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    opens_tab = element.get_attribute("target") == "_blank"
    element.click()
    if opens_tab:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(browser, WAIT_S).until(lambda _: set(browser.window_handles) - before)
        browser.switch_to.window((set(browser.window_handles) - before).pop())


def _show_all(browser: Any) -> None:
    """Unfold the note, of which MLflow shows a few lines at first."""
    for button in browser.find_elements("tag name", "button"):
        if button.text.lower() in ("show more", "more", "read more"):
            button.click()
            return


def _picture(browser: Any, name: str) -> None:
    """Kept where LINEAGE_PICTURES names a folder: how the pictures in docs/ are made."""
    folder = os.environ.get("LINEAGE_PICTURES")
    if folder:
        assert browser.save_screenshot(str(Path(folder, name)))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def test_the_bare_address_leads_to_the_campaign(pages: str, browser: Any) -> None:
    """And the charts that matter come first."""
    from importlib.metadata import entry_points

    if not entry_points(group="mlflow.app", name="distil"):
        pytest.skip("the installed package is older than pyproject.toml: install it again")
    browser.get(pages)
    text = _text_with(browser, "iteration 002")
    assert "pass_at_1" in text
    _text_with(browser, "policies")
    browser.get("about:blank")
    view = "viewStateShareKey=curves&compareRunsMode=CHART&workflowType=machine_learning"
    browser.get(f"{pages}/#/experiments/1/runs?{view}")
    text = _text_with(browser, "Over iterations")
    first = text.index("Over iterations")
    assert text.index("pass_at_1 vs pass_at_8") > first
    assert text.index("truncation_rate vs malformed_rate") > first
    # An address of one's own is left alone.
    browser.get("about:blank")
    browser.get(f"{pages}/#/models/chain-arithmetic/versions/3")
    _text_with(browser, "mlflow.transformers.load_model")
