"""The viewer of samples in a browser: filters, search, steps, hostile text (15 s)."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distil_core.report.samples.page import render_samples

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
)
NUM_ROLLOUTS = 3000


def rollout(number: int) -> dict[str, Any]:
    is_right = number % 3 == 0
    return {
        "id": f"001/problem{number // 4}/{number % 4}",
        "p": 0,
        "c": 1,
        "x": 2,
        "a": f"answer {number} {HOSTILE if number == 1 else ''}",
        "t": [0, 1, 2],
        "m": [-0.1, -0.5, None],
        "f": "stop",
        "v": "correct" if is_right else "wrong",
        "r": float(is_right),
        "e": None,
        "b": [["execution_trace", f"trace {number}"]] if number % 2 else [],
        "s": 0,
        "l": [-0.1, -3.0 - number % 7, -1.0],
        "u": [1],
        "g": [0, 2, -1],
        "h": [-0.1, -0.2, 0.0],
    }


def held_out(number: int) -> dict[str, Any]:
    return {
        "id": f"held{number}",
        "p": 0,
        "d": "eval",
        "a": HOSTILE,
        "v": "malformed",
        "n": 8,
        "k": number,
        "s": 0,
        "b": [["feedback", HOSTILE]],
        "w": [f"expert {HOSTILE}"],
        "o": 2,
        "q": 1,
    }


def with_turns() -> dict[str, Any]:
    """Two turns of one and two tokens; the tool's answer begins after the first token."""
    return rollout(1) | {
        "id": "001/tool/0",
        "y": [
            [f"call {HOSTILE}", f"answered 42 {HOSTILE}", [["tool_output", "ok, 42"]], 0.5, 1],
            ["so it is 42", None, [], None, 0],
        ],
        "o": [[1, f"<|tool|>42 {HOSTILE}"]],
    }


SAMPLES = {
    "iteration": 1,
    "texts": [f"prompt {HOSTILE}", "student's context", "expert's context"],
    "tokens": ["4", HOSTILE, "⏎"],
    "totals": {"rollouts": 9000, "evaluation": 2},
    "sets": {
        "rollouts": [*(rollout(number) for number in range(NUM_ROLLOUTS - 1)), with_turns()],
        "evaluation": [held_out(0), held_out(1)],
    },
}


def test_it_needs_nothing_else_and_no_text_ends_its_data() -> None:
    page = render_samples("chains", SAMPLES)
    assert page.count("</script>") == 2
    assert HOSTILE not in page
    assert "default-src 'none'" in page
    for word in ("http:", "https:", "@import", "url(", "javascript:", "src="):
        assert word not in re.sub(r'id="data">.*?</script>', "", page, flags=re.DOTALL)
    assert page == render_samples("chains", SAMPLES)


def test_a_hostile_campaign_name_is_text() -> None:
    assert HOSTILE not in render_samples(HOSTILE, SAMPLES | {"sets": {"rollouts": []}})


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not BROWSER or not DRIVER:
        pytest.skip("no chromium or chromedriver: `make browser` installs them")
    from selenium import webdriver

    folder = tmp_path_factory.mktemp("page")
    (folder / "samples.html").write_text(render_samples("chains", SAMPLES), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,900"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.page_address = (folder / "samples.html").as_uri()
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any) -> Any:
    browser.get("about:blank")
    browser.get(browser.page_address)
    return Page(browser)


class Page:
    """What a person does with it, and sees."""

    def __init__(self, driver: Any):
        self.driver = driver

    def choose(self, name: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.driver.find_element("id", name)).select_by_value(value)

    def type(self, text: str) -> None:
        box = self.driver.find_element("id", "search")
        box.clear()
        box.send_keys(text)

    def press(self, button: str) -> None:
        self.driver.find_element("id", button).click()

    def text(self, name: str = "sample") -> str:
        return str(self.driver.find_element("id", name).text)

    def num_rows_drawn(self) -> int:
        return len(self.driver.find_elements("css selector", ".row"))


def test_thousands_are_drawn_as_they_are_looked_at(page: Page) -> None:
    assert page.text("count") == "3000 of 3000"
    assert page.text("left-out").startswith("The first 3000 of 9000 samples")
    assert 5 < page.num_rows_drawn() < 60
    assert "001/problem0/0" in page.text()
    page.driver.execute_script("document.getElementById('list').scrollTop = 1e9")
    page.driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50))")
    assert "001/problem749/2" in page.text("list")
    assert page.num_rows_drawn() < 60
    assert page.driver.get_log("browser") == []


def test_filters_by_verdict_and_field_and_search(page: Page) -> None:
    page.choose("verdict", "correct")
    assert page.text("count") == "1000 of 3000"
    page.choose("field", "feedback")
    page.choose("value", "execution_trace")
    assert page.text("count") == "500 of 3000"
    assert "EXECUTION TRACE" in page.text().upper()
    page.choose("field", "")
    page.choose("verdict", "")
    page.type("TRACE 77")
    assert page.text("count") == "6 of 3000"  # 77, 771, 773 .. 779
    page.type("no such thing")
    assert page.text("count") == "0 of 3000"
    assert "No sample is like that." in page.text()


def test_next_and_previous_by_button_and_key(page: Page) -> None:
    previous = page.driver.find_element("id", "previous")
    assert not previous.is_enabled()
    page.press("next")
    page.press("next")
    assert "001/problem0/2" in page.text()
    page.press("previous")
    assert "001/problem0/1" in page.text()
    page.driver.find_element("id", "list").send_keys("jj")
    assert "001/problem0/3" in page.text()
    assert page.driver.current_url.endswith("#rollouts/001%2Fproblem0%2F3")
    address = page.driver.current_url
    page.driver.get("about:blank")
    page.driver.get(address)
    assert "001/problem0/3" in page.text(), "an address is of its sample"


def test_credit_in_colours_and_numbers(page: Page) -> None:
    page.choose("order", "most disagreement first")
    against = page.driver.find_elements("css selector", ".tokens")[0]
    tokens = against.find_elements("css selector", ".token.more")
    shade = "return Number(arguments[0].style.getPropertyValue('--shade'))"
    shades = [page.driver.execute_script(shade, token) for token in tokens]
    # Of log mu - log T = 0, 8.5 and -19 nats only the second is disagreement.
    assert shades == [pytest.approx(0.85 * 8.5 / 19, abs=0.001)]
    from selenium.webdriver import ActionChains

    ActionChains(page.driver).move_to_element(tokens[0]).perform()
    said = page.text()
    assert "student 60.7%, expert at most 0.0%" in said
    assert "here 8.50, still to come -19.00 nats" in said


def test_turns_and_what_the_environment_wrote_between_them(page: Page) -> None:
    page.type("answered 42")
    assert page.text("count") == "1 of 3000"
    said = page.text()
    heard = said.upper()
    assert heard.index("TURN 1, MARKED, REWARD 0.5") < heard.index("ANSWERED 42")
    assert "ok, 42" in said
    assert "TURN 2" in heard
    lines = page.driver.find_elements("css selector", ".tokens")
    assert len(lines) == 3
    for line in lines:
        spans = line.find_elements("css selector", "span")
        kinds = [span.get_attribute("class").split()[0] for span in spans]
        assert kinds == ["token", "answer", "token", "token"]
        assert spans[1].text == f"<|tool|>42 {HOSTILE}"
    assert "It has no credit" in said
    assert page.driver.title == "chains: samples of iteration 1"
    assert page.driver.get_log("browser") == []


def test_nothing_that_a_model_wrote_is_run(page: Page) -> None:
    page.press("next")
    assert HOSTILE in page.text()
    page.choose("set", "evaluation")
    assert page.text().count(HOSTILE) == 4
    assert "1 of 2" in page.text()
    assert page.driver.title == "chains: samples of iteration 1"
    assert not page.driver.find_elements("css selector", "img, #sample script")
    assert page.driver.get_log("browser") == []


def test_a_narrow_window_still_shows_all(page: Page, tmp_path: Path) -> None:
    page.driver.set_window_size(500, 900)
    width = page.driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= page.driver.execute_script("return window.innerWidth")
    page.driver.set_window_size(1300, 900)
