"""Long-tailed image recognition on TensorFlow and Keras."""

__version__ = "0.1.0"

# Every room is imported here: Keras finds the class of a saved object only
# when it is registered already.
from keras_lt import (
    callbacks,
    checkpoints,
    counts,
    datasets,
    distribute,
    division,
    dpp,
    export,
    features,
    hardware,
    layers,
    losses,
    metrics,
    models,
    nonfinite,
    optimizers,
    plots,
    preprocessing,
    report,
    schedules,
    seeding,
    streams,
    tensorboard,
)

__all__ = [
    "__version__",
    "callbacks",
    "checkpoints",
    "counts",
    "datasets",
    "distribute",
    "division",
    "dpp",
    "export",
    "features",
    "hardware",
    "layers",
    "losses",
    "metrics",
    "models",
    "nonfinite",
    "optimizers",
    "plots",
    "preprocessing",
    "report",
    "schedules",
    "seeding",
    "streams",
    "tensorboard",
]
