"""Backbones of KerasHub."""

import os
from collections.abc import Sequence
from pathlib import Path

import keras

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

    path = Path(path)
    for name in ("config.json", "image_converter.json"):
        if not (path / name).exists():
            raise ValueError(
                "Expected the folder of a KerasHub preset for images. "
                f"Received: path={path}, without {name}"
            )
    backbone = keras_hub.models.Backbone.from_preset(
        str(path), dtype=keras.config.dtype_policy()
    )
    converter = keras_hub.layers.ImageConverter.from_preset(
        str(path), dtype="float32"
    )
    images, x = rgb_images(input_shape)
    # Outside of a tf.function the converter rounds resized uint8 images.
    x = converter(x)
    # Some take their images by name.
    x = backbone(keras.tree.map_structure(lambda _: x, backbone.input))
    if len(x.shape) == 3:
        tokens = getattr(backbone, "use_class_token", True)
        x = x[:, 0] if tokens else keras.ops.mean(x, axis=1)
    return keras.Model(images, x, name="kerashub")
