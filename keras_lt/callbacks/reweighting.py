"""`DeferredReweighting`: class weights from an epoch on."""

from typing import Any

import keras

from keras_lt.arguments import integer
from keras_lt.models import DualBranch


class DeferredReweighting(keras.callbacks.Callback):
    """Uniform class weights first, the loss's own later (DRW).

    Deferred re-weighting (Cao et al., NeurIPS 2019, algorithm 1): the network
    learns its features from the plain loss, and the re-weighted loss only
    steers the end of the training, where the learning rate is low. The
    callback assigns the variable `reweighting` of the loss, so nothing is
    traced again, and it reads the epoch that `fit` counts, so a training
    resumed by `fit(initial_epoch=...)` has the right weights at once.

    Args:
        start_epoch: First epoch (from 0) with the class weights.

    Raises:
        ValueError: If `start_epoch` is negative, or the compiled loss is not
            a `keras_lt.losses.ClassWeightedLoss` (nor a structure with one,
            nor that of a `DualBranch`'s task).

    Example:
        >>> loss = keras_lt.losses.ClassBalancedCrossentropy(class_counts)
        >>> model.compile("sgd", loss)
        >>> history = model.fit(
        ...     batches,
        ...     steps_per_epoch=2,
        ...     epochs=3,
        ...     shuffle=False,
        ...     callbacks=[keras_lt.callbacks.DeferredReweighting(2)],
        ... )
        >>> float(loss.reweighting)
        1.0
    """

    def __init__(self, start_epoch: int):
        super().__init__()
        self.start_epoch = integer("start_epoch", start_epoch, 0)

    def on_train_begin(self, logs: Any = None) -> None:
        losses = keras.tree.flatten(self.model.loss)
        if isinstance(self.model, DualBranch):
            losses += [task.loss for task in self.model.tasks]
        self._losses = [loss for loss in losses if hasattr(loss, "reweighting")]
        if not self._losses:
            raise ValueError(
                "Expected a model compiled with a loss that has class weights "
                "(keras_lt.losses.ClassBalancedCrossentropy, ...). "
                f"Received: loss={self.model.loss}"
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for loss in self._losses:
            loss.reweighting.assign(float(epoch >= self.start_epoch))
