"""What a task was last run with is remembered, and a file that cannot be read or written is no failure."""

from __future__ import annotations

from pathlib import Path

from restonnx.plugin import last
from restonnx.plugin.settings import Settings


def test_each_task_has_settings_of_its_own() -> None:
    assert last.recall("denoise") is None
    first, second = Settings(model="mine", strength=0.3, seed=4, noise_level=2.5), Settings(model="other", samples=3)
    last.keep("denoise", first)
    last.keep("deblur", second)
    assert (last.recall("denoise"), last.recall("deblur")) == (first, second)
    last.keep("denoise", second)
    assert (last.recall("denoise"), last.recall("inpaint")) == (second, None)


def test_a_file_that_is_broken_is_begun_anew() -> None:
    last.path().parent.mkdir()
    for content in ("{", "[]", '{"denoise": 5}', '{"denoise": {"model": 5}}'):
        last.path().write_text(content, encoding="utf-8")
        assert last.recall("denoise") is None
    last.keep("denoise", Settings(seed=8))
    assert last.recall("denoise") == Settings(seed=8)


def test_where_nothing_can_be_written_nothing_is_remembered(settings_folder: Path) -> None:
    settings_folder.write_text("no folder")
    last.keep("denoise", Settings(seed=8))
    assert last.recall("denoise") is None
