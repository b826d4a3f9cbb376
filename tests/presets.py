"""Presets of KerasHub, with random weights."""

import string
from pathlib import Path

import keras
import pytest


def vit(**given: int) -> keras.Model:
    """A tiny vision transformer for images of 8x8 pixels."""
    hub = pytest.importorskip("keras_hub")
    shape = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
    return hub.models.ViTBackbone(
        image_shape=(8, 8, 3), patch_size=4, **{**shape, **given}
    )


def vit_preset(folder: Path, **given: int) -> Path:
    """Such a transformer, with its image converter."""
    vit(**given).save_to_preset(str(folder))
    hub = pytest.importorskip("keras_hub")
    hub.layers.ViTImageConverter(
        image_size=(8, 8), scale=1 / 8, offset=-1.0
    ).save_to_preset(str(folder))
    return folder


def clip_preset(folder: Path) -> Path:
    """A tiny CLIP of KerasHub at random weights, with its preprocessor."""
    hub = pytest.importorskip("keras_hub")
    letters = [*string.ascii_lowercase, ".", *string.digits]
    ends = [f"{letter}</w>" for letter in letters]
    words = ["ab", *letters, *ends, "<|startoftext|>", "<|endoftext|>"]
    shape = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8}
    backbone = hub.models.CLIPBackbone(
        hub.models.CLIPVisionEncoder(
            **shape, patch_size=4, intermediate_dim=8, image_shape=(8, 8, 3)
        ),
        hub.models.CLIPTextEncoder(
            **shape,
            vocabulary_size=len(words),
            embedding_dim=8,
            intermediate_dim=8,
            max_sequence_length=32,
        ),
        projection_dim=6,
    )
    backbone.save_to_preset(str(folder))
    hub.models.CLIPPreprocessor(
        hub.models.CLIPTokenizer(
            {word: i for i, word in enumerate(words)}, merges=["a b"]
        ),
        hub.layers.CLIPImageConverter(
            image_size=(8, 8), scale=1 / 64, offset=-1.5
        ),
        sequence_length=32,
    ).save_to_preset(str(folder))
    return folder
