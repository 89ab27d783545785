"""What a program sends to the server of the app, past its page."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request

import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def call(address, path, payload=None, headers=None):
    """Return the status, headers and body of an answer, past any proxy."""
    data = None if payload is None else json.dumps(payload).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json", **(headers or {})})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def send_form(address, values, session="abc"):
    """Send a form as the page does, and return all that the server answers."""
    config = json.loads(call(address, "/config")[2])
    make = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "oa-make")
    number = next(d["id"] for d in config["dependencies"] if [make, "click"] in [list(t) for t in d["targets"]])
    payload = {"data": values, "fn_index": number, "session_hash": session, "trigger_id": make, "event_data": None}
    status, _, body = call(address, "/gradio_api/queue/join", payload)
    if status != 200:
        return body.decode()
    return call(address, f"/gradio_api/queue/data?session_hash={session}")[2].decode()


def image(path):
    return {"path": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}


def upload(address, content):
    """Upload a file as the page does, and return the answer."""
    boundary = "x"
    part = 'Content-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    data = f"--{boundary}\r\n{part}".encode() + content + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(
        f"{address}/gradio_api/upload", data, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60)


def png():
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    return content.getvalue()


def test_a_form_with_an_upload_is_served(address):
    """Without this, the refusals below would prove nothing."""
    with upload(address, png()) as answer:
        (path,) = json.loads(answer.read())
    answer = send_form(address, ["a red circle", image(path), "static", 2, 1], session="good")
    assert "oa-stage making" in answer and "with a reference image" in answer and "data-finished" in answer


@pytest.mark.parametrize("path", ["{secret}", "/etc/passwd", "http://198.51.100.7/a.png", "file:///etc/passwd"])
@pytest.mark.parametrize("place", [0, 1])
def test_no_path_of_the_server_and_no_address_is_read_from_a_form(path, place, address, tmp_path, elsewhere):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    values = ["a red circle", None, "static", 2, 1]
    values[place] = image(path.format(secret=tmp_path / "secret.png"))
    answer = send_form(address, values, session=f"s{abs(hash((path, place)))}")
    assert "oa-stage making" not in answer and "data-finished" not in answer
    assert "process_completed" in answer or "error" in answer
    assert str(tmp_path) not in answer and elsewhere.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/made/../../etc/passwd",
        "/made/%2e%2e/%2e%2e/etc/passwd",
        "/made/00000000000000000000000000000000/cached.mp4",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/proxy=http://198.51.100.7/",
        "/file=/etc/passwd",
        "/docs",
    ],
)
def test_no_other_file_is_served(path, address):
    status, _, body = call(address, path)
    assert status in (307, 400, 401, 403, 404, 405) and b"root:" not in body and b"[project]" not in body


def test_the_page_stays_on_this_server(address):
    _, headers, body = call(address, "/")
    assert "default-src 'self'" in headers["content-security-policy"]
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert call(address, "/", headers={"Cookie": cookie.split(";")[0]})[1]["set-cookie"] is None
    assert b"fonts.googleapis" not in body and b"cdnjs" not in body


def test_other_sites_may_not_ask(address):
    """A page of another site, open in the visitor's browser, gets no answer that it may read."""
    _, headers, _ = call(address, "/config", headers={"Origin": "https://example.org"})
    assert headers["access-control-allow-origin"] is None


def test_large_uploads_are_refused(address):
    with pytest.raises(urllib.error.HTTPError) as caught:
        upload(address, bytes(10_100_000))
    with caught.value as error:
        assert error.code == 413
