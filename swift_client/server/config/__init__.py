"""The configuration of the service: its tables, and how they are read and checked."""

from swift_client.server.config.parse import check_config, load_config, parse_config, single_model
from swift_client.server.config.tables import (
    TENANT,
    BudgetConfig,
    KeyConfig,
    LimitsConfig,
    ModelConfig,
    PassthroughConfig,
    ServerConfig,
    ServiceConfig,
    VerifierConfig,
)

__all__ = [
    "TENANT",
    "BudgetConfig",
    "KeyConfig",
    "LimitsConfig",
    "ModelConfig",
    "PassthroughConfig",
    "ServerConfig",
    "ServiceConfig",
    "VerifierConfig",
    "check_config",
    "load_config",
    "parse_config",
    "single_model",
]
