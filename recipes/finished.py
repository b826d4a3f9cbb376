"""The finished run that a stage starts from: what --from=RUN names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import frozen
import inputs
import keras
import numpy as np
import outcome
import run as runs
import training
from absl import flags

from keras_lt import counts, datasets, features, models, report
from keras_lt.messages import brief

BATCH_SIZE = 256  # where images are scored, or their features computed
# Flags of the first run that a stage takes over, unless it is given its own.
# Of these the first ones say which images are trained on, and can't differ.
_TRAINING_IMAGES = (
    "image_size",
    "test_fraction",
    "imbalance_factor",
    "profile",
    "selection",
    "split_seed",
    "holdout",
)
_INHERITED = (
    *_TRAINING_IMAGES,
    "dataset",
    "test_split",
    "many_shot",
    "few_shot",
    "seed",
)


class Finished:
    """A finished run, of whatever recipe.

    Args:
        given: What --from says.

    Attributes:
        path: Its folder.
        record: Its record.

    Raises:
        OSError: If it has no record.
        ValueError: If no run is given, or its record can't be read.
    """

    def __init__(self, given: str | None):
        if given is None:
            raise ValueError(
                "Expected --from=RUN, the workdir of a finished run. "
                "Received: none"
            )
        if given.startswith("@"):
            raise ValueError(
                f"Expected --from=RUN, the workdir of a finished run, after "
                f"--flagfile. Received: --from={given}, the name of a run "
                "(`python tools/sweep.py` with this flag file makes it first)"
            )
        self.path = Path(given)
        if not (self.path / "result.json").is_file():
            raise FileNotFoundError(
                "Expected --from=RUN, the workdir of a finished run. Received: "
                f"--from={given}, which has no result.json"
            )
        self.record = report.Record.read(self.path / "result.json")

    def pass_on(self, values: flags.FlagValues) -> None:
        """Gives a stage the settings of the data that this run had.

        Raises:
            ValueError: If the command line asks for other training images.
        """
        for name in _INHERITED:
            if name not in self.record.flags:
                continue
            own = self.record.flags[name]
            if not values[name].present:
                values[name].value = own
            elif name in _TRAINING_IMAGES and values[name].value != own:
                raise ValueError(
                    "Expected the training images of --from. Received: "
                    f"--{name}={values[name].value} where {self.path} has "
                    f"--{name}={own}"
                )

    def load_data(
        self, settings: inputs.DataSettings, scores: Mapping[str, Any]
    ) -> tuple[inputs.Data, counts.Classes]:
        """Loads the images of a stage, which are those of this run.

        Args:
            settings: Which images.
            scores: {flag: value} of the group "scores".

        Raises:
            ValueError: If they have other classes or other counts.
        """
        data = inputs.load_data(settings)
        classes = inputs.classes_of(data.train, scores)
        inputs.say_what_is_read(data, settings.dataset, classes)
        self.refuse_others(data.train)
        return data, classes

    def refuse_others(self, train: datasets.Dataset) -> None:
        """Refuses other classes, or another number of their images."""
        outcome.refuse_other_names(
            "from", self.path, self.record.data["class_names"], train
        )
        own = self.record.class_counts
        if own != train.class_counts.tolist():
            raise ValueError(
                "Expected a --from that was trained on as many images per "
                f"class. Received: {self.path} with {brief(own)}"
            )

    def model(self) -> keras.Model:
        """Loads the trained model."""
        return models.load_model(self.path / "model.keras")

    def features_of_images(
        self, run: runs.Run, model: keras.Model, train: datasets.Dataset
    ) -> features.Features:
        """The features of the training images, of this run where it has them.

        Args:
            run: The run of the stage, which keeps them.
            model: The trained model.
            train: The training images.
        """
        return frozen.kept(run, model, train, others=[self.path])

    def features_of_all(
        self, run: runs.Run, model: keras.Model, data: inputs.Data
    ) -> inputs.Data | None:
        """The features of all images, where this run has computed them.

        Args:
            run: The run of the stage.
            model: The trained model.
            data: The images.
        """
        return frozen.known(run, model, data, [self.path])

    def compute_features(
        self, run: runs.Run, model: keras.Model, data: inputs.Data
    ) -> inputs.Data:
        """The features of all images, of this run where it has them."""
        return frozen.of_all(run, model, data, others=[self.path])

    @property
    def facts(self) -> dict[str, Any]:
        """What a stage's record says of the training before it.

        `from_flags` are the flags of the runs before, the last one's first.
        """
        train = self.record.train
        before = train.get("from_flags", {})
        return {**train, "from_flags": {**before, **self.record.flags}}

    @property
    def name(self) -> str:
        """What the record of a stage says that it started from."""
        name = self.record.name or self.path.name
        own = f"{name}, seed {self.record.seed}"
        before = self.record.from_run
        return own if before is None else f"{own}, from {before}"

    def finish(
        self,
        run: runs.Run,
        data: inputs.Data,
        model: keras.Model,
        facts: Mapping[str, Any],
        *,
        method: str,
        logit_counts: np.ndarray | None,
        scored: tuple[keras.Model, inputs.Data] | None = None,
        **arguments: Any,
    ) -> None:
        """Leaves what a finished run has, of a stage on features of this one.

        Args:
            run: The run of the stage.
            data: Its images.
            model: The model that the stage has made.
            facts: What its record's `train` says of the stage.
            method: Spec of the stage.
            logit_counts: As in `outcome.Stage`.
            scored: The part of the model behind the features, and what
                `features_of_all` gave; None scores the model on images.
            **arguments: Those of `outcome.finish` that are not of this run.
        """
        facts = {
            **self.facts,
            "num_parameters": model.count_params(),
            **facts,
        }
        fitted, on_features = scored or (None, None)
        stage = outcome.Stage(
            model,
            fitted=fitted,
            scored=on_features,
            method=f"{self.record.method}, {method}",
            epochs=facts["epochs"],
            history=self.record.history,
            facts=facts,
            logit_counts=logit_counts,
            watchers=training.Watchers(
                training.make_tensorboard(run, arguments["classes"])
            ),
            from_run=self.name,
        )
        outcome.finish(
            run,
            data,
            stage,
            batch_size=BATCH_SIZE,
            seed=run.flags["seed"],
            random_resized_crop=self.record.data["random_resized_crop"],
            **arguments,
        )


def one_per_class(model: keras.Model, num_classes: int) -> features.Features:
    """Features that no image has, to try out what will be made of real ones."""
    dim = models.feature_model(model).output.shape[-1]
    return features.Features(
        np.ones((num_classes, dim), "float32"), np.arange(num_classes)
    )
