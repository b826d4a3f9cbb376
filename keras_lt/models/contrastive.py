"""Contrastive pre-training: features from pairs of views."""

import copy
from typing import Any

import keras
from keras import ops

from keras_lt.arguments import integer, real
from keras_lt.models.base import without_traits_of_parts
from keras_lt.models.classifier import projection_head
from keras_lt.structure import features_of, pooled_features


@keras.saving.register_keras_serializable(package="keras_lt")
class ContrastivePretrainer(keras.Model):
    """A backbone and a projection head, to be trained on two views of images.

    The first stage of BNS + IP-DPP (Lin and Yuan, arXiv:2510.08836) and of
    SimCLR (Chen et al., ICML 2020): batches are `((view_1, view_2), labels)`,
    and a loss of embeddings (B, 2, P), such as
    `keras_lt.losses.BalancedNegativeSampling`, compares all views of the
    (global) batch. Both views pass the backbone as one batch. Afterwards the
    projection head is left out: `features` goes on, or what
    `keras_lt.features.extract` makes of it.

    It is a functional model of two inputs, so `compile`, `fit`, `save` and
    `tf.distribute` are Keras' own.

    Args:
        backbone: A functional or sequential model from images to features
            (B, D) or maps (B, H, W, D), which are averaged over H and W.
        projection_dim: P. The head is Dense(D), ReLU, Dense(P).
        l2: Factor of the squared norm of the head's weights in the loss.
        name: Name of the model.

    Attributes:
        backbone: The backbone.
        features: A functional model from images to features (B, D).

    Raises:
        ValueError: If `projection_dim` is not positive or the backbone is
            another model.

    Example:
        >>> model = keras_lt.models.ContrastivePretrainer(backbone)
        >>> model.compile("adamw", keras_lt.losses.BalancedNegativeSampling())
        >>> batches = keras_lt.streams.stream(
        ...     train,
        ...     sampling="random",
        ...     batch_size=32,
        ...     seed=0,
        ...     transform=keras_lt.preprocessing.two_views(
        ...         keras_lt.preprocessing.simclr()
        ...     ),
        ... )
        >>> history = model.fit(
        ...     batches, steps_per_epoch=2, epochs=2, shuffle=False
        ... )
        >>> probe = keras_lt.models.TwoStage.crt(model, train.num_classes)
    """

    def __init__(
        self,
        backbone: keras.Model,
        projection_dim: int = 128,
        *,
        l2: float = 0.0,
        name: str = "contrastive_pretrainer",
    ):
        projection_dim = integer("projection_dim", projection_dim)
        l2 = real("l2", l2)
        if projection_dim < 1:
            raise ValueError(
                "Expected projection_dim >= 1. "
                f"Received: projection_dim={projection_dim}"
            )
        images, pooled = pooled_features(backbone)
        features = keras.Model(images, pooled, name="features")
        head = projection_head(pooled.shape[-1], projection_dim, l2)
        views = [
            keras.Input(
                batch_shape=images.shape, dtype=images.dtype, name=f"view_{i}"
            )
            for i in (1, 2)
        ]
        embeddings = head(features(ops.concatenate(views)))
        embeddings = ops.reshape(embeddings, (2, -1, projection_dim))
        super().__init__(
            tuple(views), ops.transpose(embeddings, (1, 0, 2)), name=name
        )
        self.backbone = backbone
        self.features = features
        self.projection_dim = projection_dim
        self.l2 = l2

    def get_config(self) -> dict[str, Any]:
        return {
            **without_traits_of_parts(super().get_config()),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "projection_dim": self.projection_dim,
            "l2": self.l2,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ContrastivePretrainer":
        config = copy.deepcopy(config)  # a functional model empties its own
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"]
        )
        return cls(**config)


@features_of.register
def _(model: ContrastivePretrainer) -> keras.Model:
    return model.features
