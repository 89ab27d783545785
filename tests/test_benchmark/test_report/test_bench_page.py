"""The pages as a user sees them, in a headless Chromium: play, scrub, sort, filter."""

from __future__ import annotations

import pytest

from opensora_adacache.benchmark.report.bench import build_page
from opensora_adacache.benchmark.report.page import write_page
from opensora_adacache.benchmark.report.plots import quality_against_speed
from opensora_adacache.benchmark.report.runs import ComparedRun, ComparedVideo, FinishedVideo
from opensora_adacache.benchmark.summary import summarize
from opensora_adacache.media.files import write_file

pytestmark = pytest.mark.slow

VIDEO_SECONDS = 2.0
FRAME_SECONDS = 1 / 8
POSITIONS = "player.active().map(video => video.currentTime)"


@pytest.fixture
def page(browser, bench_folder, rows, comparison):
    """The browser, with the page of the benchmark open and script errors collected."""
    plot = quality_against_speed(summarize(rows, comparison))
    path = write_file(bench_folder / "index.html", build_page(bench_folder, rows, comparison, [plot]))
    browser.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="window.failures = []; addEventListener('error', event => failures.push(event.message))",
    )
    browser.open(path)
    yield browser
    assert browser.run("failures") == []


def wait_for_videos(browser, count):
    """Scroll to the videos and wait until that many are loaded. Skip the test if the browser lacks H.264."""
    if not browser.run("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.64000c\"')"):
        pytest.skip("this browser plays no H.264")
    browser.run("document.querySelector('.player').scrollIntoView()")
    browser.wait_for(f"player.active().length === {count}")


def shown(browser, what):
    """Return the data of the visible videos: 'setting' of figures, or 'prompt' of sections."""
    selector = "section.prompt figure" if what == "setting" else "section.prompt"
    visible = f"[...document.querySelectorAll('{selector}')].filter(x => x.getClientRects().length)"
    return browser.run(f"{visible}.map(x => x.dataset.{what})")


def choose(browser, control, value):
    """Set a control of the page like a user."""
    script = f"document.getElementById('{control}')"
    browser.run(f"{script}.value = '{value}'; {script}.dispatchEvent(new Event('input', {{ bubbles: true }}))")


def methods(browser, table="quality"):
    """First cells of a table in order."""
    return browser.run(f"[...document.querySelectorAll('#table-{table} tbody td:first-child')].map(x => x.textContent)")


def click_heading(browser, text, table="quality"):
    """Click a heading, and return its new aria-sort and the number of headings that have one."""
    browser.run(
        f"[...document.querySelectorAll('#table-{table} th button')].find(x => x.textContent === '{text}').click()"
    )
    return browser.run(
        f"[...document.querySelectorAll('#table-{table} th')].map(x => x.ariaSort).filter(x => x !== 'none')"
    )


def test_videos_play_in_step(page):
    wait_for_videos(page, 9)
    assert page.run("player.isPlaying() && document.getElementById('toggle').textContent === 'Pause'")
    # every video was seen at two places that are some frames apart, and then jumps back: it plays and loops
    page.run(
        """window.seen = new Map(); (function look() {
            for (const video of player.active()) {
                const { low = 9, high = 0, last = 0, loops = 0 } = seen.get(video) ?? {};
                const time = video.currentTime;
                seen.set(video, { low: Math.min(low, time), high: Math.max(high, time), last: time,
                                  loops: loops + (time < last - 1) });
            }
            requestAnimationFrame(look);
        })()"""
    )
    page.wait_for("seen.size === 9 && [...seen.values()].every(x => x.high - x.low > 1 && x.loops > 0)")
    # A busy machine delays single videos, so they need to be in sync only at some moment.
    page.wait_for(f"Math.max(...{POSITIONS}) - Math.min(...{POSITIONS}) < {2 * FRAME_SECONDS}")


def test_pause_and_scrub(page):
    wait_for_videos(page, 9)
    page.run("document.getElementById('toggle').click()")
    # a seeking video may have no frame to show, and is then inactive
    page.wait_for("player.active().length === 9 && player.active().every(video => video.paused && !video.seeking)")
    assert page.run("document.getElementById('toggle').textContent") == "Play"
    first = page.run(POSITIONS)
    assert max(first) - min(first) < FRAME_SECONDS / 4
    choose(page, "scrubber", 0.75)
    page.wait_for("player.active().length === 9 && player.active().every(video => !video.seeking)")
    assert page.run(POSITIONS) == pytest.approx([0.75 * VIDEO_SECONDS] * 9, abs=0.01)
    assert page.run("document.getElementById('clock').textContent") == "1.50 / 2.00 s"
    page.run("document.getElementById('toggle').click()")
    page.wait_for(f"player.active().length === 9 && {POSITIONS}.every(time => Math.abs(time - 1.5) > 0.2)")


def test_videos_that_come_into_view_join_while_paused(page):
    wait_for_videos(page, 9)
    choose(page, "motion", "slow")
    page.run("document.getElementById('toggle').click()")
    choose(page, "scrubber", 0.5)
    choose(page, "motion", "")
    page.wait_for(f"player.active().length === 9 && {POSITIONS}.every(time => Math.abs(time - 1) < 0.01)")


def test_sorting(page):
    at_first = methods(page)
    assert at_first == ["Baseline", "baseline", "AdaCache & co", "AdaCache-fast", "Δ_best", "PAB-fast"]
    assert click_heading(page, "PSNR (dB)") == ["ascending"]
    # 9 dB < 23.58 < 25 as numbers; a quoted row stays below its setting, the baseline without a figure comes last
    rising = ["Δ_best", "PAB-fast", "AdaCache & co", "AdaCache-fast", "Baseline", "baseline"]
    assert methods(page) == rising
    assert click_heading(page, "PSNR (dB)") == ["descending"]
    assert methods(page) == ["AdaCache & co", "AdaCache-fast", "PAB-fast", "Δ_best", "Baseline", "baseline"]
    assert click_heading(page, "Method") == ["ascending"]
    assert methods(page)[0] == "AdaCache & co"
    assert click_heading(page, "Computed steps", "cost") == ["ascending"]
    assert methods(page, "cost") == ["Δ_best", "AdaCache & co", "Baseline"]


def test_sorting_by_keyboard(page):
    page.run("document.querySelector('#table-quality th button').focus()")
    for _ in range(3):
        page.press("Tab")
    assert page.run("document.activeElement.textContent") == "PSNR (dB)"
    page.press("Enter")
    assert page.run("document.activeElement.closest('th').ariaSort") == "ascending"
    assert methods(page)[0] == "Δ_best"


def test_filtering(page):
    every = ["baseline", "adacache-fast", "oracle"]
    assert shown(page, "setting") == 3 * every
    choose(page, "policy", "oracle-video")
    assert shown(page, "setting") == 3 * ["baseline", "oracle"]
    choose(page, "motion", "fast")
    assert shown(page, "setting") == ["baseline", "oracle"] and shown(page, "motion") == ["fast"]
    assert page.run("document.getElementById('count').textContent") == "2 of 9 videos"
    choose(page, "policy", "")
    choose(page, "motion", "")
    choose(page, "prompt", "SQUARE red")
    assert shown(page, "prompt") == ["a red square rushes by"]
    choose(page, "prompt", "<blue>")
    assert shown(page, "prompt") == ["a <blue> square moves slowly"]
    choose(page, "prompt", "nothing like it")
    assert shown(page, "setting") == [] and page.run("document.getElementById('count').textContent") == "0 of 9 videos"
    choose(page, "prompt", "")
    page.run("document.querySelector('details').open = true")
    page.run("document.querySelector('#settings input[value=\"adacache-fast\"]').click()")
    assert shown(page, "setting") == 3 * ["baseline", "oracle"]
    page.run("document.querySelector('#settings button[data-all=\"\"]').click()")
    assert shown(page, "setting") == []
    page.run("document.querySelector('#settings button[data-all=\"1\"]').click()")
    assert shown(page, "setting") == 3 * every


def test_hidden_videos_rest(page):
    wait_for_videos(page, 9)
    choose(page, "motion", "still")
    page.wait_for("player.active().length === 3")
    page.wait_for(
        "[...document.querySelectorAll('video')].filter(v => !v.getClientRects().length).every(v => v.paused)"
    )


def test_it_fits_and_says_what_it_shows(page):
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run("[...document.images].every(image => image.complete && image.naturalWidth > 300 && image.alt)")
    page.call("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
    assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_the_demo_page_plays_too(browser, bench_folder, rows):
    def run(setting):
        videos = []
        for row in (row for row in rows if row.setting == setting):
            record = FinishedVideo(bench_folder / row.video, row.prompt, 0, 6, 3, 1.0, 1000, (True, False) * 3)
            videos.append(ComparedVideo(record, None, 1.0))
        return ComparedRun(setting, tuple(videos))

    write_page(bench_folder / "demo.html", [run("baseline"), run("adacache-fast")], "Demo")
    browser.open(bench_folder / "demo.html")
    wait_for_videos(browser, 6)
    browser.wait_for(f"{POSITIONS}.every(time => time > 0.5)")
