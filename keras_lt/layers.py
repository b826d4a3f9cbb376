"""Layers that the models share: normalisations, classifiers, masked ones."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lt.arguments import integer, real
from keras_lt.counts import by_label, log_prior
from keras_lt.messages import brief


@keras.saving.register_keras_serializable(package="keras_lt")
class ImageNormalization(keras.layers.Layer):
    """Maps images to zero mean and unit variance a channel: (x - mean) / std.

    It is the first layer of every backbone here, so a saved model takes the
    raw uint8 images. The arithmetic is float32 under any dtype policy (the
    mean of CIFAR-10 is not a bfloat16 number), the output has the compute
    dtype of the layer.

    Args:
        mean: Mean a channel, in the units of the images (0 to 255 for uint8).
        variance: Variance a channel, in the square of those units. A channel
            with variance 0 (a constant one) is centred only.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, H, W, C), C equal to `len(mean)`, uint8 or floating.

    Raises:
        ValueError: If mean and variance are not finite vectors of one length,
            a variance is negative, or the input has another rank or number of
            channels.

    Example:
        >>> layer = keras_lt.layers.ImageNormalization([127.5], [127.5**2])
        >>> float(layer(np.full((1, 8, 8, 1), 255, "uint8"))[0, 0, 0, 0])
        1.0
    """

    def __init__(
        self, mean: Sequence[float], variance: Sequence[float], **kwargs: Any
    ):
        # uint8 images reach `call` as they are: autocast would only touch
        # floating inputs, and those too are wanted in float32.
        super().__init__(autocast=False, **kwargs)
        self.mean = [float(value) for value in mean]
        self.variance = [float(value) for value in variance]
        values = self.mean + self.variance
        if (
            not self.mean
            or len(self.mean) != len(self.variance)
            or not all(map(math.isfinite, values))
            or min(self.variance) < 0
        ):
            raise ValueError(
                "Expected mean and variance to be finite vectors of the same "
                "length, variances at least 0. Received: "
                f"mean={brief(mean)}, variance={brief(variance)}"
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or input_shape[-1] != len(self.mean):
            raise ValueError(
                f"Expected images of shape (B, H, W, {len(self.mean)}), the "
                "number of channels that mean and variance have. "
                f"Received: shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=4, axes={-1: len(self.mean)}
        )

    def call(self, inputs: Any) -> Any:
        std = np.sqrt(self.variance)
        scale = (1.0 / np.where(std > 0, std, 1.0)).astype("float32")
        mean = np.asarray(self.mean, "float32")
        outputs = (keras.ops.cast(inputs, "float32") - mean) * scale
        return keras.ops.cast(outputs, self.compute_dtype)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "mean": self.mean, "variance": self.variance}


@keras.saving.register_keras_serializable(package="keras_lt")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel.

    Computes what `keras.layers.BatchNormalization` computes (Ioffe and
    Szegedy, 2015),

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta,

    takes the same arguments and has the same weights (`set_weights`; weight
    files of functional models name layers by their class). Keras runs it as
    `tf.nn.moments` and separate arithmetic; this layer calls
    `fused_batch_norm`, which makes the whole training step of a CIFAR ResNet
    faster (`tools/benchmark.py train` says by how much). Inputs in bfloat16
    or float16 stay so, with statistics and parameters in float32.

    The fused kernel serves inputs of rank 4 with the channels last. Anything
    else (other ranks and axes, masks, `synchronized=True`, `renorm=True`,
    float64) is left to the parent class.

    Under `tf.distribute` each replica normalises by the statistics of its part
    of the batch, unless `synchronized=True`, and the moving statistics are
    averages over the replicas. With Keras' own layer each replica keeps its
    own ones, so that the model depends on which replica is asked.

    Example:
        >>> layer = keras_lt.layers.FusedBatchNormalization(momentum=0.9)
        >>> layer(np.ones((8, 4, 4, 3), "float32"), training=True).shape
        TensorShape([8, 4, 4, 3])
    """

    def _fusible(self, inputs: Any, mask: Any) -> bool:
        return (
            mask is None
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and not self.synchronized
            # Keras 3.12, the last for Python 3.10, has no renorm.
            and not getattr(self, "renorm", False)
            and inputs.dtype in ("float32", "bfloat16", "float16")
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None):
        if not self._fusible(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        gamma = _float32(self.gamma) if self.scale else tf.ones((channels,))
        beta = _float32(self.beta) if self.center else tf.zeros((channels,))
        batch_statistics = bool(training and self.trainable)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            gamma,
            beta,
            mean=None if batch_statistics else _float32(self.moving_mean),
            variance=(
                None if batch_statistics else _float32(self.moving_variance)
            ),
            epsilon=self.epsilon,
            is_training=batch_statistics,
        )
        if batch_statistics:
            # The kernel returns the unbiased variance; Keras keeps the biased.
            count = tf.cast(tf.size(inputs) // channels, variance.dtype)
            variance *= (count - 1) / count
            replicas = tf.distribute.get_replica_context()
            if replicas is not None and replicas.num_replicas_in_sync > 1:
                mean, variance = replicas.all_reduce(
                    tf.distribute.ReduceOp.MEAN, [mean, variance]
                )
            self._update(self.moving_mean, mean)
            self._update(self.moving_variance, variance)
        return outputs

    def _update(self, variable: Any, value: tf.Tensor) -> None:
        momentum = self.momentum
        variable.assign(
            _float32(variable) * momentum + value * (1.0 - momentum)
        )


def _float32(variable: Any) -> tf.Tensor:
    """The kernel takes no other dtype for parameters and statistics."""
    return keras.ops.cast(variable, "float32")


@keras.saving.register_keras_serializable(package="keras_lt")
class PriorBias(keras.initializers.Initializer):
    """Bias for which a sigmoid classifier starts at a given prior.

    b = -log((1 - pi) / pi), so sigmoid(b) = pi (Lin et al., ICCV 2017,
    section 3.3). The class-balanced loss uses pi = 1 / C for its sigmoid and
    focal losses (Cui et al., CVPR 2019, section 5.1): with pi = 0.5 the many
    negatives of the first steps make those losses diverge.

    Args:
        prior: pi in (0, 1), or None for 1 / C with C the length of the bias.

    Raises:
        ValueError: If the prior is not in (0, 1), or is None and C is 1.

    Example:
        >>> head = keras.layers.Dense(
        ...     10, bias_initializer=keras_lt.layers.PriorBias()
        ... )
        >>> head.build((None, 64))
        >>> round(float(head.bias[0]), 4)  # -log(9)
        -2.1972
    """

    def __init__(self, prior: float | None = None):
        if prior is not None:
            prior = real("prior", prior)
        if prior is not None and not 0.0 < prior < 1.0:
            raise ValueError(
                f"Expected a prior in (0, 1) or None. Received: prior={prior}"
            )
        self.prior = prior

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        prior = 1.0 / shape[-1] if self.prior is None else self.prior
        if prior == 1.0:
            raise ValueError(
                "Expected at least 2 classes for the prior 1 / C. "
                f"Received: shape={tuple(shape)}"
            )
        return keras.ops.full(shape, -math.log((1.0 - prior) / prior), dtype)

    def get_config(self) -> dict[str, Any]:
        return {"prior": self.prior}


FEATURE_NORMS = ("l2", "squash")


@keras.saving.register_keras_serializable(package="keras_lt")
class CosineClassifier(keras.layers.Layer):
    """Logits by the angles between features and class weights.

    With unit class weights w_c / |w_c| and s the scale, logit c is their
    product with

    - `feature_norm="l2"`: s x / |x|, the cosine (Wang et al., CVPR 2018; the
      classifier of LDAM, with s = 1 and its scale in the loss);
    - `feature_norm="squash"`: s x / (1 + |x|), which keeps some of the length
      (Liu et al., CVPR 2019, with s = 16).

    A feature or weight of zeros gives zeros.

    Args:
        num_classes: C, at least 2.
        scale: s, greater than 0.
        feature_norm: "l2" or "squash".
        kernel_initializer: Of the weights (D, C); by default their length is
            about 1.
        kernel_regularizer: Of the weights.
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, D). Output shape: (B, C).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> head = keras_lt.layers.CosineClassifier(10, scale=16.0)
        >>> model = keras_lt.models.classifier(backbone, 10, head=head)
    """

    def __init__(
        self,
        num_classes: int,
        scale: float = 1.0,
        feature_norm: str = "l2",
        kernel_initializer: Any = None,
        kernel_regularizer: Any = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        num_classes = integer("num_classes", num_classes)
        scale = real("scale", scale)
        if num_classes < 2 or not 0 < scale < math.inf:
            raise ValueError(
                "Expected num_classes >= 2 and scale > 0. Received: "
                f"num_classes={num_classes}, scale={scale}"
            )
        if feature_norm not in FEATURE_NORMS:
            raise ValueError(
                f"Expected feature_norm to be one of {FEATURE_NORMS}. "
                f"Received: feature_norm={feature_norm!r}"
            )
        self.num_classes = num_classes
        self.scale = scale
        self.feature_norm = feature_norm
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer
            or keras.initializers.VarianceScaling(
                1.0, "fan_in", "untruncated_normal"
            )
        )
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                "Expected features of shape (B, D). "
                f"Received: shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.num_classes),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )

    def call(self, features: Any) -> Any:
        lengths = _lengths(features, axis=1)
        if self.feature_norm == "squash":
            lengths = 1.0 + lengths
        kernel = keras.ops.divide_no_nan(self.kernel, _lengths(self.kernel, 0))
        return self.scale * keras.ops.matmul(
            keras.ops.divide_no_nan(features, lengths), kernel
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "scale": self.scale,
            "feature_norm": self.feature_norm,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
        }


def _lengths(vectors: Any, axis: int) -> Any:
    squares = keras.ops.sum(keras.ops.square(vectors), axis, keepdims=True)
    # A root has no gradient at 0.
    positive = squares > 0
    roots = keras.ops.sqrt(keras.ops.where(positive, squares, 1.0))
    return keras.ops.where(positive, roots, 0.0)


@keras.saving.register_keras_serializable(package="keras_lt")
class LearnableWeightScaling(keras.layers.Layer):
    """Multiplies each class's logit by a learned scale, 1 at first.

    The second stage of LWS (Kang et al., ICLR 2020, section 4.3) trains these
    scales alone, on class-balanced samples. As in the authors' code the bias of
    the classifier is scaled too.

    Args:
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, C). Output shape: the same.

    Raises:
        ValueError: If the input has another rank.

    Example:
        >>> layer = keras_lt.layers.LearnableWeightScaling()
        >>> float(layer(np.array([[2.0, 3.0]]))[0, 1])
        3.0
    """

    def __init__(self, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                "Expected logits of shape (B, C). "
                f"Received: shape={tuple(input_shape)}"
            )
        self.scales = self.add_weight(
            name="scales", shape=(input_shape[-1],), initializer="ones"
        )

    def call(self, logits: Any) -> Any:
        return logits * self.scales


@keras.saving.register_keras_serializable(package="keras_lt")
class LogitAdjustment(keras.layers.Layer):
    """Takes a class prior out of logits: x - tau * log(n + 1e-6).

    Post-hoc logit adjustment (Menon et al., ICLR 2021, equation 9).

    Args:
        class_counts: Images a class (C,), or their shares, at least 0.
        tau: Strength, at least 0.
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, C). Output shape: the same.

    Raises:
        ValueError: If an argument is out of its range, or the input has
            another number of classes.

    Example:
        >>> layer = keras_lt.layers.LogitAdjustment(class_counts)
        >>> adjusted = keras.Model(model.inputs, layer(model.outputs[0]))
    """

    def __init__(
        self,
        class_counts: Sequence[float],
        tau: float = 1.0,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        tau = real("tau", tau)
        if not 0 <= tau < math.inf:
            raise ValueError(f"Expected tau >= 0. Received: tau={tau}")
        self.class_counts = by_label("class_counts", class_counts).tolist()
        self.tau = tau
        self._adjustment = tau * log_prior(self.class_counts)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] != len(self._adjustment):
            raise ValueError(
                f"Expected logits of {len(self._adjustment)} classes. "
                f"Received: shape={tuple(input_shape)}"
            )

    def call(self, logits: Any) -> Any:
        return logits - keras.ops.cast(self._adjustment, logits.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "class_counts": self.class_counts,
            "tau": self.tau,
        }


NORMALIZATIONS = ("none", "l2", "centered_l2")
SIMILARITIES = ("euclidean", "dot")


@keras.saving.register_keras_serializable(package="keras_lt")
class NearestClassMean(keras.layers.Layer):
    """Logits by the distance of features to the means of the classes.

    With t the transform of features and m_c the mean of t(x) over class c,
    logit c is -|t(x) - m_c|^2 (`similarity="euclidean"`) or the product of
    t(x) and m_c over D ("dot", the cosine mode of the code of Kang et al., ICLR
    2020). t is nothing ("none"), x / |x| ("l2"), or that of x less the mean of
    all features ("centered_l2"). A class without features is never the largest.

    `keras_lt.models.nearest_class_mean` makes a model with it.

    Args:
        num_classes: C, at least 2.
        normalization: "none", "l2" or "centered_l2".
        similarity: "euclidean" or "dot".
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, D). Output shape: (B, C).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> layer = keras_lt.layers.NearestClassMean(10)
        >>> layer.adapt(features.features, features.labels)
        >>> scores = layer(features.features)  # (N, 10)
    """

    def __init__(
        self,
        num_classes: int,
        normalization: str = "none",
        similarity: str = "euclidean",
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        num_classes = integer("num_classes", num_classes)
        if num_classes < 2:
            raise ValueError(
                f"Expected num_classes >= 2. Received: {num_classes=}"
            )
        if (
            normalization not in NORMALIZATIONS
            or similarity not in SIMILARITIES
        ):
            raise ValueError(
                f"Expected normalization to be one of {NORMALIZATIONS} and "
                f"similarity one of {SIMILARITIES}. Received: "
                f"{normalization=}, {similarity=}"
            )
        self.num_classes = num_classes
        self.normalization = normalization
        self.similarity = similarity

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                "Expected features of shape (B, D). "
                f"Received: shape={tuple(input_shape)}"
            )
        shapes = {
            "mean": (input_shape[-1],),
            "class_means": (self.num_classes, input_shape[-1]),
            "present": (self.num_classes,),
        }
        for name, shape in shapes.items():
            weight = self.add_weight(name=name, shape=shape, trainable=False)
            setattr(self, name, weight)

    def adapt(self, features: Any, labels: Any) -> None:
        """Sets the means.

        Args:
            features: (N, D).
            labels: Class ids (N,).

        Raises:
            ValueError: If the shapes don't fit or a label is out of range.
        """
        features = np.asarray(features, np.float64)
        labels = np.asarray(labels)
        if (
            features.ndim != 2
            or labels.shape != features.shape[:1]
            or not len(labels)
            or not (0 <= labels.min() and labels.max() < self.num_classes)
        ):
            raise ValueError(
                "Expected features (N, D) and N labels from 0 to "
                f"{self.num_classes - 1}. Received: features.shape="
                f"{features.shape}, labels.shape={labels.shape}"
            )
        if not self.built:
            self.build(features.shape)
        self.mean.assign(features.mean(axis=0))
        if self.normalization == "centered_l2":
            features = features - features.mean(axis=0)
        if self.normalization != "none":
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            features = features / np.where(lengths > 0, lengths, 1.0)
        counts = np.bincount(labels, minlength=self.num_classes)
        sums = np.zeros((self.num_classes, features.shape[1]))
        np.add.at(sums, labels, features)
        self.class_means.assign(sums / np.maximum(counts, 1)[:, None])
        self.present.assign(counts > 0)

    def call(self, features: Any) -> Any:
        ops = keras.ops
        if self.normalization == "centered_l2":
            features = features - self.mean
        if self.normalization != "none":
            features = ops.divide_no_nan(features, _lengths(features, axis=1))
        products = ops.matmul(features, ops.transpose(self.class_means))
        if self.similarity == "dot":
            logits = products / features.shape[-1]
        else:
            lengths = ops.sum(ops.square(features), axis=1, keepdims=True)
            others = ops.sum(ops.square(self.class_means), axis=1)
            logits = 2.0 * products - lengths - others
        lowest = ops.min(logits, axis=1, keepdims=True) - 1.0
        return ops.where(self.present > 0, logits, lowest)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "normalization": self.normalization,
            "similarity": self.similarity,
        }


@keras.saving.register_keras_serializable(package="keras_lt")
class MaskedDense(keras.layers.Layer):
    """A dense layer without the connections that its units' degrees forbid.

    y = x (kernel * mask) + bias, where output o sees input i if its degree is
    at least that of i (Germain et al., ICML 2015, equation 8; for layers of
    an autoregressive network the outputs of the last one have their degree
    less 1). The mask is made from the degrees whenever it is needed: of D x D
    numbers it would be as large as the kernel in every graph and SavedModel.

    Kernel and bias start uniform within 1 / sqrt(D), masked inputs counted,
    as PyTorch's linear layer does.

    Args:
        input_degrees: Degrees of the inputs (D,), integers.
        output_degrees: Degrees of the outputs (P,), integers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, D). Output shape: (B, P).

    Raises:
        ValueError: If there are no degrees on a side, or the input has another
            rank or width.

    Example:
        >>> layer = keras_lt.layers.MaskedDense([0, 1], [-1, 0])
        >>> outputs = layer(np.ones((8, 2)))  # of the bias, and of x_0
    """

    def __init__(
        self,
        input_degrees: Sequence[int],
        output_degrees: Sequence[int],
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.input_degrees, self.output_degrees = (
            [integer(name, degree) for degree in degrees]
            for name, degrees in (
                ("input_degrees", input_degrees),
                ("output_degrees", output_degrees),
            )
        )
        if not self.input_degrees or not self.output_degrees:
            raise ValueError(
                "Expected a degree for each input and output. Received: "
                f"input_degrees={self.input_degrees}, "
                f"output_degrees={self.output_degrees}"
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = len(self.input_degrees), len(self.output_degrees)
        if len(input_shape) != 2 or input_shape[-1] != shape[0]:
            raise ValueError(
                f"Expected inputs of shape (B, {shape[0]}), a degree for "
                f"each. Received: shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: shape[0]})
        limit = shape[0] ** -0.5
        self.kernel, self.bias = (
            self.add_weight(
                name=name,
                shape=weight_shape,
                initializer=keras.initializers.RandomUniform(-limit, limit),
            )
            for name, weight_shape in (("kernel", shape), ("bias", shape[1:]))
        )

    def call(self, inputs: Any) -> Any:
        ops = keras.ops
        below = ops.expand_dims(np.asarray(self.input_degrees, "int32"), 1)
        mask = ops.less_equal(below, np.asarray(self.output_degrees, "int32"))
        return ops.matmul(inputs, ops.where(mask, self.kernel, 0)) + self.bias

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], len(self.output_degrees))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_degrees": self.input_degrees,
            "output_degrees": self.output_degrees,
        }
