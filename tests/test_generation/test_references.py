"""Which image belongs to which prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensora_adacache.errors.family import AdaCacheWarning
from opensora_adacache.generation.references import ReferenceShelf, list_media
from opensora_adacache.media.reading import read_reference


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
    folder = touch(tmp_path / "images", "cat.png", "ant.jpg", "bee.mp4", ".hidden.png", "cat.json")
    shelf = ReferenceShelf((folder,), num_prompts=4)
    assert [names(shelf.find(i)) for i in range(4)] == [["ant.jpg"], ["bee.mp4"], ["cat.png"], []]


def test_numbers_in_names_are_ordered_by_value(tmp_path):
    folder = touch(tmp_path / "images", "1.png", "10.png", "2.png", "frame2b.png", "Frame10.png", "frame2a.png")
    shelf = ReferenceShelf((folder,), num_prompts=6)
    assert [names(shelf.find(i))[0] for i in range(6)] == [
        *("1.png", "2.png", "10.png", "frame2a.png", "frame2b.png", "Frame10.png")
    ]


def test_a_folder_with_a_gif_is_paired_in_order(data_folder):
    shelf = ReferenceShelf((str(data_folder / "cases" / "foldermix"),), num_prompts=3)
    assert [names(shelf.find(i)) for i in range(3)] == [["a_red.gif"], ["b_green.png"], ["c_blue.png"]]
    colours = [read_reference(shelf.find(i)[0], (8, 8)).mean(dim=(1, 2, 3)).argmax().item() for i in range(3)]
    assert colours == [0, 1, 2]


def test_what_was_left_out_is_named_once(tmp_path):
    folder = touch(tmp_path / "images", "a.heic", "b.png", "c.psd", "run.json", ".hidden")
    shelf = ReferenceShelf((folder,), num_prompts=2)
    with pytest.warns(AdaCacheWarning, match=r"has 2 files of an unsupported type \(a.heic, c.psd\)") as warned:
        assert [names(shelf.find(i)) for i in range(2)] == [["b.png"], []]
    assert len(warned) == 1


def test_a_folder_of_unsupported_types_only(tmp_path):
    folder = touch(tmp_path / "images", "a", "b.heic")
    with pytest.warns(AdaCacheWarning, match=r"has 2 files of an unsupported type \(a, b.heic\)"):
        assert ReferenceShelf((folder,), num_prompts=1).find(0) == ()


def test_a_link_to_nothing_keeps_its_place(tmp_path):
    folder = touch(tmp_path / "images", "a.png", "c.png")
    (tmp_path / "images" / "b.png").symlink_to("gone.png")
    shelf = ReferenceShelf((folder,), num_prompts=3)
    assert [names(shelf.find(i)) for i in range(3)] == [["a.png"], ["b.png"], ["c.png"]]


def test_one_image_without_a_number_is_named(tmp_path):
    folder = touch(tmp_path / "images", "grid.png", "sample_0000.png", "sample_0001.png")
    shelf = ReferenceShelf((folder,), num_prompts=2)
    with pytest.warns(AdaCacheWarning, match="images named by number, but 'grid.png' is not; all are paired .* order"):
        assert names(shelf.find(0)) == ["grid.png"]


def test_why_there_is_no_image(tmp_path):
    folder = touch(tmp_path / "images", "IMG_1234.jpg", "IMG_1235.jpg")
    reason = ReferenceShelf((folder,), num_prompts=2).why_none(0)
    assert reason == f"'{folder}' has images named by number, like 'IMG_1234.jpg', and none is 0000"


@pytest.mark.parametrize("digits", ["012", "٠١٢", "０１２", "⁰¹²"])
def test_digits_of_any_script(tmp_path, digits):
    given = [f"a{digits[1]}{digits[0]}.png", f"a{digits[2]}.png", f"a{digits[1]}.png"]
    shelf = ReferenceShelf((touch(tmp_path / "images", *given),), num_prompts=3)
    assert [names(shelf.find(i))[0] for i in range(3)] == given[::-1]


def test_a_file_of_an_unknown_kind_is_no_folder(tmp_path):
    (tmp_path / "a.heic").touch()
    assert names(ReferenceShelf((str(tmp_path / "a.heic"),), 1).find(0)) == ["a.heic"]
    (tmp_path / "folder.png").mkdir()
    assert ReferenceShelf((str(tmp_path / "folder.png"),), 1).folder == tmp_path / "folder.png"


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
