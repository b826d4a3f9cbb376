"""Several devices, several machines: TensorFlow's strategies for Keras 3."""

from keras_lt.distribute.collectives import (
    all_replicas,
    assign_on_each_replica,
    gather,
    gather_over_replicas,
    is_chief,
    local_replicas,
    sample_positions,
    shard,
    sum_over_replicas,
    unscaled,
    values_of,
    wait_for_all,
)
from keras_lt.distribute.strategies import STRATEGIES, dataset, strategy

__all__ = [
    "STRATEGIES",
    "all_replicas",
    "assign_on_each_replica",
    "dataset",
    "gather",
    "gather_over_replicas",
    "is_chief",
    "local_replicas",
    "sample_positions",
    "shard",
    "strategy",
    "sum_over_replicas",
    "unscaled",
    "values_of",
    "wait_for_all",
]
