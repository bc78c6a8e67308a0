"""Networks of the published architectures, as small as they get, with random weights; for the tests of exporting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from restonnx.diffusion.consistency import Preconditioning
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
