"""Models: what trains, and the backbones that it trains."""

from keras_lt.models import backbones
from keras_lt.models.classifier import classifier

__all__ = ["backbones", "classifier"]
