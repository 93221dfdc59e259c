"""Reward models under their documented name."""

from swift_client.adapters.local.reward_model import RewardModel, RewardServer

__all__ = ["RewardModel", "RewardServer"]
