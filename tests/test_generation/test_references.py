"""Which image belongs to which prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensora_adacache.generation.references import ReferenceShelf, list_media


def touch(folder: Path, *names: str) -> str:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return str(folder)


def names(paths):
    return [path.name for path in paths]


def test_a_folder_is_paired_by_index_not_by_position(tmp_path):
    folder = touch(tmp_path / "images", "sample_0002.png", "sample_0000.png", "sample_0010.png", "run.json")
    shelf = ReferenceShelf((folder,), num_prompts=11)
    assert names(shelf.find(2)) == ["sample_0002.png"]
    assert names(shelf.find(10)) == ["sample_0010.png"]
    assert shelf.find(1) == ()


def test_samples_have_images_of_their_own(tmp_path):
    folder = touch(tmp_path / "images", "sample_0000-0.png", "sample_0000-1.png")
    shelf = ReferenceShelf((folder,), num_prompts=1)
    assert [names(shelf.find(0, sample))[0] for sample in range(3)] == [
        *("sample_0000-0.png", "sample_0000-1.png", "sample_0000-0.png")
    ]


def test_other_names_are_paired_in_sorted_order(tmp_path):
    folder = touch(tmp_path / "images", "cat.png", "ant.jpg", "bee.mp4", ".hidden.png", "notes.txt")
    shelf = ReferenceShelf((folder,), num_prompts=4)
    assert [names(shelf.find(i)) for i in range(4)] == [["ant.jpg"], ["bee.mp4"], ["cat.png"], []]


def test_one_file_is_for_all_and_lists_are_per_prompt():
    assert names(ReferenceShelf(("a.png",), 3).find(2)) == ["a.png"]
    shelf = ReferenceShelf(("a.png", "b.png; c.mp4", ""), 3, start_index=5)
    assert [names(shelf.find(i)) for i in (5, 6, 7)] == [["a.png"], ["b.png", "c.mp4"], []]
    assert ReferenceShelf((), 3).find(0) == ()


def test_a_folder_that_is_not_there_has_no_images(tmp_path):
    assert ReferenceShelf((str(tmp_path / "gone"),), 1).find(0) == ()
    assert list_media(tmp_path / "gone") == []


def test_wrong_number_of_entries():
    with pytest.raises(ValueError, match="reference_path has 2 entries for 3 prompts"):
        ReferenceShelf(("a.png", "b.png"), 3)
