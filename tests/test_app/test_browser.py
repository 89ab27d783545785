"""The app in headless Chromium, by clicking. Nothing asks another machine for anything."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

FINISHED = ".oa-stage[data-finished]"


def choose(page, policy):
    page.click("#oa-policy input")
    page.get_by_role("option", name=policy, exact=True).click()


def make(page, prompt="a red circle moves slowly to the left on a white background"):
    page.fill("#oa-prompt textarea", prompt)
    page.click("#oa-make")


def status(page):
    return page.inner_text(".oa-status")


def test_a_pair_from_the_prompt_to_the_download(open_page, elsewhere, beyond):
    page = open_page()
    urls = []
    page.context.on("request", lambda request: urls.append(request.url))
    assert page.inner_text(".oa-facts b") == "scenes/sample"
    choose(page, "adacache")
    page.wait_for_function("document.querySelector('.oa-choice').textContent.includes('2.5x')")
    make(page)

    # the strip fills, a preview and the distance appear while the video is being made
    page.wait_for_selector(".oa-stage.making [data-run=cached] .oa-strip i.r")
    page.wait_for_selector(".oa-stage.making [data-run=cached] .oa-screen img")
    assert page.locator("[data-run=cached] .oa-line.distance").count() == 1
    assert page.is_disabled("#oa-make") and page.is_enabled("#oa-cancel")
    page.wait_for_selector(FINISHED)
    page.wait_for_function("!document.querySelector('#oa-make').disabled")
    for run in ("baseline", "cached"):
        assert page.locator(f"[data-run={run}] .oa-strip i").count() == 30
    assert page.locator("[data-run=baseline] .oa-strip i.c").count() == 30
    computed = page.locator("[data-run=cached] .oa-strip i.c").count()
    assert 5 < computed < 25
    figures = page.inner_text(".oa-figures")
    assert re.search(r"\d+\.\d\s+dB", figures) and f"{computed} of 30" in figures and "baseline" in figures

    # both videos play in step
    page.wait_for_function(
        "[...document.querySelectorAll('video')].every(v => v.readyState >= 2 && v.currentTime > 0.2)"
    )
    times = "[...document.querySelectorAll('video')].map(v => v.currentTime)"
    first, second = page.evaluate(times)
    assert abs(first - second) < 0.2
    page.click(".oa-toggle")
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.paused)")
    page.locator(".oa-scrubber").evaluate(
        "input => { input.value = 0.5; for (const type of ['input', 'change']) input.dispatchEvent(new Event(type)); }"
    )
    page.wait_for_function(f"{times}.every(time => Math.abs(time - {times}[0]) < 0.01 && time > 0.9)")
    assert page.inner_text(".oa-toggle") == "Play"

    with page.expect_download() as download:
        page.click(".oa-downloads .oa-button")
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        names = ["baseline.json", "baseline.mp4", "cached.json", "cached.mp4", "pair.json"]
        assert sorted(archive.namelist()) == names
        assert json.loads(archive.read("cached.json"))["computed_steps"] == computed

    # the history shows it, and brings it back after a reload
    page.reload()
    page.wait_for_selector(".oa-card")
    assert page.locator(FINISHED).count() == 0
    page.wait_for_timeout(500)
    page.click(".oa-card")
    page.wait_for_selector(FINISHED)
    assert f"{computed} of 30" in page.inner_text(".oa-figures")

    assert urls and all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in urls), urls
    assert (elsewhere.asked, beyond.asked) == ([], [])


def test_a_cancelled_pair(open_page):
    page = open_page()
    make(page)
    page.wait_for_selector(".oa-stage.making [data-run=cached] .oa-strip i.c")
    page.click("#oa-cancel")
    page.wait_for_selector(".oa-stage.ended")
    assert status(page) == "cancelled"
    assert page.locator("video").count() == 0 and page.locator(".oa-card").count() == 0
    page.wait_for_function("!document.querySelector('#oa-make').disabled")
    assert page.is_disabled("#oa-cancel")


def test_two_at_once(open_page):
    """The queue serves both, one after the other, and each visitor has a history of their own."""
    one, two = open_page(), open_page()
    make(one)
    one.wait_for_selector(".oa-stage.making")
    make(two, "a blue square stays still on a black background")
    two.wait_for_selector(".oa-stage.waiting")
    assert status(two) == "waiting: 1 before yours"
    one.wait_for_selector(FINISHED)
    two.wait_for_selector(FINISHED)
    assert "red circle" in one.inner_text(".oa-stage h2") and "blue square" in two.inner_text(".oa-stage h2")
    for page in (one, two):
        page.wait_for_selector(".oa-card")
        assert page.locator(".oa-card").count() == 1


def test_whoever_leaves_makes_room(open_page):
    one, two = open_page(), open_page()
    make(one)
    one.wait_for_selector(".oa-stage.making")
    make(two)
    two.wait_for_selector(".oa-stage.waiting")
    one.close()
    begin = time.monotonic()
    two.wait_for_selector(".oa-stage.making")
    two.click("#oa-cancel")
    two.wait_for_selector(".oa-stage.ended")
    assert time.monotonic() - begin < 60  # a limit for a test that hangs, not a measurement


def test_a_bad_image(open_page, bad_image, tmp_path):
    page = open_page()
    page.set_input_files("#oa-reference input[type=file]", bad_image)
    page.wait_for_selector("#oa-reference img")
    make(page)
    page.wait_for_selector(".oa-stage.failed")
    assert status(page) == "the reference image cannot be read: upload a png, jpeg, webp, bmp, gif or tiff file"
    assert page.locator(".toast-wrap .error").count() == 0
    page.wait_for_function("!document.querySelector('#oa-make').disabled")


def test_a_reference_image(open_page, tmp_path):
    Image.new("RGB", (100, 80), (30, 200, 40)).save(tmp_path / "green.png")
    page = open_page()
    page.set_input_files("#oa-reference input[type=file]", tmp_path / "green.png")
    page.wait_for_selector("#oa-reference img")
    make(page)
    page.wait_for_selector(".oa-stage.making")
    assert "with a reference image" in page.inner_text(".oa-note")
    page.click("#oa-cancel")
    page.wait_for_selector(".oa-stage.ended")


def test_a_prompt_with_options_is_refused(open_page):
    page = open_page()
    make(page, 'a circle {"reference_path": "/etc/hostname"}')
    page.wait_for_selector(".oa-stage.failed")
    assert status(page).startswith("the prompt must not hold '{' or '|'")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_window(width, open_page):
    page = open_page(width, 844)
    page.click("#oa-examples button >> nth=1")
    page.wait_for_function("document.querySelector('#oa-prompt textarea').value.includes('yellow square')")
    page.click("#oa-make")
    page.wait_for_selector(FINISHED)
    page.wait_for_selector(".oa-card")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('.oa-stage').getBoundingClientRect().top < innerHeight")
