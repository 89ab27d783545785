"""Files of pairs and histories of visitors."""

from __future__ import annotations

import io
import zipfile

from opensora_adacache.app.limits import Limits
from opensora_adacache.app.requests import PairRequest
from opensora_adacache.app.store import PairStore
from opensora_adacache.app.views import Ended, PairView, RunView
from opensora_adacache.app.visitors import Visitors
from opensora_adacache.app.waiting_line import Ticket


def pair_of(token):
    runs = RunView("baseline", "baseline", 2), RunView("cached", "static 2x", 2)
    return PairView(PairRequest("a", "static", 2.0, 0), runs, "", token)


def test_only_files_of_pairs_are_served(tmp_path):
    (tmp_path / "other.mp4").touch()
    store = PairStore(tmp_path, keep=False)
    token, folder = store.new()
    (folder / "cached.mp4").write_bytes(b"video")
    (folder / "secret.txt").touch()
    assert store.read(token, "cached.mp4") == folder / "cached.mp4"
    for name in ("baseline.mp4", "secret.txt", "../other.mp4", ".", ""):
        assert store.read(token, name) is None
    for other in ("..", ".", "", "0" * 32, folder.name.upper(), str(folder)):
        assert store.read(other, "cached.mp4") is None


def test_an_archive_holds_what_was_made(tmp_path):
    store = PairStore(tmp_path, keep=False)
    token, folder = store.new()
    for name in ("cached.mp4", "cached.json", "pair.json", "reference.png", "secret.txt"):
        (folder / name).write_text(name)
    with zipfile.ZipFile(io.BytesIO(store.read(token, "pair.zip"))) as archive:
        assert sorted(archive.namelist()) == ["cached.json", "cached.mp4", "pair.json", "reference.png"]
        assert archive.read("pair.json") == b"pair.json"


def test_dropped_pairs_are_removed_unless_their_videos_are_kept(tmp_path):
    for keep in (False, True):
        store = PairStore(tmp_path / str(keep), keep)
        (made, with_video), (empty, without) = store.new(), store.new()
        (with_video / "cached.mp4").touch()
        store.drop(made)
        store.drop(empty)
        assert (with_video.exists(), without.exists()) == (keep, False)
        assert store.read(made, "cached.mp4") is None


def test_histories_are_the_visitors_own_and_limited():
    dropped = []
    visitors = Visitors(Limits(pairs=2, visitors=2), dropped.append)
    for visitor, token in (("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")):
        visitors.add(visitor, pair_of(token))
    assert [pair.token for pair in visitors.history("a")] == ["4", "3"]
    assert [pair.token for pair in visitors.history("b")] == ["2"] and visitors.history("c") == ()
    assert dropped == ["1"]
    visitors.add("c", pair_of("5"))  # b has been away for longest
    assert visitors.history("b") == () and dropped == ["1", "2"]


def test_a_page_follows_one_pair():
    visitors = Visitors(Limits(), lambda token: None)
    first, second = (Ticket(pair_of(token).request, token, "a") for token in "12")
    visitors.begin("page", first)
    visitors.begin("page", second)
    assert isinstance(first.state, Ended) and not isinstance(second.state, Ended)
    visitors.end("another page")
    assert not isinstance(second.state, Ended)
    visitors.end("page")
    assert isinstance(second.state, Ended)
