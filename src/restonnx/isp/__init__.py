"""Restoration as a stage of a RAW pipeline: frames, stages, noise profiles, developing, adapters.

from restonnx import isp

stage = isp.RestorationStage("denoise-gray")
isp.develop("photo.nef", [stage], "photo.dng")
"""

from restonnx.isp.adapters import infinite_isp_module, inject, openisp_module, restore_mosaic
from restonnx.isp.frame import Frame, FrameMeta, NoiseProfile
from restonnx.isp.libraw import read_raw
from restonnx.isp.noise_profiles import noise_profile
from restonnx.isp.pipeline import Rendering, develop
from restonnx.isp.restoration import RestorationStage
from restonnx.isp.stage import Stage, apply, convert

__all__ = [
    "Frame",
    "FrameMeta",
    "NoiseProfile",
    "Rendering",
    "RestorationStage",
    "Stage",
    "apply",
    "convert",
    "develop",
    "infinite_isp_module",
    "inject",
    "noise_profile",
    "openisp_module",
    "read_raw",
    "restore_mosaic",
]
