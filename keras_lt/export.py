"""Models as SavedModels that TensorFlow serves by itself, and for LiteRT."""

import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lt import classes, files, preprocessing
from keras_lt.arguments import framing as checked_framing
from keras_lt.counts import class_shares
from keras_lt.evaluation import Fitted, Refusal
from keras_lt.layers import LogitAdjustment
from keras_lt.messages import brief
from keras_lt.structure import (
    classifier_of,
    feature_model,
    logits_model,
    one_to_one,
)

TOP = 5
FITTED = "fitted.json"
IMAGES = "images.json"


def save(
    model: keras.Model,
    path: str | os.PathLike,
    images: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    class_counts: Sequence[float] | None = None,
    prior: Sequence[float] | None = None,
    layer: str | None = None,
    fitted: Fitted | None = None,
    framing: str = "center",
) -> None:
    """Writes a model as a SavedModel, at once or not at all.

    Loading it needs nothing but TensorFlow. Its signatures take and give
    dictionaries:

    - `serving_default`: `images`, uint8 (B, h, w, channels) of any size. Those
      of another size than the model's are brought to it by
      `keras_lt.preprocessing.resize_and_crop`.
    - `serve_float`: `images`, float32 of the model's size, 0 to 255; rounded if
      the model takes uint8.
    - `serve_bytes`: `images`, strings (B,), JPEG or PNG files. TensorFlow
      decodes them, which leaves EXIF orientation aside. One that it can't
      decode has NaN as logits and probabilities, and empty strings as classes.
      Where the model's images have 1, 3 or 4 channels.
    - `serve_prior`: `images` as `serving_default`, and `prior`, float32 (C,),
      the shares of the classes that are expected where the model is used. Where
      `class_counts` are given.
    - `features`: `images` as `serving_default`, gives `features` (B, D). Where
      `keras_lt.models.feature_model` finds some.
    - `serve_sets`: `images` as `serving_default`, and `coverage`, a float32,
      the least share of the sets that hold the class. Gives `sets` too, bool
      (B, C), and the `coverage` of the table that they are of, the next one
      from the asked on. Where `fitted` has sets.
    - `serve_known`: `images` as `serving_default`. Gives `known` too, bool
      (B,), false for "none of these", and the `score` (B,) by which it is.
      Where `fitted` has a refusal.

    Inputs that are not so, in shape or values, are an `InvalidArgumentError`
    that says what was expected and received.

    All but `features` give `logits` and `probabilities`, float32 (B, C), and
    `classes`, strings (B, min(5, C)), names from the most probable class on.
    With a prior q, normalized to sum 1, logits are

        x_c + log q_c - log(n_c + 1e-6),

    n the `class_counts`: `keras_lt.layers.LogitAdjustment` (Menon et al., ICLR
    2021, equation 9, where q is uniform). A class with q_c = 0 gets a
    probability of about 0: its logarithm counts as -87. With `fitted`, x are
    the scaled logits: probabilities are calibrated for images whose classes are
    as frequent as `class_counts`, or as the prior says. Sets are those of x
    without a prior. `labels.txt` in the folder has the names, one a line;
    `fitted.json` what `fitted` says of itself.

    Args:
        model: A built functional or sequential model from images (B, H, W,
            channels) of one size to logits (B, C), such as those of
            `keras_lt.models`; of a `DualBranch` its main classifier. A softmax
            in its end is left out of the logits.
        path: A folder that does not exist.
        images: Some images of the model's size, to compare what each signature
            gives with what the model gives before the SavedModel is put in
            place; None compares nothing.
        class_names: C different names by label id; None is "0", "1", ...
        class_counts: Images per class (C,), or shares, that the logits have as
            their prior: those of the training data for a plain loss on them as
            they come, ones where training was balanced by its loss or stream.
        prior: q of `serving_default`, `serve_float` and `serve_bytes`; None
            leaves the logits as they are. Needs `class_counts`.
        layer: Layer of `features`, as `keras_lt.models.feature_model` takes it.
        fitted: What `keras_lt.evaluation.fit` found on a hold-out.
        framing: How images of another size are brought to the model's, as in
            `resize_and_crop`. `images.json` in the folder has it, unless it is
            "center".

    Raises:
        FileExistsError: If something is at `path`.
        ValueError: If an argument is not as above, or outputs differ by more
            than 1e-4 of the largest (of 1e-2 for models that compute in 16
            bits).

    Example:
        >>> keras_lt.export.save(
        ...     model,
        ...     "saved_model",
        ...     test.images[:16],
        ...     class_names=class_names,
        ...     class_counts=class_counts,
        ... )
        >>> loaded = tf.saved_model.load("saved_model")
        >>> serve = loaded.signatures["serving_default"]
        >>> serve(images=tf.constant(test.images[:16]))["logits"].shape
        TensorShape([16, 10])
    """
    path = _new(path)
    served = _Served(model, class_names, class_counts, prior, layer)
    served.framing = checked_framing(framing)
    if fitted is not None:
        served.fit(fitted)
    with files.replacing(path) as part:
        archive = keras.export.ExportArchive()
        archive.track(served.model)
        for name, (function, *specs) in served.endpoints().items():
            archive.add_endpoint(name, function, specs)
        archive.write_out(part, verbose=False)
        (part / "labels.txt").write_text(
            "".join(f"{name}\n" for name in served.class_names),
            encoding="utf-8",
        )
        if fitted is not None:
            (part / FITTED).write_text(
                f"{json.dumps(fitted.about, indent=1)}\n", encoding="utf-8"
            )
        if framing != "center":
            (part / IMAGES).write_text(
                f"{json.dumps({'framing': framing})}\n", encoding="utf-8"
            )
        if images is not None:
            served.check_parity(tf.saved_model.load(part), images)


def check(
    model: keras.Model,
    class_names: Sequence[str] | None = None,
    class_counts: Sequence[float] | None = None,
) -> None:
    """Refuses what `save` would refuse, before a model is trained.

    Args:
        model: As in `save`.
        class_names: As in `save`.
        class_counts: As in `save`.

    Raises:
        ValueError: As `save`, but for outputs that differ.

    Example:
        >>> keras_lt.export.check(model, train.class_names, train.class_counts)
    """
    _Served(model, class_names, class_counts, None, None)


def carried_prior(loaded: Any) -> np.ndarray | None:
    """The class frequencies that the logits of a SavedModel carry.

    The adjustment of `serve_prior` takes them out: what it changes tells them.

    Args:
        loaded: What `tf.saved_model.load` gives of a folder that `save` wrote.

    Returns:
        Its `class_counts`, or the shares of its `prior`, but for rounding,
        float64 (C,); None of a model that was saved without.

    Example:
        >>> keras_lt.export.save(
        ...     model, "saved_model", class_counts=[9, 3, 1] + [1] * 7
        ... )
        >>> loaded = tf.saved_model.load("saved_model")
        >>> keras_lt.export.carried_prior(loaded)[:3].round(3)
        array([9., 3., 1.])
    """
    if "serve_prior" not in loaded.signatures:
        return None
    serve, adjust = (
        loaded.signatures[name] for name in ("serve_float", "serve_prior")
    )
    floats = serve.structured_input_signature[1]["images"]
    _, classes = serve.structured_outputs["logits"].shape
    image = np.zeros((1, *floats.shape[1:]))
    plain = serve(images=tf.constant(image, tf.float32))["logits"]
    uniform = adjust(
        images=tf.constant(image, tf.uint8), prior=tf.ones(classes)
    )["logits"]
    log_shares = (plain - uniform).numpy()[0].astype(np.float64)
    counts = np.exp(log_shares - np.log(classes))
    # Those of classes without images stand for 1e-6.
    return np.where(counts < 1e-5, 0.0, counts)


def save_litert(
    model: keras.Model, path: str | os.PathLike, images: Any = None
) -> None:
    """Writes a model for LiteRT (TFLite), at once or not at all.

    The file has one signature, `serving_default`: `images`, uint8 (B, H, W,
    channels) of the model's size, to `logits` and `probabilities` (B, C).

    Args:
        model: As `save` takes it. It computes in float32.
        path: A file that does not exist.
        images: As in `save`.

    Raises:
        FileExistsError: If something is at `path`.
        ValueError: If this TensorFlow has no converter, the converter can't
            take the model, or outputs differ by more than 1e-4 of the largest.

    Example:
        >>> keras_lt.export.save_litert(model, "model.tflite", test.images[:16])
        >>> interpreter = tf.lite.Interpreter("model.tflite")
        >>> serve = interpreter.get_signature_runner("serving_default")
        >>> serve(images=test.images[:16])["logits"].shape
        (16, 10)
    """
    path = _new(path)
    model = _classifier(model)
    lite = getattr(tf, "lite", None)
    if not hasattr(lite, "TFLiteConverter"):
        raise ValueError(
            "Expected a TensorFlow with tf.lite.TFLiteConverter. "
            f"Received: TensorFlow {tf.__version__}, without"
        )
    bits16 = {"float16", "bfloat16"} & _compute_dtypes(model)
    if bits16:
        raise ValueError(
            "Expected a model that computes in float32, for LiteRT. "
            f"Received: {model.name}, with layers in {min(bits16)}"
        )

    def serve(images):
        logits = model(images, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        serve,
        [tf.TensorSpec(model.inputs[0].shape, tf.uint8, "images")],
    )
    with tempfile.TemporaryDirectory() as folder, files.replacing(path) as part:
        archive.write_out(f"{folder}/model", verbose=False)
        converter = lite.TFLiteConverter.from_saved_model(
            f"{folder}/model", signature_keys=["serving_default"]
        )
        try:
            part.write_bytes(converter.convert())
        except Exception as error:  # the class of its errors is not public
            raise ValueError(
                "Expected a model that LiteRT's converter can take. "
                f"Received: {model.name} ({error})"
            ) from error
        if images is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # it will move
                interpreter = lite.Interpreter(str(part))
            runner = interpreter.get_signature_runner("serving_default")
            pixels = _pixels(images)
            served = runner(images=pixels)["logits"]
            wanted = model(pixels, training=False)
            _compare(served, wanted, model, "the LiteRT model")


def _new(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.exists():
        raise FileExistsError(
            f"Expected a path where nothing is. Received: path={path}"
        )
    return path


def _pixels(images: Any) -> np.ndarray:
    return np.clip(np.round(images), 0, 255).astype("uint8")


class _Served:
    """What the signatures of a SavedModel compute."""

    def __init__(self, model, class_names, class_counts, prior, layer):
        self.model = _classifier(model)
        _, *self.size, self.channels = self.model.inputs[0].shape
        # One graph of it for all signatures.
        self._graph = tf.function(self.model, autograph=False)
        num_classes = self.model.outputs[0].shape[-1]
        if class_names is None:
            class_names = range(num_classes)
        self.class_names = classes.checked(class_names, "class_names")
        if len(self.class_names) != num_classes:
            raise ValueError(
                f"Expected the names of {num_classes} classes. "
                f"Received: class_names={brief(class_names)}"
            )
        self.adjustment = None
        if class_counts is not None:
            if np.shape(class_counts) != (num_classes,):
                raise ValueError(
                    f"Expected the counts of {num_classes} classes. "
                    f"Received: class_counts={brief(class_counts)}"
                )
            self.adjustment = LogitAdjustment(class_counts)
        self.prior = None
        if prior is not None:
            shares = class_shares("prior", prior, num_classes)
            self.prior = shares.astype("float32")
            if self.adjustment is None:
                raise ValueError(
                    "Expected class_counts with prior, to take theirs out. "
                    "Received: class_counts=None"
                )
        try:
            self.features = feature_model(model, layer)
        except ValueError:
            if layer is not None:
                raise
            self.features = None
        self.fitted = Fitted()
        self.framing = "center"

    def fit(self, fitted: Fitted) -> None:
        """Takes scaling, sets and refusal, checked against the model."""
        size = len(self.class_names)
        for name, values in fitted.scaling._asdict().items():
            if np.shape(values) not in ((), (size,)) or not (
                np.isfinite(values).all()
            ):
                raise ValueError(
                    f"Expected a scaling of one or {size} finite numbers. "
                    f"Received: {name}={brief(values)}"
                )
        if fitted.sets is not None:
            wanted = len(fitted.sets.coverages), size
            if np.shape(fitted.sets.thresholds) != wanted:
                raise ValueError(
                    f"Expected thresholds of shape {wanted}. Received: "
                    f"thresholds.shape={np.shape(fitted.sets.thresholds)}"
                )
        refusal = fitted.refusal
        if refusal is not None and refusal.gaussians is not None:
            dim = refusal.gaussians.means.shape[1]
            if self.features is None or self.features.output.shape[1] != dim:
                raise ValueError(
                    f"Expected a model with {dim} features, for the refusal. "
                    f"Received: {self.model.name}, with "
                    f"{self.features and self.features.output.shape[1]}"
                )
        self.fitted = fitted

    def endpoints(self) -> dict[str, tuple]:
        """Functions by the name of their signature, and what they take."""
        sized = (None, *self.size, self.channels)
        any_size = tf.TensorSpec(
            (None, None, None, self.channels), tf.uint8, "images"
        )
        floats = tf.TensorSpec(sized, tf.float32, "images")
        endpoints = {
            "serving_default": (self._images, any_size),
            "serve_float": (self._floats, floats),
        }
        if self.channels in (1, 3, 4):
            files_ = tf.TensorSpec((None,), tf.string, "images")
            endpoints["serve_bytes"] = (self._files, files_)
        if self.adjustment is not None:
            shares = tf.TensorSpec(
                (len(self.class_names),), tf.float32, "prior"
            )
            endpoints["serve_prior"] = (self._with_prior, any_size, shares)
        if self.features is not None:
            endpoints["features"] = (self._features, any_size)
        if self.fitted.sets is not None:
            coverage = tf.TensorSpec((), tf.float32, "coverage")
            endpoints["serve_sets"] = (self._sets, any_size, coverage)
        if self.fitted.refusal is not None:
            endpoints["serve_known"] = (self._known, any_size)
        return endpoints

    def _call(self, images, model=None):
        # Some kernels of TensorFlow fail on a batch without images.
        size = tf.shape(images)[0]
        padding = [[0, tf.cast(size == 0, tf.int32)], *[[0, 0]] * 3]
        model = model or self._graph
        return model(tf.pad(images, padding), training=False)[:size]

    def _images(self, images):
        logits = self._call(self._fitted(images))
        return self._outputs(self._adjusted(logits, self.prior))

    def _floats(self, images):
        images = _shaped(images, (None, *self.size, self.channels))
        legal = (images >= -0.5) & (images <= 255.5)  # once rounded; not NaN
        images = _where(
            tf.reduce_all(legal),
            images,
            "Expected pixels from 0 to 255. Received: others, or NaN, so many:",
            tf.math.count_nonzero(~legal),
        )
        if self.model.inputs[0].dtype == "uint8":
            images = tf.saturate_cast(tf.round(images), tf.uint8)
        logits = self._call(images)
        return self._outputs(self._adjusted(logits, self.prior))

    def _files(self, images):
        size = (*self.size, self.channels)

        def decode(file):
            image = tf.io.decode_image(
                file, self.channels, expand_animations=False
            )
            return self._fitted(image[None])[0], True

        def decoded(file):
            # An error of an op ends the whole batch, but that of a data set
            # can be left out: then what stands for it is the first one.
            missing = tf.zeros(size, tf.uint8), False
            return (
                tf.data.Dataset.from_tensors(file)
                .map(decode)
                .ignore_errors()
                .concatenate(tf.data.Dataset.from_tensors(missing))
                .take(1)
                .get_single_element()
            )

        images, whole = tf.map_fn(
            decoded,
            _shaped(images, (None,)),
            fn_output_signature=(
                tf.TensorSpec(size, tf.uint8),
                tf.TensorSpec((), tf.bool),
            ),
        )
        logits = self._call(images)
        outputs = self._outputs(self._adjusted(logits, self.prior))
        return {
            name: tf.where(
                whole[:, None],
                values,
                "" if values.dtype == tf.string else float("nan"),
            )
            for name, values in outputs.items()
        }

    def _with_prior(self, images, prior):
        prior = _shaped(_hidden(prior), (len(self.class_names),), "a prior")
        prior = _where(
            tf.reduce_all(tf.math.is_finite(prior) & (prior >= 0))
            & (tf.reduce_max(prior) > 0),
            prior,
            "Expected a prior of shares of at least 0, one of them above. "
            "Received:",
            prior,
        )
        logits = self._call(self._fitted(images))
        return self._outputs(self._adjusted(logits, prior))

    def _features(self, images):
        features = self._call(self._fitted(images), self.features)
        return {"features": tf.cast(features, tf.float32)}

    def _sets(self, images, coverage):
        coverage = _shaped(_hidden(coverage), (), "a coverage")
        table = tf.constant(self.fitted.sets.coverages, tf.float32)
        enough = table >= coverage - 1e-6  # 0.9 has other bits as a float32
        enough = _where(
            (coverage > 0) & tf.reduce_any(enough),
            enough,
            "Expected a coverage above 0 and up to that of the table. "
            "Received:",
            coverage,
            "with the table",
            table,
        )
        row = tf.argmax(enough)
        thresholds = tf.constant(self.fitted.sets.thresholds, tf.float32)[row]
        logits = self._scaled(self._call(self._fitted(images)))
        # The last bits of a probability differ between float32 and float64.
        sets = tf.nn.softmax(logits) >= thresholds * (1 - 1e-5)
        return {
            **self._outputs(self._with_target(logits, self.prior)),
            "sets": sets,
            "coverage": table[row],
        }

    def _known(self, images):
        images = self._fitted(images)
        raw = tf.cast(self._call(images), tf.float32)
        refusal = self.fitted.refusal
        if refusal.gaussians is None:
            score = _score(refusal, raw)
        else:
            features = self._call(images, self.features)
            score = _distance(refusal, tf.cast(features, tf.float32))
        return {
            **self._outputs(self._adjusted(raw, self.prior)),
            "known": score >= tf.cast(refusal.threshold, tf.float32),
            "score": score,
        }

    def _fitted(self, images):
        images = _shaped(images, (None, None, None, self.channels))
        images = preprocessing.resize_and_crop(images, self.size, self.framing)
        return tf.ensure_shape(images, [None, *self.size, self.channels])

    def _scaled(self, logits):
        scale, bias = (tf.cast(x, tf.float32) for x in self.fitted.scaling)
        return tf.cast(logits, tf.float32) * scale + bias

    def _adjusted(self, logits, prior):
        return self._with_target(self._scaled(logits), prior)

    def _with_target(self, logits, prior):
        if prior is None:
            return logits
        shares = prior / tf.reduce_max(prior)  # whose sum is finite
        shares /= tf.reduce_sum(shares)
        least = np.finfo("float32").tiny  # logits stay finite
        log_shares = tf.math.log(tf.maximum(shares, least))
        return self.adjustment(logits) + log_shares

    def _outputs(self, logits):
        top = tf.math.top_k(logits, min(TOP, len(self.class_names))).indices
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "classes": tf.gather(tf.constant(self.class_names), top),
        }

    def check_parity(self, loaded: Any, images: Any) -> None:
        """Raises ValueError where a signature and the model differ."""
        pixels = _pixels(images)
        logits = self.model(pixels, training=False)
        wanted = self._adjusted(logits, self.prior)
        uniform = tf.ones(len(self.class_names))
        inputs = {
            "serving_default": ({"images": pixels}, wanted),
            "serve_float": ({"images": tf.cast(pixels, tf.float32)}, wanted),
        }
        if "serve_bytes" in loaded.signatures:
            encoded = tf.stack([tf.io.encode_png(image) for image in pixels])
            inputs["serve_bytes"] = ({"images": encoded}, wanted)
        if "serve_prior" in loaded.signatures:
            inputs["serve_prior"] = (
                {"images": pixels, "prior": uniform},
                self._adjusted(logits, uniform),
            )
        if "features" in loaded.signatures:
            features = self.features(pixels, training=False)
            inputs["features"] = ({"images": pixels}, features)
        if "serve_sets" in loaded.signatures:
            asked = tf.constant(self.fitted.sets.coverages[0], tf.float32)
            arguments = {"images": pixels, "coverage": asked}
            inputs["serve_sets"] = (arguments, wanted)
        if "serve_known" in loaded.signatures:
            inputs["serve_known"] = ({"images": pixels}, wanted)
        for name, (arguments, wanted) in inputs.items():
            served = loaded.signatures[name](**arguments)
            served = served["features" if name == "features" else "logits"]
            _compare(served, wanted, self.model, f"the signature {name}")


def _score(refusal: Refusal, logits: Any) -> Any:
    """What `keras_lt.evaluation.known_score` computes of logits."""
    if refusal.score == "energy":
        return tf.reduce_logsumexp(logits, 1)
    return tf.reduce_max(logits, 1)


def _distance(refusal: Refusal, features: Any) -> Any:
    """Minus the squared Mahalanobis distance to the nearest mean."""
    means, whitening = refusal.gaussians
    means = means[~np.isnan(means).any(1)]
    # Around the middle of the means, where squares of float32 are small.
    middle = means.mean(0)
    centers = tf.constant((means - middle) @ whitening, tf.float32)
    white = (features - tf.constant(middle, tf.float32)) @ tf.constant(
        whitening, tf.float32
    )
    near = tf.reduce_min(
        tf.reduce_sum(centers**2, 1) - 2 * white @ tf.transpose(centers), 1
    )
    return -tf.maximum(near + tf.reduce_sum(white**2, 1), 0.0)


def _hidden(value: Any) -> Any:
    """A float32 value whose shape is not known before it is there.

    One that is known whole would be a constant of the graph.
    """
    return tf.io.parse_tensor(tf.io.serialize_tensor(value), tf.float32)


def _shaped(value: Any, shape: tuple, what: str = "images") -> Any:
    """A value of a signature that has the shape, None for any length.

    TensorFlow itself holds nobody to the shapes of a signature.
    """
    # Hides the signature's shape, which would be taken for the value's.
    value = tf.raw_ops.PlaceholderWithDefault(input=value, shape=None)
    found = tf.shape(value)
    # Of another rank the last one is there, or one before it is missing.
    lengths = tf.concat([found, tf.fill([len(shape) + 1], -1)], 0)
    wanted = [lengths[len(shape)] == -1]
    for place, length in enumerate(shape):
        if length is not None:
            wanted.append(lengths[place] == length)
        else:  # a batch may be empty
            wanted.append(lengths[place] >= min(place, 1))
    shown = [
        "BHW"[place] if length is None else str(length)
        for place, length in enumerate(shape)
    ]
    value = _where(
        tf.reduce_all(wanted),
        value,
        f"Expected {what} of shape ({', '.join(shown)}). Received: shape",
        found,
    )
    value.set_shape(shape)  # no operation, which could fail before the check
    return value


def _where(condition: Any, value: Any, *message: Any) -> Any:
    """The value, where the condition holds; else an error at run time."""
    check = tf.debugging.Assert(condition, message, summarize=10)
    with tf.control_dependencies([check]):
        return tf.identity(value)


def _classifier(model: keras.Model) -> keras.Model:
    """The model from images to logits; of a `DualBranch` its main one."""
    model = logits_model(one_to_one(classifier_of(model)))
    shapes = [tuple(t.shape) for t in (*model.inputs, *model.outputs)]
    if [len(shape) for shape in shapes] != [4, 2] or None in (
        *shapes[0][1:],
        *shapes[1][1:],
    ):
        raise ValueError(
            "Expected a model from images (B, H, W, channels) of one size to "
            f"logits (B, C). Received: {model.name}, with inputs and outputs "
            f"of shapes {shapes}"
        )
    return model


def _compare(served: Any, wanted: Any, model: keras.Model, what: str) -> None:
    served, wanted = np.asarray(served), np.asarray(wanted, "float32")
    error = np.abs(served - wanted).max()
    bits16 = {"float16", "bfloat16"} & _compute_dtypes(model)
    bound = (1e-2 if bits16 else 1e-4) * np.abs(wanted).max()
    if not error <= bound:
        raise ValueError(
            f"Expected {what} to give what the model gives, to "
            f"{bound:.2g}. Received: a difference of {error:.2g}"
        )


def _compute_dtypes(layer: keras.Layer) -> set[str]:
    """Compute dtypes of a layer and of all in it."""
    inner = map(_compute_dtypes, getattr(layer, "layers", ()))
    return {layer.compute_dtype}.union(*inner)
