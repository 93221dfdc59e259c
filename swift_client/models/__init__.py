"""Heads: numpy and safetensors only."""

from swift_client.models.acceptance import Acceptance
from swift_client.models.artifact import NO_BETTER, HeadArtifact, ResponseWeights
from swift_client.models.calibration import Calibration, IsotonicCalibration, PlattCalibration
from swift_client.models.folders import user_folder
from swift_client.models.head import GatedLinearHead
from swift_client.models.hidden_head import HiddenHead
from swift_client.models.shelf import Shelf, ShelvedHead, look
from swift_client.models.standardizer import Standardizer
from swift_client.models.storage import AnyHead, load, save

__all__ = [
    "NO_BETTER",
    "Acceptance",
    "AnyHead",
    "Calibration",
    "GatedLinearHead",
    "HeadArtifact",
    "HiddenHead",
    "IsotonicCalibration",
    "PlattCalibration",
    "ResponseWeights",
    "Shelf",
    "ShelvedHead",
    "Standardizer",
    "load",
    "look",
    "save",
    "user_folder",
]
