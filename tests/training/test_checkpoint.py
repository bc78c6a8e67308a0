from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason='training needs torch: pip install "restonnx[train]"')

from restonnx import library  # noqa: E402
from restonnx.errors import ModelError  # noqa: E402
from restonnx.training.checkpoint import grown, load  # noqa: E402


def test_a_convolution_that_sees_more_channels_computes_what_its_sibling_does_where_they_are_zero() -> None:
    own, like, image = torch.randn(4, 3, 3, 3), torch.zeros(4, 5, 3, 3), torch.randn(1, 3, 8, 8)
    wider = torch.cat([image, torch.zeros(1, 2, 8, 8)], dim=1)
    computed = torch.nn.functional.conv2d(wider, grown(own, like))
    torch.testing.assert_close(computed, torch.nn.functional.conv2d(image, own))


def test_one_steps_table_serves_every_step_of_a_longer_chain() -> None:
    own = torch.randn(1, 6)
    assert torch.equal(grown(own, torch.zeros(4, 6)), own.repeat(4, 1))


def test_a_weight_of_any_other_shape_stays_as_it_is() -> None:
    for own, like in ((torch.randn(2, 6), torch.zeros(4, 6)), (torch.randn(4, 5, 3, 3), torch.zeros(4, 3, 3, 3))):
        assert grown(own, like) is own


SHIPPED = [entry for entry in library.models() if entry.shipped]


@pytest.mark.parametrize("name", [entry.name for entry in SHIPPED if entry.metadata.precision != "int8"])
def test_every_shipped_float_model_is_a_start_for_another(name: str) -> None:
    assert load(library.find(name).path).build().state_dict()


@pytest.mark.parametrize("name", [entry.name for entry in SHIPPED if entry.metadata.precision == "int8"])
def test_integers_are_no_start_and_the_message_says_what_is(name: str) -> None:
    with pytest.raises(ModelError, match="give the float model it was made of"):
        load(library.find(name).path)
