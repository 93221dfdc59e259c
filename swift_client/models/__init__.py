"""Heads: their parts, their files, and the lookup of the head to use. Needs numpy and safetensors only."""

from swift_client.models.acceptance import Acceptance
from swift_client.models.artifact import NO_BETTER_VERDICT, HeadArtifact, ResponseWeights
from swift_client.models.calibration import Calibration, IsotonicCalibration, PlattCalibration
from swift_client.models.drift_profile import DriftProfile
from swift_client.models.file_format import AnyHead, load, save
from swift_client.models.gated_linear import GatedLinearHead, Standardizer
from swift_client.models.hidden_head import HiddenHead
from swift_client.models.library import HeadEntry, HeadLibrary, scan, user_folder
from swift_client.models.replaced_heads import KeptHead, install_head, kept_heads, rollback

__all__ = [
    "NO_BETTER_VERDICT",
    "Acceptance",
    "AnyHead",
    "Calibration",
    "DriftProfile",
    "GatedLinearHead",
    "HeadArtifact",
    "HeadEntry",
    "HeadLibrary",
    "HiddenHead",
    "IsotonicCalibration",
    "KeptHead",
    "PlattCalibration",
    "ResponseWeights",
    "Standardizer",
    "install_head",
    "kept_heads",
    "load",
    "rollback",
    "save",
    "scan",
    "user_folder",
]
