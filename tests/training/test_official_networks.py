from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason='official networks need torch: pip install "restonnx[train]"')

import torch
from official_nets import SMALL_VQ, built, drawn
from torch import Tensor, nn

from restonnx.errors import InputError, ModelError
from restonnx.training.networks.official import adm_unet, resshift_unet, swin, vq
from restonnx.training.networks.official.adm_unet import AdmConfig
from restonnx.training.networks.official.resshift_unet import ResShiftConfig
from restonnx.training.networks.official.unet import timestep_embedding
from restonnx.training.networks.official.vq import VQConfig

SMALL_ADM = AdmConfig(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(2,), num_head_channels=16
)
SMALL_RESSHIFT = ResShiftConfig(
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    image_size=8,
    lq_size=8,
    attention_resolutions=(8,),
    swin_embed_dim=32,
    num_head_channels=16,
    window_size=4,
    mlp_ratio=2.0,
)


def on_meta(module: Any, config: Any) -> nn.Module:
    with torch.device("meta"):
        network: nn.Module = module.build(config)
    return network


def create_model(consistency: bool = False, **arguments: Any) -> AdmConfig:
    common = {"image_size": 256, "num_head_channels": 64, "resblock_updown": True, "use_scale_shift_norm": True}
    return adm_unet.from_create_model(common | arguments, consistency=consistency)


PUBLISHED = {
    "resshift x4": (resshift_unet, ResShiftConfig(), 118.594, 564),
    "resshift inpainting": (resshift_unet, ResShiftConfig(lq_size=256, cond_mask=True), 118.714, 572),
    "resshift faces": (resshift_unet, ResShiftConfig(lq_size=512, in_channels=8, out_channels=8), 118.932, 576),
    "vq-f4": (vq, VQConfig(), 55.323, 205),
    "vq-f8 of faces": (
        vq,
        VQConfig(embed_dim=8, z_channels=8, n_embed=4096, ch=64, ch_mult=(1, 2, 4, 8), num_res_blocks=(1, 2, 3, 4)),
        77.009,
        285,
    ),
    "adm of faces": (adm_unet, create_model(num_channels=128, num_res_blocks=1, learn_sigma=True), 93.563910, 362),
    "adm of imagenet": (
        adm_unet,
        create_model(num_channels=256, num_res_blocks=2, attention_resolutions="32,16,8", learn_sigma=True),
        552.814086,
        566,
    ),
    "consistency of bedrooms": (
        adm_unet,
        create_model(
            True, num_channels=256, num_res_blocks=2, attention_resolutions="32,16,8", use_scale_shift_norm=False
        ),
        526.304771,
        566,
    ),
    "consistency of imagenet": (
        adm_unet,
        create_model(
            True,
            image_size=64,
            num_channels=192,
            num_res_blocks=3,
            attention_resolutions="32,16,8",
            class_cond=True,
        ),
        295.899267,
        541,
    ),
}


@pytest.mark.parametrize(("module", "config", "millions", "tensors"), PUBLISHED.values(), ids=PUBLISHED)
def test_the_published_networks_have_their_published_size(
    module: Any, config: Any, millions: float, tensors: int
) -> None:
    network = on_meta(module, config)
    found = sum(parameter.numel() for parameter in network.parameters())
    digits = len(str(millions).partition(".")[2])
    assert round(found / 1e6, digits) == millions
    assert len(network.state_dict()) == tensors


@pytest.mark.parametrize(("module", "config"), [p[:2] for p in PUBLISHED.values()], ids=PUBLISHED)
def test_the_published_networks_are_recognised(module: Any, config: Any) -> None:
    assert module.config_from_state_dict(on_meta(module, config).state_dict()) == replace(config, **invisible(config))


def invisible(config: Any) -> dict[str, Any]:
    """What the shapes do not tell and no published network needs: heads without a width of their own."""
    return {"num_heads": 1} if isinstance(config, AdmConfig) else {}


@st.composite
def trunks(draw: st.DrawFn) -> dict[str, Any]:
    levels = draw(st.integers(2, 4))
    updown = draw(st.booleans())
    return {
        "in_channels": draw(st.integers(1, 8)),
        "model_channels": draw(st.sampled_from([32, 64])),
        "channel_mult": tuple(draw(st.sampled_from([1, 2, 3])) for _ in range(levels)),
        "num_res_blocks": tuple(draw(st.integers(1, 3)) for _ in range(levels)),
        "resblock_updown": updown,
        "conv_resample": updown or draw(st.booleans()),
        "use_scale_shift_norm": draw(st.booleans()),
    }


@given(
    trunk=trunks(),
    attention=st.sets(st.sampled_from([1, 2, 4, 8])),
    out=st.integers(1, 8),
    classes=st.none() | st.integers(1, 9),
    dims=st.sampled_from([1, 2]),
)
@settings(max_examples=25)
def test_any_adm_is_recognised(
    trunk: dict[str, Any], attention: set[int], out: int, classes: int | None, dims: int
) -> None:
    known = {2**level for level in range(len(trunk["channel_mult"]))}
    config = AdmConfig(
        **trunk,
        out_channels=out,
        attention_resolutions=tuple(sorted(attention & known)),
        num_classes=classes,
        attention_dims=dims,
        use_new_attention_order=dims == 2,
        num_head_channels=16,
    )
    state = on_meta(adm_unet, config).state_dict()
    assert adm_unet.config_from_state_dict(state, num_head_channels=16) == config


@given(
    trunk=trunks(),
    attention=st.sets(st.sampled_from([64, 32, 16, 8])),
    condition=st.sampled_from([(False, False), (True, False), (True, True)]),
    stages=st.integers(0, 2),
    depth=st.integers(2, 3),
    heads=st.sampled_from([1, 2, 4]),
    norm=st.booleans(),
)
@settings(max_examples=25)
def test_any_resshift_network_is_recognised(
    trunk: dict[str, Any],
    attention: set[int],
    condition: tuple[bool, bool],
    stages: int,
    depth: int,
    heads: int,
    norm: bool,
) -> None:
    sides = {64 // 2**level for level in range(len(trunk["channel_mult"]))}
    config = ResShiftConfig(
        **trunk,
        out_channels=trunk["in_channels"],
        attention_resolutions=tuple(sorted(attention & sides, reverse=True)),
        cond_lq=condition[0],
        cond_mask=condition[1],
        lq_size=64 * 2 ** (stages if condition[0] else 0),
        swin_depth=depth,
        swin_embed_dim=64,
        num_head_channels=64 // heads,
        mlp_ratio=2.0,
        patch_norm=norm,
    )
    state = on_meta(resshift_unet, config).state_dict()
    assert resshift_unet.config_from_state_dict(state) == config


@given(
    mult=st.lists(st.sampled_from([1, 2, 4]), min_size=2, max_size=4),
    data=st.data(),
    learned=st.booleans(),
    attention=st.sets(st.sampled_from([256, 128, 64, 32])),
)
@settings(max_examples=25)
def test_any_vq_autoencoder_is_recognised(
    mult: list[int], data: st.DataObject, learned: bool, attention: set[int]
) -> None:
    config = VQConfig(
        embed_dim=data.draw(st.integers(1, 8)),
        z_channels=data.draw(st.integers(1, 8)),
        n_embed=data.draw(st.integers(1, 99)),
        ch=32,
        ch_mult=tuple(mult),
        num_res_blocks=tuple(data.draw(st.integers(1, 3)) for _ in mult),
        attn_resolutions=tuple(256 // 2**level for level in range(len(mult)) if 256 // 2**level in attention),
        resamp_with_conv=learned,
    )
    assert vq.config_from_state_dict(on_meta(vq, config).state_dict()) == config


@pytest.mark.parametrize("module", [adm_unet, resshift_unet, vq])
def test_weights_of_another_network_are_refused(module: Any) -> None:
    with pytest.raises(ModelError, match=r"missing|no VQ"):
        module.config_from_state_dict({"conv.weight": torch.zeros(8, 3, 3, 3)})


def test_an_override_that_does_not_exist_is_refused() -> None:
    state = on_meta(adm_unet, SMALL_ADM).state_dict()
    with pytest.raises(InputError, match="unknown option 'heads'"):
        adm_unet.config_from_state_dict(state, heads=4)


@pytest.mark.parametrize("updown", [True, False])
@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("film", [True, False])
def test_adm_keeps_the_size_in_every_variant(updown: bool, learned: bool, film: bool) -> None:
    config = replace(
        SMALL_ADM,
        resblock_updown=updown,
        conv_resample=learned,
        use_scale_shift_norm=film,
        num_classes=7,
        num_head_channels=-1,
        num_heads=2,
        num_heads_upsample=4,
    )
    network = built(adm_unet, config)
    out = network(drawn(2, 3, 8, 12), torch.tensor([1.5, 900.0]), torch.tensor([0, 6]))
    assert out.shape == (2, 3, 8, 12)
    assert network(drawn(2, 3, 8, 12), torch.tensor([1.5, 900.0]), torch.tensor([1, 6]))[0].ne(out[0]).any()


def test_the_two_attention_orders_are_permutations_of_each_other() -> None:
    old, new = (
        adm_unet.Attention(64, 4, heads_outside=outside, dims=dims) for outside, dims in ((True, 1), (False, 2))
    )
    for parameter in old.parameters():
        parameter.data += drawn(*parameter.shape)
    state = {name: value.clone() for name, value in old.state_dict().items()}
    for name in ("qkv.weight", "qkv.bias"):  # heads x [q, k, v] x channels -> [q, k, v] x heads x channels
        value = state[name]
        state[name] = value.reshape(4, 3, 16, -1).transpose(0, 1).reshape(value.shape)
    new.load_state_dict({name: v[..., None] if v.ndim == 3 else v for name, v in state.items()})
    x = drawn(2, 64, 4, 6)
    with torch.no_grad():
        torch.testing.assert_close(new(x), old(x), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(old(x), x + old.proj_out.bias[None, :, None, None])


def test_the_time_is_embedded_cosines_first() -> None:
    found = timestep_embedding(torch.tensor([3.0, -1.5]), 4)
    frequencies = [1.0, math.exp(-math.log(10000) / 2)]
    for row, t in zip(found.tolist(), (3.0, -1.5), strict=True):
        wanted = [math.cos(t * f) for f in frequencies] + [math.sin(t * f) for f in frequencies]
        assert row == pytest.approx(wanted, abs=1e-6)


def test_create_models_arguments_are_read_as_the_authors_do() -> None:
    config = adm_unet.from_create_model(
        {"image_size": 256, "num_channels": 128, "num_res_blocks": 1, "use_fp16": True, "num_heads": 4}
    )
    assert config.channel_mult == (1, 1, 2, 2, 4, 4)
    assert config.attention_resolutions == (16,)
    assert (config.num_head_channels, config.num_heads, config.use_scale_shift_norm) == (-1, 4, False)
    assert adm_unet.from_create_model({"image_size": 512, "num_channels": 64, "num_res_blocks": 1}).widths[0] == 32
    with pytest.raises(ValueError, match="no argument 'depth'"):
        create_model(num_channels=32, num_res_blocks=1, depth=3)
    with pytest.raises(ValueError, match="no channel_mult is published"):
        create_model(image_size=48, num_channels=32, num_res_blocks=1)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: replace(SMALL_ADM, model_channels=40), "multiple of 32"),
        (lambda: replace(SMALL_ADM, num_res_blocks=(1, 2, 3)), "3 levels"),
        (lambda: adm_unet.build(replace(SMALL_ADM, num_head_channels=48)), "do not make heads"),
        (lambda: replace(SMALL_RESSHIFT, lq_size=24), "power of two"),
        (lambda: replace(SMALL_RESSHIFT, num_head_channels=24), "equal size"),
        (lambda: replace(SMALL_VQ, ch=40), "multiples of 32"),
        (lambda: vq.from_official({"ddconfig": {"double_z": True}}), "double_z"),
        (lambda: resshift_unet.from_official({"dims": 3}), "dims"),
        (lambda: resshift_unet.from_official({"swin": 3}), "'swin'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(call: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        call()


def test_a_network_says_which_sizes_it_takes() -> None:
    network = built(adm_unet, SMALL_ADM)
    with pytest.raises(ValueError, match="multiples of 2, got 8 x 9"):
        network(drawn(1, 3, 8, 9), torch.zeros(1))
    assert built(resshift_unet, SMALL_RESSHIFT).multiple == 8
    assert on_meta(resshift_unet, ResShiftConfig()).multiple == 64


def test_classes_are_given_to_class_conditional_networks_alone() -> None:
    with pytest.raises(ValueError, match="needs classes"):
        built(adm_unet, replace(SMALL_ADM, num_classes=3))(drawn(1, 3, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match="without classes"):
        built(adm_unet, SMALL_ADM)(drawn(1, 3, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.int64))


@given(
    window=st.sampled_from([2, 4, 8]),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    i=st.integers(0, 999),
    j=st.integers(0, 999),
)
def test_the_mask_splits_the_windows_of_the_last_row_by_their_columns(
    window: int, rows: int, columns: int, i: int, j: int
) -> None:
    mask = swin.row_mask(rows, swin.window_mask(window, window // 2))
    assert mask.shape == (rows, 1, 1, window**2, window**2)
    i, j = i % window**2, j % window**2
    apart = (i % window < window // 2) != (j % window < window // 2)
    assert mask[-1, 0, 0, i, j] == (-100 if apart else 0)
    assert not mask[:-1].any()


def test_the_stored_mask_is_that_of_the_nominal_size() -> None:
    mask = built(resshift_unet, SMALL_RESSHIFT).state_dict()["input_blocks.1.1.blocks.1.attn_mask"]
    assert mask.shape == (4, 16, 16)
    assert not mask[:2].any()
    assert torch.equal(mask[2], mask[3])
    assert torch.equal(mask[2], swin.window_mask(4, 2))


def test_a_shifted_block_wraps_around_the_width_but_not_around_the_height_between_columns() -> None:
    block = swin.SwinBlock(32, side=8, window=4, heads=2, mlp_ratio=2.0, shifted=True).eval()
    x = drawn(1, 32, 8, 8).requires_grad_()
    assert block.shift == 2

    def reached(row: int, column: int) -> Tensor:
        """Which pixels reach that one by attention; not through the normalisation, whose input is taken apart."""
        (gradient,) = torch.autograd.grad(block.attend(x)[0, :, row, column].abs().sum(), x)
        return gradient[0].abs().sum(0) > 1e-9

    # Shifted by 2, the window of (0, 0) is made of rows and columns 6, 7, 0, 1: the last of the last row.
    corner = reached(0, 0)
    assert corner[[6, 7, 0, 1]][:, [0, 1]].all()
    assert not corner[:, [6, 7]].any()
    # The window of (3, 0) lies in the first row: nothing is masked, and it wraps around the width.
    side = reached(3, 0)
    assert side[2:6][:, [6, 7, 0, 1]].all()
    assert side.sum() == 16


def test_levels_no_wider_than_a_window_are_not_shifted() -> None:
    network = built(resshift_unet, replace(SMALL_RESSHIFT, window_size=8))
    assert not [name for name in network.state_dict() if name.endswith("attn_mask")]
    stage = network.middle_block[1]
    assert [block.window for block in stage.blocks] == [4, 4]


@pytest.mark.parametrize("stages", [0, 1, 2])
@pytest.mark.parametrize("masked", [True, False])
def test_the_condition_has_its_own_size_and_is_encoded_once(stages: int, masked: bool) -> None:
    network = built(resshift_unet, replace(SMALL_RESSHIFT, lq_size=8 * 2**stages, cond_mask=masked))
    x, t, side = drawn(2, 3, 16, 8), torch.tensor([3]), 2**stages
    lq = drawn(2, 3, 16 * side, 8 * side, seed=1)
    mask = torch.ones(2, 1, 16 * side, 8 * side) if masked else None
    with torch.no_grad():
        whole = network(x, t.expand(2), lq, mask)
        torch.testing.assert_close(network.step(x, t, network.condition(lq, mask)), whole)
        assert whole.shape == x.shape
        if masked:
            assert not torch.allclose(network(x, t, lq, -mask), whole)
    with pytest.raises(ValueError, match="mask"):
        network(x, t, lq, None if masked else torch.ones(2, 1, 16, 8))
    with pytest.raises(ValueError, match="lq is missing"):
        network(x, t)
