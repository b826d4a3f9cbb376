"""Test-time augmentation: logits that are averaged over views of an image."""

from typing import Any

import keras
from keras import ops

from keras_lt.models.base import without_traits_of_parts
from keras_lt.specs import Registry
from keras_lt.structure import (
    classifier_of,
    feature_model,
    features_of,
    logits_model,
    one_to_one,
)

# LIFT (Shi et al., ICML 2024) cuts crops of 224 pixels from images of 248.
_LARGER = 248 / 224


@keras.saving.register_keras_serializable(package="keras_lt")
class ImageView(keras.layers.Layer):
    """One view of images, of their size.

    Args:
        flip: Whether it is mirrored, left to right.
        crop: None for the whole image, or (y, x) from 0 to 1: where an image
            that is enlarged by 248 / 224 is cut, (0, 0) at its first pixel and
            (1, 1) so that its last pixel is in.
        **kwargs: Those of `keras.layers.Layer`.

    Input shape: (B, H, W, channels), H and W known; output shape: the same.
    What is enlarged is float32, all else as it comes.

    Example:
        >>> view = keras_lt.models.averaged_views.ImageView(flip=True)
        >>> view(np.array([[[[1], [2]]]], "uint8")).numpy().ravel()
        array([2, 1], dtype=uint8)
    """

    def __init__(
        self,
        flip: bool = False,
        crop: tuple[float, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.flip = flip
        self.crop = crop

    def call(self, images: Any) -> Any:
        _, height, width, _ = images.shape
        if self.crop is not None:
            larger = round(height * _LARGER), round(width * _LARGER)
            top, left = (
                round(share * (long - short))
                for share, long, short in zip(
                    self.crop, larger, (height, width), strict=True
                )
            )
            images = ops.image.resize(ops.cast(images, "float32"), larger)
            images = images[:, top : top + height, left : left + width]
        return ops.flip(images, axis=2) if self.flip else images

    def compute_output_spec(self, images: Any) -> keras.KerasTensor:
        dtype = images.dtype if self.crop is None else "float32"
        return keras.KerasTensor(images.shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "flip": self.flip, "crop": self.crop}


def none() -> list[ImageView]:
    """The image as it is: spec "none".

    Example:
        >>> len(keras_lt.models.averaged_views.none())
        1
    """
    return [ImageView()]


def flip() -> list[ImageView]:
    """The image and its mirror image: spec "flip".

    Example:
        >>> len(keras_lt.models.averaged_views.flip())
        2
    """
    return [ImageView(), ImageView(flip=True)]


def five_crop() -> list[ImageView]:
    """The corners and the center of an enlarged image: spec "five_crop".

    As LIFT tests (Shi et al., ICML 2024), but that images are enlarged by
    248 / 224 from the size of the model, and not decoded at that size.

    Example:
        >>> len(keras_lt.models.averaged_views.five_crop())
        5
    """
    places = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))
    return [ImageView(crop=place) for place in places]


VIEWS = Registry(
    "choice of views",
    {"none": none, "flip": flip, "five_crop": five_crop},
    makes=list,
)


@keras.saving.register_keras_serializable(package="keras_lt")
class AveragedViews(keras.Model):
    """A model whose logits are means over views of an image.

    One model from images to logits, which is scored and exported as any other.
    The views pass one after another, so that it needs the memory of one and
    the time of all: 2 times that of the model for "flip", 5 for "five_crop".

    Args:
        model: A built functional or sequential model from images (B, H, W,
            channels) of one size to logits, or a model of ours.
        views: "flip", "five_crop", another spec, or a list of layers from
            images to images.
        name: Name of the model.

    Raises:
        ValueError: If the model is another one.

    Example:
        >>> averaged = keras_lt.models.averaged_views.AveragedViews(
        ...     model, "flip"
        ... )
        >>> averaged(test.images[:5]).shape
        TensorShape([5, 10])
    """

    def __init__(
        self,
        model: keras.Model,
        views: str | list[keras.layers.Layer] = "flip",
        name: str = "averaged_views",
    ):
        views = VIEWS.get(views)
        classifier = logits_model(one_to_one(classifier_of(model)))
        (images,) = classifier.inputs
        images = keras.Input(images.shape[1:], dtype=images.dtype)
        logits = [
            ops.cast(
                classifier(ops.cast(view(images), images.dtype)), "float32"
            )
            for view in views
        ]
        super().__init__(images, ops.mean(ops.stack(logits), axis=0), name=name)
        self.model = model
        self.views = views

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **without_traits_of_parts(super().get_config()),
            "model": serialize(self.model),
            "views": serialize(self.views),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AveragedViews":
        deserialize = keras.saving.deserialize_keras_object
        model, views = (deserialize(config[k]) for k in ("model", "views"))
        return cls(model, views, config["name"])


@features_of.register
def _(model: AveragedViews) -> keras.Model:
    """Features of the image as it is."""
    return feature_model(model.model)
