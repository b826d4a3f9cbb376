"""Layers: normalizations, classifiers on features, parts of networks."""

from keras_lt.layers.batch_normalization import FusedBatchNormalization
from keras_lt.layers.cosine_classifier import CosineClassifier
from keras_lt.layers.image_normalization import ImageNormalization
from keras_lt.layers.learnable_weight_scaling import LearnableWeightScaling
from keras_lt.layers.logit_adjustment import LogitAdjustment
from keras_lt.layers.masked_dense import MaskedDense
from keras_lt.layers.nearest_class_mean import NearestClassMean
from keras_lt.layers.padded_shortcut import PaddedShortcut
from keras_lt.layers.patch_whitening import PatchWhitening

__all__ = [
    "CosineClassifier",
    "FusedBatchNormalization",
    "ImageNormalization",
    "LearnableWeightScaling",
    "LogitAdjustment",
    "MaskedDense",
    "NearestClassMean",
    "PaddedShortcut",
    "PatchWhitening",
]
