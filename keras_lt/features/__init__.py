"""Features of a trained model: extract, save and load them."""

from keras_lt.features.examples import Examples, Features, pairs, stream
from keras_lt.features.extraction import extract, extract_to, open_features
from keras_lt.features.files import load, save

__all__ = [
    "Examples",
    "Features",
    "extract",
    "extract_to",
    "load",
    "open_features",
    "pairs",
    "save",
    "stream",
]
