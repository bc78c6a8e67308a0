"""Networks of the published architectures, as small as they get, with random weights; for the tests of exporting."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from restonnx.diffusion.consistency import Preconditioning
from restonnx.onnx_export import freeze
from restonnx.onnx_export.unroll import DenoisingPrior
from restonnx.training.networks.denoiser import Denoiser
from restonnx.training.networks.official import adm_unet, rddm_unet, resshift_unet, vq
from restonnx.training.networks.official.adm_unet import AdmConfig
from restonnx.training.networks.official.rddm_unet import RddmConfig
from restonnx.training.networks.official.resshift_unet import ResShiftConfig
from restonnx.training.networks.official.vq import VQConfig

ADM = AdmConfig(model_channels=32, channel_mult=(1,), num_res_blocks=1, attention_resolutions=(), num_head_channels=16)
CONSISTENCY = replace(ADM, attention_dims=2, use_new_attention_order=True, use_scale_shift_norm=False)
RESSHIFT = ResShiftConfig(
    model_channels=32,
    channel_mult=(1,),
    num_res_blocks=1,
    image_size=8,
    lq_size=8,
    attention_resolutions=(),
    swin_embed_dim=32,
    num_head_channels=16,
    window_size=4,
    mlp_ratio=2.0,
)
VQ = VQConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1, n_embed=16)
RDDM = RddmConfig(layout="single", dim=8, dim_mults=(1,), in_channels=6, attention_heads=1)
MODULES = {AdmConfig: adm_unet, ResShiftConfig: resshift_unet, VQConfig: vq, RddmConfig: rddm_unet}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(config: Any) -> Any:
    """The network with random weights in every place, zero-initialised ones too."""
    network: nn.Module = MODULES[type(config)].build(config).eval()  # type: ignore[attr-defined]
    for i, parameter in enumerate(network.parameters()):
        parameter.data = 0.1 * drawn(*parameter.shape, seed=i) + (parameter.ndim == 1)
    return network.requires_grad_(False)


def prior(channels: int = 3) -> DenoisingPrior:
    """A prior of our own architecture."""
    torch.manual_seed(0)
    network = Denoiser(channels, (8,), (1,), ()).eval().requires_grad_(False)
    return DenoisingPrior(network, Preconditioning()).eval()


@contextmanager
def traced_once(*places: ModuleType) -> Iterator[None]:
    """Within it, `to_onnx` as these modules of `onnx_export` know it traces once what has the same weights and ports.

    The smallest network takes torch's tracer three to ten seconds, and most tests are about what is put around it.
    """
    trace = freeze.to_onnx
    known: dict[Any, Any] = {}

    def to_onnx(module: Any, ports: Any, *, multiple: int, **options: Any) -> Any:
        computes = getattr(module, "compute", module.forward).__qualname__
        weights = tuple((name, float(values.double().sum())) for name, values in module.state_dict().items())
        key = (computes, tuple(port.shape for port in ports), multiple, weights)
        if key not in known:
            known[key] = trace(module, ports, multiple=multiple, **options)
        return copy.deepcopy(known[key])  # what is made of it may change it

    with pytest.MonkeyPatch.context() as patch:
        for place in places:
            patch.setattr(place, "to_onnx", to_onnx)
        yield
