from __future__ import annotations

import numpy as np
import pytest
import torch

from restonnx.isp.stabilise import Stabiliser
from restonnx.training.degradations.raw import Raw, pack
from restonnx.training.degradations.sensor import expected, stabilised


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_mosaic_is_packed_in_the_order_of_rggb() -> None:
    image = torch.arange(3 * 4 * 6, dtype=torch.float32).reshape(1, 3, 4, 6)
    planes = pack(image)[0]
    for plane, (colour, row, col) in enumerate(((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1))):
        assert torch.equal(planes[plane], image[0, colour, row::2, col::2])


@pytest.mark.parametrize(("a", "b"), [(1e-4, 1e-8), (1e-3, 4e-6), (1.2e-2, 2e-4)])
def test_training_and_pipeline_transform_alike_and_the_pipelines_inverse_undoes_the_target(a: float, b: float) -> None:
    reading = Stabiliser(a, b)
    x = np.linspace(0, 1, 101, dtype=np.float32)
    tensors = torch.tensor(a).view(1, 1, 1, 1), torch.tensor(b).view(1, 1, 1, 1)
    ours = stabilised(torch.from_numpy(x).view(1, 1, 1, -1), *tensors).numpy().ravel()
    np.testing.assert_allclose(ours, reading.forward(x), atol=2e-6)
    target = expected(torch.from_numpy(x).view(1, 1, 1, -1), *tensors).numpy().ravel()
    np.testing.assert_allclose(reading.inverse(target), x, atol=2e-4)


def test_the_noise_has_the_same_deviation_in_shadow_and_light() -> None:
    degradation = Raw(shot=(2e-3, 2e-3), read_spread=0.0, exposure=(1.0, 1.0), bits=(14, 14))
    grey = torch.linspace(0.3, 0.8, 8).view(8, 1, 1, 1).expand(8, 3, 128, 128)
    clean, noisy = degradation.degrade(grey, generator())
    deviations = (noisy - clean).std(dim=(1, 2, 3))
    assert float(deviations.max() / deviations.min()) < 1.1
    assert 0.015 < float(deviations.mean()) < 0.03


def test_it_is_seeded_and_keeps_to_the_sensors_range() -> None:
    photograph = torch.rand(3, 3, 32, 48, generator=generator(1))
    first, second = (Raw().degrade(photograph, generator(2)) for _ in range(2))
    assert torch.equal(first[1], second[1])
    assert first[0].shape == first[1].shape == (3, 4, 16, 24)
    assert float(first[0].min()) > -0.01
    assert float(first[0].max()) <= 1.01


def test_white_saturates_and_black_stays_black() -> None:
    degradation = Raw(exposure=(1.0, 1.0))
    ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    planes = degradation.unprocess(ends, generator())
    assert float(planes[0].abs().max()) < 1e-6
    assert float(planes[1].min()) > 0.999
