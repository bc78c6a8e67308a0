"""Which file is written for which input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from restonnx.cli.outputs import Job, Plan, check_report, make_folders
from restonnx.cli.outputs import plan as plan_with_suffixes
from restonnx.errors import InputError


def plan(inputs: list[Path], output: Path | str, **options: Any) -> Plan:
    suffixes = {".png", ".tif"}
    return plan_with_suffixes(inputs, str(output), readable=suffixes | {".bmp"}, writable=suffixes, **options)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("name", "overwrite", "message"),
    [
        ("new/a.json", False, "does not exist; make it first"),
        ("a.txt", False, r"a name that ends in \.json or \.png"),
        ("old.json", False, "pass --overwrite"),
        ("folder.json", True, "is a folder"),
        ("images/a.png", True, "is an input and is never overwritten"),
    ],
)
def test_a_report_is_refused_before_it_could_replace_something(
    tmp_path: Path, name: str, overwrite: bool, message: str
) -> None:
    touch(tmp_path / "old.json")
    touch(tmp_path / "images" / "a.png")
    (tmp_path / "folder.json").mkdir()
    allowed = [".json", ".png"]
    for free in (None, tmp_path / "new.json", tmp_path / "images" / "new.json"):
        check_report(free, allowed, overwrite=False, data=tmp_path / "images")
    check_report(tmp_path / "old.json", allowed, overwrite=True, data=tmp_path / "images")
    with pytest.raises(InputError, match=message):
        check_report(tmp_path / name, allowed, overwrite=overwrite, data=tmp_path / "images")


def test_an_input_that_is_no_image_is_told_as_such(tmp_path: Path) -> None:
    text = touch(tmp_path / "notes.txt")
    assert plan([text], tmp_path / "out").problems == (
        f"{text}: this is no image that can be read: give .bmp, .png, .tif",
    )


def test_one_image_and_a_file_name_give_that_file(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.png")
    assert plan([image], tmp_path / "b.tif").jobs == (Job(image, tmp_path / "b.tif"),)


def test_one_image_and_a_name_without_suffix_give_a_folder(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.png")
    assert plan([image], tmp_path / "out").jobs == (Job(image, tmp_path / "out" / "a.png"),)


def test_a_folder_that_exists_is_a_folder_whatever_its_name(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.png")
    folder = tmp_path / "b.tif"
    folder.mkdir()
    assert plan([image], folder).jobs == (Job(image, folder / "a.png"),)


def test_a_trailing_slash_means_a_folder(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.png")
    assert plan([image], f"{tmp_path}/b.png/").jobs == (Job(image, tmp_path / "b.png" / "a.png"),)


def test_several_images_and_one_file_name_are_refused(tmp_path: Path) -> None:
    images = [touch(tmp_path / "a.png"), touch(tmp_path / "b.png")]
    with pytest.raises(InputError, match="give a folder"):
        plan(images, tmp_path / "c.png")


def test_a_file_that_is_no_image_cannot_be_the_folder(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.png")
    with pytest.raises(InputError, match="is a file but not an image"):
        plan([image], touch(tmp_path / "notes.txt"))


def test_a_folder_gives_its_images_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.png", "a.tif", "notes.txt", ".hidden.png", "deeper/c.png"):
        touch(tmp_path / "in" / name)
    jobs = plan([tmp_path / "in"], tmp_path / "out").jobs
    assert [job.target for job in jobs] == [tmp_path / "out" / "a.tif", tmp_path / "out" / "b.png"]


def test_recursive_keeps_the_subfolders_and_leaves_the_output_folder_out(tmp_path: Path) -> None:
    for name in ("a.png", "x/a.png", "out/a.png", ".git/a.png"):
        touch(tmp_path / name)
    jobs = plan([tmp_path], tmp_path / "out", recursive=True, overwrite=True).jobs
    assert [job.target.relative_to(tmp_path).as_posix() for job in jobs] == ["out/a.png", "out/x/a.png"]


def test_an_empty_folder_is_a_problem_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    result = plan([tmp_path / "in"], tmp_path / "out")
    assert not result.jobs
    assert "no image" in result.problems[0]


def test_a_missing_input_is_a_problem_and_the_others_are_done(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.png")
    result = plan([tmp_path / "none.png", image], tmp_path / "out")
    assert [job.source for job in result.jobs] == [image]
    assert result.problems == (f"{tmp_path / 'none.png'}: no such file or folder",)


def test_an_image_is_never_its_own_output(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.png")
    for output in (image, tmp_path, tmp_path / "x" / ".." / "a.png"):
        result = plan([image], output, overwrite=True)
        assert not result.jobs
        assert "never overwritten" in result.problems[0]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_an_input_is_never_an_output(tmp_path: Path, link: object) -> None:
    image = touch(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    assert callable(link)
    link(image, tmp_path / "out" / "a.png")
    assert not plan([image], tmp_path / "out", overwrite=True).jobs


def test_another_input_is_never_an_output(tmp_path: Path) -> None:
    first, second = touch(tmp_path / "a.png"), touch(tmp_path / "out" / "a.png")
    result = plan([first, second], tmp_path / "out", overwrite=True)
    assert not result.jobs
    assert all("never overwritten" in problem for problem in result.problems)


def test_a_map_of_deviations_never_replaces_an_input(tmp_path: Path) -> None:
    image, other = touch(tmp_path / "a.png"), touch(tmp_path / "out" / "a_std.tif")
    result = plan([image, other], tmp_path / "out", std=True, overwrite=True)
    assert not result.jobs


def test_an_output_that_exists_needs_overwrite(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.png")
    touch(tmp_path / "out" / "a.png")
    assert "--overwrite" in plan([image], tmp_path / "out").problems[0]
    assert len(plan([image], tmp_path / "out", overwrite=True).jobs) == 1


def test_another_file_that_is_read_is_never_an_output(tmp_path: Path) -> None:
    source, mask = touch(tmp_path / "a.png"), touch(tmp_path / "mask.png")
    (problem,) = plan([source], mask, overwrite=True, others=(None, mask)).problems
    assert "mask.png is an input and is never overwritten" in problem


@pytest.mark.parametrize("name", ["a.bmp", "a.JPG", "photo.dir/a.tga", "a.dng", "a.HEIC"])
def test_the_name_of_an_image_that_cannot_be_written_is_no_folder(tmp_path: Path, name: str) -> None:
    source = touch(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"cannot be written: give a name that ends in \.png, \.tif, or in / for"):
        plan([source], tmp_path / name)
    assert plan([source], f"{tmp_path / name}/").jobs == (Job(source, tmp_path / name / "a.png"),)
    assert plan([source], tmp_path / "results.v2").jobs == (Job(source, tmp_path / "results.v2" / "a.png"),)


def test_resuming_in_the_folder_of_the_inputs_passes_over_what_was_made_there(tmp_path: Path) -> None:
    _, second, _ = (touch(tmp_path / name) for name in ("a.bmp", "b.bmp", "a.png"))
    done = plan([tmp_path], tmp_path, suffix=".png", resume=True)
    assert (done.finished, done.problems) == (1, ())
    assert done.jobs == (Job(second, tmp_path / "b.png"),)
    assert len(plan([tmp_path], tmp_path, suffix=".png").problems) == 2


def test_two_images_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    first, second = touch(tmp_path / "x" / "a.png"), touch(tmp_path / "y" / "a.png")
    result = plan([first, second], tmp_path / "out", overwrite=True)
    assert [job.source for job in result.jobs] == [first]
    assert "already the output of" in result.problems[0]


def test_the_same_image_named_twice_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = touch(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    result = plan([image, Path("a.png"), tmp_path], tmp_path / "out")
    assert len(result.jobs) == 1
    assert not result.problems


def test_a_format_that_cannot_be_written_is_a_problem_that_names_the_way_out(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.bmp")
    assert "cannot be written" in plan([image], tmp_path / "out").problems[0]
    assert len(plan([image], tmp_path / "a.png").jobs) == 1


def test_the_map_of_deviations_lies_beside_the_output(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.png")
    assert plan([image], tmp_path / "out", std=True).jobs[0].spread == tmp_path / "out" / "a_std.tif"


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    file = touch(tmp_path / "file")
    with pytest.raises(InputError, match="cannot make the folder"):
        make_folders([Job(tmp_path / "a.png", file / "out" / "a.png")])


def test_folders_are_made_if_missing(tmp_path: Path) -> None:
    make_folders([Job(tmp_path / "a.png", tmp_path / "x" / "y" / "a.png")])
    assert (tmp_path / "x" / "y").is_dir()
