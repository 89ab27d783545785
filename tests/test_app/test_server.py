"""What the command refuses before it loads anything, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from opensora_adacache.commands import app


def run(capsys, *arguments):
    status = app.main(list(arguments))
    return status, capsys.readouterr().err


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    message = "error: the app needs gradio: run pip install 'gradio>=6.31,<7'\n"
    assert run(capsys) == (2, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no/config.py",), "'no/config.py' does not exist"),
        (("scenes/sample", "--cfg-options", "num_frames=500"), "at most 300 frames"),
        (("scenes/sample", "--cfg-options", "sede=1"), "did you mean 'seed'?"),
    ],
)
def test_a_wrong_config_is_one_line(arguments, message, capsys):
    status, error = run(capsys, *arguments)
    assert status == 2 and message in error and error.count("\n") == 1


@pytest.mark.slow
def test_an_address_in_use(capsys):
    pytest.importorskip("gradio", reason="needs the extra [app]")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = f"error: cannot listen at 127.0.0.1:{port}: Address already in use; choose another --host or --port\n"
        assert run(capsys, "--port", port) == (2, message)
    for host, port in (("192.0.2.1", "0"), ("127.0.0.1", "70000"), ("no host", "0")):
        status, error = run(capsys, "--host", host, "--port", port)
        assert status == 2 and error.startswith(f"error: cannot listen at {host}:{port}: ")


@pytest.mark.slow
def test_a_folder_that_cannot_keep_videos_is_refused_before_models_are_loaded(tmp_path, capsys):
    pytest.importorskip("gradio", reason="needs the extra [app]")
    (tmp_path / "file").write_text("mine")
    status, error = run(capsys, "--save-dir", str(tmp_path / "file"))
    assert status == 2 and error.startswith("error: cannot write '") and error.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_gradio_gets_nothing_but_uploads(tmp_path):
    gradio = pytest.importorskip("gradio", reason="needs the extra [app]")
    from opensora_adacache.app.page import UploadsOnly

    guard = UploadsOnly(tmp_path / "uploads")
    upload = tmp_path / "uploads/a/b.png"
    assert asyncio.run(guard(upload)) == str(upload) and asyncio.run(guard(None)) is None
    for given in ("http://198.51.100.7/a.png", "/etc/passwd", str(upload / "../../../c.png"), tmp_path):
        with pytest.raises(gradio.Error, match="was not uploaded"):
            asyncio.run(guard(given))
