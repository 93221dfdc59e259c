"""New heads from people's feedback: trained, compared with the head in use on held-out choices, and installed."""

from swift_client.retraining.result import Retraining
from swift_client.retraining.retrain import retrain

__all__ = ["Retraining", "retrain"]
