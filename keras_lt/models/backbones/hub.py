"""Backbones of KerasHub."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lt.models.backbones.images import rgb_images


def kerashub(
    path: str | os.PathLike, input_shape: Sequence[int | None]
) -> keras.Model:
    """A KerasHub backbone from a local preset, which takes uint8 images.

    The preset is a folder that `save_to_preset` of a model for images wrote:
    its backbone, and the image converter that resizes and scales; nothing is
    downloaded. It needs `pip install .[kerashub]`.

    Args:
        path: The folder.
        input_shape: (H, W, C) of the images, C 3 or 1 (repeated to 3).

    Returns:
        A functional model from images (B, H, W, C), uint8 or floating in 0 to
        255, to maps (B, h, w, D) or, of a vision transformer, features (B, D):
        its class token, or the mean of the others where it has none.

    Raises:
        ImportError: If KerasHub is not installed.
        ValueError: If the folder holds no such preset.

    Example:
        >>> # It needs keras-hub, and downloads the weights once.
        >>> keras_hub.models.ImageClassifier.from_preset(
        ...     "vit_base_patch16_224_imagenet"
        ... ).save_to_preset("vit")  # doctest: +SKIP
        >>> backbone = keras_lt.models.backbones.kerashub(
        ...     "vit", (224, 224, 3)
        ... )  # doctest: +SKIP
    """
    import keras_hub

    backbone = _backbone(path, "image_converter.json")
    converter = keras_hub.layers.ImageConverter.from_preset(
        str(path), dtype="float32"
    )
    images, x = rgb_images(input_shape)
    # Outside of a tf.function the converter rounds resized uint8 images.
    x = converter(x)
    if _takes_texts(backbone):
        x = _image_features(backbone, x)
    else:
        # Some take their images by name.
        x = backbone(keras.tree.map_structure(lambda _: x, backbone.input))
        if len(x.shape) == 3:
            tokens = getattr(backbone, "use_class_token", True)
            x = x[:, 0] if tokens else keras.ops.mean(x, axis=1)
    return keras.Model(images, x, name="kerashub")


def text_features(path: str | os.PathLike, texts: Sequence[str]) -> np.ndarray:
    """Features of texts, from a local preset of KerasHub for images and texts.

    Args:
        path: The folder that `save_to_preset` of a backbone such as
            CLIPBackbone and of its preprocessor wrote.
        texts: Such as ["a photo of a cat."].

    Returns:
        Array (N, D), float32: D as that of image features of `kerashub`.

    Raises:
        ImportError: If KerasHub is not installed.
        ValueError: If the folder holds no such preset.

    Example:
        >>> found = keras_lt.models.backbones.text_features(
        ...     "clip", ["a photo of a cat."]
        ... )  # doctest: +SKIP
    """
    import keras_hub

    backbone = _backbone(path, "preprocessor.json", dtype="float32")
    if not _takes_texts(backbone):
        raise ValueError(
            "Expected a KerasHub preset for images and texts, such as CLIP. "
            f"Received: path={path} of {type(backbone).__name__}"
        )
    preprocessor = keras_hub.models.CausalLMPreprocessor.from_preset(str(path))
    tokens = preprocessor({"images": None, "prompts": [*texts]})["token_ids"]
    return keras.ops.convert_to_numpy(backbone.get_text_embeddings(tokens))


def _backbone(
    path: str | os.PathLike, beside: str, dtype: Any = None
) -> keras.Model:
    """The backbone of a preset, in which another file must be too."""
    import keras_hub

    for name in ("config.json", beside):
        if not (Path(path) / name).exists():
            raise ValueError(
                "Expected the folder of a KerasHub preset for images. "
                f"Received: path={path}, without {name}"
            )
    return keras_hub.models.Backbone.from_preset(
        str(path), dtype=dtype or keras.config.dtype_policy()
    )


def _image_features(backbone: keras.Model, images: Any) -> Any:
    """What `get_vision_embeddings` gives, of layers that can be saved."""
    x = backbone.vision_encoder({"images": images})
    if len(x.shape) == 3:
        x = x[:, 0]
    for name in ("vision_post_layer_norm", "vision_projection"):
        if hasattr(backbone, name):
            x = getattr(backbone, name)(x)
    return x


def _takes_texts(backbone: keras.Model) -> bool:
    return hasattr(backbone, "get_text_embeddings")
