from __future__ import annotations

from pathlib import Path

import pytest

from restonnx.errors import InputError
from restonnx.training.recipe import RECIPES, load


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid_and_named_like_its_file(path: Path) -> None:
    assert load(path.stem).name == path.stem


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.bach=1", ("training.bach", "'batch'")),
        ("network.width=[8]", ("network.width", "'widths'")),
        ("sampler.kapa=1", ("sampler.kapa", "'kappa'")),
        ("degradation.sigm=1", ("degradation.sigm", "'sigma'")),
        ("objective.gradiant=1", ("gradiant", "'gradient'")),
        ("about.titel=x", ("about.titel", "'title'")),
        ("trainig.lr=1", ("trainig", "'training'")),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_one(
    recipe: Path, override: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as error:
        load(recipe, [override])
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "training.batch=0",
        "training.minutes=0",
        "sampler.steps=0",
        "network.down=[1]",
        "objective.kind=nonsense",
        "objective.loss=l3",
        "training.patch=50",
        "training.seed=-1",
        "sampler.min_noise_level=1.5",
        "degradation.sigma=[60, 0]",
        "network.widths=[0, 16]",
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_its_section(recipe: Path, override: str) -> None:
    with pytest.raises(InputError) as error:
        load(recipe, [override])
    assert override.split(".")[0] in str(error.value)
    assert "\n" not in str(error.value)


def test_overrides_read_numbers_lists_and_words(recipe: Path) -> None:
    changed = load(recipe, ["training.lr=2e-4", "network.widths=[16, 24]", "objective.loss=l2"])
    assert changed.training.lr == 2e-4
    assert changed.network.widths == (16, 24)
    assert changed.objective.loss == "l2"


def test_one_length_of_training_takes_the_place_of_the_other(recipe: Path) -> None:
    assert load(recipe, ["training.minutes=5"]).training.iterations is None
    again = load("denoise", ["training.iterations=7"]).training
    assert (again.iterations, again.minutes) == (7, None)
    with pytest.raises(InputError, match="give either iterations or minutes"):
        load(recipe, ["training.iterations=7", "training={iterations=7, minutes=5}"])


def test_the_hash_follows_the_content_and_not_the_layout(recipe: Path) -> None:
    before = load(recipe).hash()
    recipe.write_text("# a comment\n" + recipe.read_text())
    assert load(recipe).hash() == before
    assert load(recipe, ["training.lr=0.5"]).hash() != before


def test_missing_recipes_and_broken_toml_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="denoise"):
        load("no-such-recipe")
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(InputError, match="not valid TOML"):
        load(tmp_path / "broken.toml")
