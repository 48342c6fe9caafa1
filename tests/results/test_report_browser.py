"""The report in a real browser: sorted, filtered, opened by keyboard, read; nothing fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.report import main
from tests.browser import browser, programs, requests, resize
from tests.results.factory import TASKS, record, write

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>alert(1)</script>"
# Average over tasks, by method and compression; a second seed is one point better.
ACCURACIES = {
    ("source_only", 0.0): 50.0,
    ("itmc", 0.5): 80.0,
    ("itmc", 0.9): 70.0,
    ("kd", 0.5): 9.0,
    ("kd", 0.9): 100.0 / 3,
    ("tcp", 0.5): 75.0,
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two tasks and two seeds; one method has a hostile label."""
    programs()
    folder = tmp_path_factory.mktemp("report")
    made = [
        record(method, task, seed=seed, compression=compression, accuracy=accuracy - 0.5 + seed)
        for (method, compression), accuracy in ACCURACIES.items()
        for task in TASKS[:2]
        for seed in range(2)
    ]
    for one in made:
        if one["method"]["name"] == "tcp":
            one["method"]["label"] = HOSTILE
    write(folder / "runs", *made)
    assert main([str(folder / "runs"), "--out", str(folder / "page")]) == 0
    return folder / "page" / "index.html"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all tests; each opens the page anew."""
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def opened(driver: Any, page: Path) -> Iterator[Any]:
    """The page, open; afterwards nothing was said in the console and nothing else fetched."""
    driver.get("about:blank")
    resize(driver, 1366, 900)
    driver.get_log("browser")
    requests(driver)
    driver.get(page.as_uri())
    yield driver
    assert driver.get_log("browser") == []
    assert {address.partition("#")[0] for address in requests(driver)} == {page.as_uri()}


def find(driver: Any, selector: str) -> Any:
    """The first element."""
    return driver.find_element("css selector", selector)


def waited(driver: Any, selector: str) -> Any:
    """The first element, as soon as there is one; events of the pointer take a moment."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 10).until(lambda _: find(driver, selector))


def column(driver: Any, key: str) -> list[str]:
    """The texts of a column of the leaderboard, from the top."""
    script = """
        const heads = [...document.querySelectorAll('#leaderboard thead [data-key]')];
        const place = heads.findIndex((head) => head.dataset.key === arguments[0]);
        const rows = [...document.querySelector('#leaderboard tbody').children];
        return rows.filter((row) => !row.matches('.details'))
            .map((row) => row.children[place].textContent);
    """
    texts: list[str] = driver.execute_script(script, key)
    return texts


def choose(driver: Any, select: str, value: str) -> None:
    """Choose an option by its value."""
    from selenium.webdriver.support.select import Select

    Select(find(driver, f"#{select}")).select_by_value(value)


def press(element: Any, key: str) -> None:
    """Press a key, named as selenium names it, on an element."""
    from selenium.webdriver.common.keys import Keys

    element.send_keys(getattr(Keys, key))


def test_a_click_on_a_head_sorts_by_its_numbers_and_a_second_one_turns_the_order(
    opened: Any,
) -> None:
    head = find(opened, '#leaderboard [data-key="mean"]')
    head.find_element("tag name", "button").click()
    assert column(opened, "mean") == ["80.0", "75.0", "70.0", "50.0", "33.3", "9.0"]
    assert head.get_attribute("aria-sort") == "descending"
    press(head.find_element("tag name", "button"), "ENTER")
    assert column(opened, "mean") == ["9.0", "33.3", "50.0", "70.0", "75.0", "80.0"]
    assert head.get_attribute("aria-sort") == "ascending"


def test_filters_leave_the_rows_that_pass_and_say_how_many(opened: Any) -> None:
    assert find(opened, "#count").text == "6 of 18 rows"
    choose(opened, "compression", "0.9")
    assert find(opened, "#count").text == "2 of 18 rows"
    find(opened, "#q").send_keys("ITMC")
    assert find(opened, "#count").text == "1 of 18 rows"
    assert column(opened, "mean") == ["70.0"]
    assert column(opened, "sd") == ["0.7"]
    find(opened, "#reset").click()
    choose(opened, "task", "")
    assert find(opened, "#count").text == "18 of 18 rows"


def test_a_view_can_be_linked(opened: Any) -> None:
    choose(opened, "compression", "0.5")
    find(opened, '#leaderboard [data-key="mean"] button').click()
    shown = column(opened, "label")
    address = opened.current_url
    opened.get("about:blank")
    opened.get(address)
    assert column(opened, "label") == shown == ["ITMC", HOSTILE, "kd"]
    assert find(opened, "#compression").get_attribute("value") == "0.5"


def test_a_link_to_a_filter_that_nothing_passes_shows_all(opened: Any) -> None:
    opened.get(opened.current_url + "#suite=elsewhere")
    opened.refresh()
    assert find(opened, "#count").text == "6 of 18 rows"


def test_a_row_opens_by_keyboard_and_shows_seeds_record_and_command(opened: Any) -> None:
    choose(opened, "task", "hand->print")
    find(opened, "#q").send_keys("ITMC")
    button = find(opened, "#leaderboard tbody th button")
    press(button, "ENTER")
    assert button.get_attribute("aria-expanded") == "true"
    details = find(opened, "#" + button.get_attribute("aria-controls"))
    commands = [code.text for code in details.find_elements("tag name", "code")]
    assert commands == [f"python -m suites.run digits --methods itmc --seeds {s}" for s in (0, 1)]
    assert "79.50" in details.text and "80.50" in details.text and "A paper." in details.text
    press(button, "SPACE")
    assert button.get_attribute("aria-expanded") == "false"
    assert not opened.find_elements("css selector", "#leaderboard tr.details")


def test_a_point_of_the_pareto_plot_tells_its_run_to_pointer_and_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    point = find(opened, '#pareto .point[aria-label^="ITMC; 50 %"]')
    ActionChains(opened).move_to_element(point).perform()
    tip = waited(opened, "#pareto .tip").text
    for told in ("ITMC", "80.0 ± 0.7 (n = 2)", "1.80 M MACs\nlatency 0.400 ms (1), 3.10 ms (32)"):
        assert told in tip
    assert "seeds 0: 79.5, 1: 80.5" in tip
    ActionChains(opened).move_to_element(find(opened, "#pareto-note")).perform()
    # From the cheapest point on by arrow keys: two points at 0.9 come first.
    first = find(opened, '#pareto .point[tabindex="0"]')
    press(first, "ARROW_RIGHT")
    second = opened.switch_to.active_element
    assert second.get_attribute("class") == "point" and second != first
    assert "90 % asked" in waited(opened, "#pareto .tip").text


def test_the_front_joins_just_the_points_that_no_other_beats(opened: Any) -> None:
    corners = find(opened, "#pareto .front").get_attribute("d").count("L") + 1
    # ITMC at 0.9 and at 0.5; source_only is dearer and worse than both.
    assert corners == 2
    choose(opened, "group", "baselines")
    # KD at 0.9 (33.3), and the method with the hostile label at 0.5 (75), which hides KD (9).
    assert find(opened, "#pareto .front").get_attribute("d").count("L") + 1 == 2
    assert len(opened.find_elements("css selector", "#pareto .point")) == 3


def test_curves_show_seeds_mean_and_pruning_and_read_an_epoch_by_keyboard(opened: Any) -> None:
    choose(opened, "at", "0.5")
    assert len(opened.find_elements("css selector", "#curves .seed")) == 2
    assert len(opened.find_elements("css selector", "#curves .event")) == 2
    plot = find(opened, "#curves svg")
    press(plot, "ARROW_RIGHT")
    # 20 points below the end after the first epoch, as the factory has it.
    assert find(opened, "#curves-readout").text == "Epoch 1: ITMC 60.0 %"
    choose(opened, "beside", "kd")
    assert len(opened.find_elements("css selector", "#curves .mean")) == 2


def test_colours_can_be_turned_dark(opened: Any) -> None:
    def ground() -> str:
        colour: str = opened.execute_script(
            "return getComputedStyle(document.body).backgroundColor"
        )
        return colour

    assert ground() == "rgb(255, 255, 255)"
    find(opened, "#colours").click()
    assert ground() == "rgb(22, 24, 27)"
    find(opened, "#colours").click()
    assert ground() == "rgb(255, 255, 255)"


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1366, 900)])
def test_no_layout_is_wider_than_the_screen(opened: Any, width: int, height: int) -> None:
    resize(opened, width, height)
    opened.refresh()
    find(opened, "#leaderboard tbody th button").click()
    content, screen = opened.execute_script(
        "const { scrollWidth, clientWidth } = document.documentElement;"
        "return [scrollWidth, clientWidth]"
    )
    assert content <= screen <= width


def test_without_a_browser_these_tests_are_skipped_and_where_one_is_required_they_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ITMC_REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no chromium and no chromedriver"):
        programs()
    monkeypatch.setenv("ITMC_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="no browser"):
        programs()


def test_a_hostile_label_is_shown_as_text(opened: Any) -> None:
    # An alert would have ended every other command to the browser.
    assert HOSTILE in column(opened, "label")
    scripts = opened.execute_script("return [...document.scripts].map((s) => s.type)")
    assert scripts == ["application/json", "module"]
