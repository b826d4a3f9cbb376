"""Callbacks: checkpoints, averages, re-weighting, guards, TensorBoard.

The order of the list that `fit` gets matters: Keras calls callbacks in it. What
writes into `logs` comes before what reads them, and what a checkpoint keeps
comes before `Checkpointing`:

    [
        DeferredReweighting(160),      # sets the weights of an epoch
        StopOnNonFinite(),             # before a checkpoint could keep a NaN
        Evaluation({"val": ...}, ...),  # writes "val_balanced" into `logs`
        LongTailTensorBoard(...),      # reads `logs`
        Checkpointing(monitor="val_balanced", ...),  # reads them; may exit
    ]
"""

from keras_lt.callbacks.averaging import AveragedWeights
from keras_lt.callbacks.checkpointing import Checkpointing
from keras_lt.callbacks.evaluation import Evaluation
from keras_lt.callbacks.nonfinite import SkipNonFinite, StopOnNonFinite
from keras_lt.callbacks.reweighting import DeferredReweighting
from keras_lt.callbacks.tensorboard import LongTailTensorBoard

__all__ = [
    "AveragedWeights",
    "Checkpointing",
    "DeferredReweighting",
    "Evaluation",
    "LongTailTensorBoard",
    "SkipNonFinite",
    "StopOnNonFinite",
]
