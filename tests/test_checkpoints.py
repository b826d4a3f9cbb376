"""Checkpoints of real, small trainings that are cut in every way."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading

import h5py
import keras
import numpy as np
import pytest

from keras_lt import callbacks, datasets, streams
from keras_lt.callbacks import checkpointing as checkpoints
from keras_lt.layers import FusedBatchNormalization
from keras_lt.losses import ClassBalancedCrossentropy
from keras_lt.metrics import PerClassAccuracy
from keras_lt.schedules import WarmupStepDecay

STEPS = 3


def batches(start_step=0):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 4, 4, 1), "uint8")
    dataset = datasets.from_arrays(images, np.arange(20) % 2)
    return streams.stream(
        dataset,
        sampling="class_balanced",
        batch_size=8,
        seed=0,
        start_step=start_step,
    )


def small_model(seed=0, units=2, extra=False, optimizer=None, metrics=()):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = FusedBatchNormalization(momentum=0.5)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(units)(x)
    if extra:
        x = keras.layers.Dense(2)(x)
    model = keras.Model(inputs, x)
    model.compile(
        optimizer
        or keras.optimizers.SGD(WarmupStepDecay(0.1, 4, [7], [0.1]), 0.9),
        ClassBalancedCrossentropy([10, 10], 0.9),
        metrics=list(metrics),
    )
    return model


def train(
    directory,
    epochs,
    model=None,
    values=None,
    before=(),
    max_to_keep=1,
    **arguments,
):
    """Trains a model, from where the directory is."""
    model = model or small_model()
    checkpointing = callbacks.Checkpointing(
        directory, max_to_keep=max_to_keep, **arguments
    )
    checkpointing.restore(model)

    def log(epoch, logs):
        if values is not None:
            logs["score"] = values[epoch]

    try:
        for step, span in checkpointing.spans(STEPS, STEPS * epochs):
            model.fit(
                batches(step),
                verbose=0,
                callbacks=[
                    keras.callbacks.LambdaCallback(on_epoch_end=log),
                    *before,
                    checkpointing,
                ],
                **span,
            )
    finally:
        checkpoints._WRITER.submit(int).result()  # as a process waits for it
    return model, checkpointing


def state(model):
    return [np.asarray(v) for v in (*model.weights, *model.optimizer.variables)]


def assert_same_state(model, other):
    values, others = state(model), state(other)
    assert len(values) == len(others)
    for value, other_value in zip(values, others, strict=True):
        np.testing.assert_array_equal(value, other_value)


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    whole, whole_checkpointing = train(tmp_path / "whole", 3)
    first, _ = train(tmp_path / "parts", 1)
    second, checkpointing = train(tmp_path / "parts", 3, small_model(seed=9))
    assert_same_state(second, whole)
    assert not np.array_equal(state(first)[-1], state(second)[-1])
    for name in ("loss", "learning_rate"):
        assert checkpointing.history[name] == whole_checkpointing.history[name]


def test_history_over_two_starts(tmp_path):
    _, checkpointing = train(tmp_path, 2)
    assert checkpointing.starts == 1
    _, checkpointing = train(tmp_path, 3)
    assert checkpointing.starts == 2
    history = checkpointing.history
    assert set(history) == {"loss", "learning_rate", "seconds"}
    assert {len(values) for values in history.values()} == {3}
    assert all(0 < seconds < 60 for seconds in history["seconds"])
    # After 3 steps per epoch: 4 / 4, then 1, then 0.1 of the base.
    assert history["learning_rate"] == pytest.approx([0.1, 0.1, 0.01])
    index = json.loads((tmp_path / "checkpoint.json").read_text())
    assert index["history"] == history
    assert index["checkpoints"][0]["epoch"] == 3


def test_seconds_are_of_training_steps(tmp_path):
    clock = [0.0]

    def pass_time(seconds):
        def hook(*args, **kwargs):
            clock[0] += seconds

        return hook

    tick = keras.callbacks.LambdaCallback(
        on_train_batch_begin=pass_time(2.0), on_epoch_end=pass_time(100.0)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.time, "perf_counter", lambda: clock[0])
        _, checkpointing = train(tmp_path, 2, before=[tick])
    assert checkpointing.history["seconds"] == [2.0 * STEPS] * 2


def test_only_scalars_enter_the_history(tmp_path):
    model = small_model(metrics=[PerClassAccuracy(2)])
    _, checkpointing = train(tmp_path, 2, model)
    assert set(checkpointing.history) == {"loss", "learning_rate", "seconds"}


def test_a_finished_training_stays_as_it_is(tmp_path):
    model, _ = train(tmp_path, 2)
    before = files(tmp_path)
    again, _ = train(tmp_path, 2, small_model(seed=9))
    assert_same_state(again, model)
    assert files(tmp_path) == before


def test_keeps_the_latest_only(tmp_path):
    _, checkpointing = train(tmp_path, 3)
    assert checkpointing.best is None
    assert files(tmp_path) == ["checkpoint.json", "epoch-0003.weights.h5"]


def test_keeps_the_best(tmp_path):
    # The best is the first of the equal ones, and survives a second start.
    values = [0.3, 0.7, 0.7, 0.5]
    model, _ = train(tmp_path, 2, monitor="score", values=values)
    weights = model.get_weights()
    _, checkpointing = train(tmp_path, 4, monitor="score", values=values)
    best = checkpointing.best
    assert (best["epoch"], best["value"]) == (2, 0.7)
    assert best["path"] == tmp_path / "epoch-0002.weights.h5"
    assert files(tmp_path) == [
        "checkpoint.json",
        "epoch-0002.weights.h5",
        "epoch-0004.weights.h5",
    ]
    other = small_model(seed=9)
    other.optimizer.build(other.trainable_variables)
    other.load_weights(best["path"])
    for value, want in zip(other.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, want)


def test_nan_is_never_the_best(tmp_path):
    values = [math.nan, 0.2, math.nan]
    _, checkpointing = train(tmp_path, 1, monitor="score", values=values)
    assert checkpointing.best is None
    _, checkpointing = train(tmp_path, 3, monitor="score", values=values)
    assert checkpointing.best["epoch"] == 2


def test_monitor_must_be_in_the_logs(tmp_path):
    with pytest.raises(
        KeyError, match=r"Expected 'score' .* Received: \['learning_rate', "
    ):
        train(tmp_path, 1, monitor="score")


def test_restores_nothing_from_an_empty_directory(tmp_path):
    model = small_model()
    before = model.get_weights()
    checkpointing = callbacks.Checkpointing(tmp_path / "absent")
    assert checkpointing.restore(model) == 0
    assert checkpointing.starts == 1
    for value, want in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, want)


class Cut(keras.callbacks.Callback):
    """Ends a training at the end of a step, counted from its start."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", range(2, 3 * STEPS))
def test_goes_on_within_an_epoch(step, tmp_path):
    def model(seed=0):
        return small_model(seed, metrics=[PerClassAccuracy(2), "accuracy"])

    whole, whole_checkpointing = train(tmp_path / "whole", 3, model())
    path = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train(path, 3, model(), before=[Cut(step)], save_freq_steps=1)
    other, checkpointing = train(path, 3, model(9), save_freq_steps=1)
    assert_same_state(other, whole)
    for name in ("loss", "accuracy", "learning_rate"):
        assert checkpointing.history[name] == whole_checkpointing.history[name]
    assert len(checkpointing.history["seconds"]) == 3


def test_spans():
    def spans(epoch, step, *arguments):
        checkpointing = callbacks.Checkpointing("none")
        checkpointing._epoch, checkpointing._step = epoch, step
        found = []
        for begin, span in checkpointing.spans(10, *arguments):
            found.append((begin, *span.values()))
            checkpointing._epoch, checkpointing._step = span["epochs"], 0
        return found

    assert spans(0, 0, 30) == [(0, 0, 3, 10)]
    assert spans(1, 4, 35) == [(14, 1, 2, 6), (20, 2, 3, 10), (30, 3, 4, 5)]
    assert spans(0, 3, 5) == [(3, 0, 1, 2)]
    assert spans(3, 0, 30) == []
    # Of two epochs, from the first one.
    assert spans(1, 0, 50, 2) == [
        (10, 1, 2, 10),
        (20, 2, 4, 10),
        (40, 4, 5, 10),
    ]


def test_intervals(tmp_path, monkeypatch):
    written = []
    save = keras.saving.save_weights

    def record(model, path, **arguments):
        written.append(path.name.split(".")[0])
        save(model, path, **arguments)

    monkeypatch.setattr(keras.saving, "save_weights", record)
    train(tmp_path / "epochs", 3, save_freq_epochs=2)
    assert written == ["epoch-0002", "epoch-0003"]
    written.clear()
    train(tmp_path / "steps", 2, save_freq_steps=2)
    assert written == [
        "epoch-0000-step-000002",
        "epoch-0001",
        "epoch-0001-step-000002",
        "epoch-0002",
    ]
    written.clear()
    clock = [0.0]

    def tick(*args, **kwargs):
        clock[0] += 50.0

    pass_time = keras.callbacks.LambdaCallback(on_train_batch_begin=tick)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.time, "perf_counter", lambda: clock[0])
        train(
            tmp_path / "minutes", 1, before=[pass_time], save_freq_minutes=1.5
        )
    assert written == ["epoch-0000-step-000002", "epoch-0001"]


def test_keeps_as_many_as_asked_for(tmp_path):
    train(tmp_path, 2, max_to_keep=3, save_freq_steps=1)
    assert files(tmp_path) == [
        "checkpoint.json",
        "epoch-0001-step-000001.metrics.npz",
        "epoch-0001-step-000001.weights.h5",
        "epoch-0001-step-000002.metrics.npz",
        "epoch-0001-step-000002.weights.h5",
        "epoch-0002.weights.h5",
    ]


@pytest.mark.parametrize("how", ["missing", "empty", "text", "cut", "bit"])
@pytest.mark.parametrize("end", ["weights.h5", "metrics.npz"])
def test_uses_the_one_before_a_damaged_one(how, end, tmp_path):
    whole, _ = train(tmp_path / "whole", 2)
    path = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        # After step 5 the latest is that of step 4.
        train(
            path, 2, max_to_keep=2, save_freq_steps=1, before=[Cut(STEPS + 2)]
        )
    damage(path / f"epoch-0001-step-000001.{end}", how)
    with pytest.warns(UserWarning, match="the checkpoint before it is used"):
        other, checkpointing = train(
            path, 2, small_model(seed=9), max_to_keep=2
        )
    assert_same_state(other, whole)
    assert len(checkpointing.history["loss"]) == 2


def test_refuses_other_settings(tmp_path):
    train(tmp_path, 1, settings={"class_counts": [10, 10]})
    with pytest.raises(
        ValueError,
        match=r"it is of class_counts=\[10, 10\], and this training of "
        r"class_counts=\[10, 9\]",
    ):
        train(tmp_path, 2, settings={"class_counts": (10, 9)})
    both = {"class_counts": [10, 10], "class_names": ["a", "b"]}
    train(tmp_path, 2, settings=both)  # one that was not kept before


def test_sigterm(tmp_path):
    whole, _ = train(tmp_path / "whole", 2)

    class Terminate(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    path = tmp_path / "cut"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        train(path, 2, before=[Terminate()], exit_on_sigterm=True)
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert "epoch-0000-step-000002.weights.h5" in files(path)
    other, _ = train(path, 2, small_model(seed=9), exit_on_sigterm=True)
    assert_same_state(other, whole)
    assert signal.getsignal(signal.SIGTERM) is before


class Kill(keras.callbacks.Callback):
    """Sends this process a signal at one of the hooks of a training."""

    def __init__(self, hook, number):
        super().__init__()
        setattr(self, hook, lambda *_, logs=None: os.kill(os.getpid(), number))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_end"])
def test_signals_after_the_last_step(hook, name, tmp_path):
    """As while held-out images are scored, when no further step looks."""
    number = signal.Signals[name]
    before = [signal.getsignal(each) for each in checkpoints._SIGNALS]
    with pytest.raises(SystemExit) as end:
        train(tmp_path, 1, before=[Kill(hook, number)], exit_on_sigterm=True)
    assert end.value.code == 128 + number
    assert [signal.getsignal(each) for each in checkpoints._SIGNALS] == before
    assert "epoch-0001.weights.h5" in files(tmp_path)
    _, checkpointing = train(tmp_path, 1)
    assert checkpointing.position == (1, 0)


def test_sigint_writes_a_checkpoint(tmp_path):
    kill = Kill("on_train_batch_begin", signal.SIGINT)
    with pytest.raises(SystemExit) as end:
        train(tmp_path, 2, before=[kill], exit_on_sigterm=True)
    assert end.value.code == 130
    assert "epoch-0000-step-000001.weights.h5" in files(tmp_path)


def test_handlers_after_an_error_in_fit(tmp_path):
    before = [signal.getsignal(each) for each in checkpoints._SIGNALS]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 2, before=[Cut(2)], exit_on_sigterm=True)
    assert [signal.getsignal(each) for each in checkpoints._SIGNALS] == before
    # `fit` alone tells no callback of its error: the next signal sees to it.
    checkpointing = callbacks.Checkpointing(tmp_path, exit_on_sigterm=True)
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    try:
        with pytest.raises(KeyboardInterrupt):
            small_model().fit(
                batches(),
                steps_per_epoch=STEPS,
                callbacks=[Cut(2), checkpointing],
                verbose=0,
            )
        os.kill(os.getpid(), signal.SIGTERM)
        assert told == [True]
        assert signal.getsignal(signal.SIGINT) == before[0]
    finally:
        signal.signal(signal.SIGTERM, before[1])


def test_a_directory_that_is_deleted_is_not_made_anew(tmp_path):
    path = tmp_path / "run"

    class Delete(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                checkpoints._WRITER.submit(int).result()
                shutil.rmtree(path)

    with pytest.raises(OSError, match=r"epoch-0002.* \(No such file"):
        train(path, 3, before=[Delete()])
    assert not path.exists()


def test_files_of_others_stay(tmp_path):
    tmp_path.joinpath("part-epoch-0001.csv").write_text("mine")
    tmp_path.joinpath("epoch-of-mine.txt").write_text("mine")
    train(tmp_path, 3)
    assert files(tmp_path) == [
        "checkpoint.json",
        "epoch-0003.weights.h5",
        "epoch-of-mine.txt",
        "part-epoch-0001.csv",
    ]


def edited(**changes):
    return lambda index: index["checkpoints"][0].update(changes)


@pytest.mark.parametrize(
    "edit, message",
    [
        (edited(epoch=10**9), "not the .weights.h5 file of epoch 1000000000"),
        (edited(epoch=True), "epoch is True, and no int"),
        (edited(epoch="2"), "epoch is '2', and no int"),
        (edited(epoch=-1), "epoch is -1"),
        (edited(step=1), "not the .weights.h5 file of epoch 2, step 1"),
        (edited(seconds=None), "seconds is None, and no float"),
        (edited(files=["epoch-0002.weights.h5"]), "files is"),
        (edited(files={}), "has 0 files"),
        (edited(files={"../epoch-0002.weights.h5": "0" * 64}), "not the .wei"),
        (edited(files={"epoch-0002.weights.h5": 7}), "is 7, and no str"),
        (edited(files={"epoch-0002.weights.h5": "7"}), "is no SHA-256: '7'"),
        (edited(counters=[1]), r"counters is \[1\]"),
        (lambda index: index.update(history={"loss": 3}), "history.loss is 3"),
        (lambda index: index.update(history={}), "and its history of 0"),
        (lambda index: index.update(starts=None), "starts is None"),
        (lambda index: index.update(settings=[]), "settings is"),
        (lambda index: index.update(checkpoints={}), "checkpoints is"),
        (lambda index: index.update(best=3), "best is 3"),
        (
            lambda index: index["best"].update(file="../../passwords"),
            "best.file is '../../passwords', and not",
        ),
        (
            lambda index: index["best"].update(file="/etc/passwd"),
            "best.file is '/etc/passwd', and not",
        ),
        (lambda index: index["best"].update(value="high"), "best.value"),
        (lambda index: index["best"].update(epoch=2.5), "best.epoch"),
    ],
)
def test_an_index_is_not_believed(edit, message, tmp_path, two_epochs):
    shutil.copytree(two_epochs, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "checkpoint.json"
    index = json.loads(path.read_text())
    edit(index)
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message) as error:
        callbacks.Checkpointing(tmp_path).restore(small_model())
    assert str(path) in str(error.value)


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """Where a training of two epochs is, the first one being the best."""
    folder = tmp_path_factory.mktemp("two_epochs")
    train(folder, 2, monitor="score", values=[0.7, 0.5])
    return folder


def test_a_damaged_best_is_refused_before_training(tmp_path, two_epochs):
    shutil.copytree(two_epochs, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "epoch-0001.weights.h5", "bit")
    with pytest.raises(ValueError, match=r"of the best epoch, is damaged"):
        callbacks.Checkpointing(tmp_path).restore(small_model())


def test_weights_of_the_best_epoch(tmp_path, two_epochs):
    shutil.copytree(two_epochs, tmp_path, dirs_exist_ok=True)
    model = small_model()
    checkpointing = callbacks.Checkpointing(tmp_path)
    with pytest.raises(ValueError, match="which holds none"):
        checkpointing.load_best(model)
    checkpointing.restore(model)
    last = model.get_weights()
    checkpointing.load_best(model)
    assert not np.array_equal(model.get_weights()[-1], last[-1])
    damage(tmp_path / "epoch-0001.weights.h5", "cut")
    with pytest.raises(ValueError, match=r"epoch-0001.* can't be read"):
        checkpointing.load_best(model)


def test_a_position_beyond_the_training(tmp_path, two_epochs):
    checkpointing = callbacks.Checkpointing(two_epochs)
    checkpointing.restore(small_model())
    assert list(checkpointing.spans(STEPS, 2 * STEPS)) == []
    assert list(checkpointing.spans(STEPS, 2 * STEPS - 1)) == []  # a smoke run
    with pytest.raises(ValueError, match=f"of a training of {STEPS} steps"):
        next(checkpointing.spans(STEPS, STEPS))


def test_never_keeps_weights_that_are_not_finite(tmp_path):
    train(tmp_path, 1)
    before = files(tmp_path)

    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kernel = self.model.layers[-1].kernel
            kernel.assign(np.full(kernel.shape, np.nan))

    with pytest.raises(FloatingPointError, match="kernel after step 0 of epo"):
        train(tmp_path, 2, before=[Spoil()])
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"save_freq_epochs": 0},
        {"save_freq_steps": -1},
        {"save_freq_minutes": 0},
        {"max_to_keep": 0},
    ],
)
def test_refuses_intervals_that_are_not_positive(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"positive `{name}`.*{name}={value}"):
        callbacks.Checkpointing("none", **arguments)


def damage(path, how):
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("these are no weights")
    elif how == "bit":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("how", ["missing", "empty", "text", "cut"])
def test_refuses_damaged_weights(tmp_path, how):
    train(tmp_path, 1)
    damage(tmp_path / "epoch-0001.weights.h5", how)
    with pytest.raises(
        ValueError, match=r"Expected a checkpoint (.|\n)*checkpoint.json"
    ):
        callbacks.Checkpointing(tmp_path).restore(small_model())


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", '{"latest": null}', "[" * 10**5]
)
def test_refuses_a_damaged_index(tmp_path, text):
    (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"Expected a checkpoint (.|\n)*checkpoint.json"
    ):
        callbacks.Checkpointing(tmp_path).restore(small_model())


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, {"units": 3}),
        ({}, {"extra": True}),
        ({"extra": True}, {}),
        ({}, {"optimizer": "adam"}),
        ({"optimizer": "adam"}, {}),
    ],
    ids=str,
)
def test_refuses_another_model(tmp_path, written, read):
    train(tmp_path, 1, small_model(**written))
    with pytest.raises(
        ValueError, match=r"Expected a checkpoint of this model"
    ):
        callbacks.Checkpointing(tmp_path).restore(small_model(**read))


@pytest.mark.parametrize("fatal", ["weights", 1, 2, "unlink"])
def test_a_kill_leaves_a_whole_checkpoint(tmp_path, monkeypatch, fatal):
    """Ends the writing of epoch 2 in its middle, then goes on."""
    whole, _ = train(tmp_path / "whole", 3)
    path = tmp_path / "killed"
    train(path, 1)
    replace, calls = os.replace, []

    def killed(what, *args, **kwargs):
        raise KeyboardInterrupt

    def replace_until(*args):
        calls.append(args)
        if len(calls) == fatal:
            raise KeyboardInterrupt
        replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_until)
        if fatal == "weights":
            patch.setattr(keras.saving, "save_weights", killed)
        if fatal == "unlink":
            patch.setattr(checkpoints.Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            train(path, 2)
    over = callbacks.Checkpointing(path).restore(small_model())
    assert over == (2 if fatal == "unlink" else 1)
    model, checkpointing = train(path, 3, small_model(seed=9))
    assert_same_state(model, whole)
    assert len(checkpointing.history["loss"]) == 3
    assert files(path) == ["checkpoint.json", "epoch-0003.weights.h5"]


# What a process in a name space of its own does to a disk of its own.
ON_A_DISK = """
import subprocess, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_checkpoints as t

fault, disk = sys.argv[2], Path(sys.argv[3])
mount = "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk
subprocess.run(mount, check=True)
whole, _ = t.train(Path(sys.argv[4]), 4)
t.train(disk / "run", 2)
before = t.files(disk / "run")
if fault == "full":
    with open(disk / "other", "wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            pass
else:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
try:
    t.train(disk / "run", 4, t.small_model(9))
except OSError as error:
    print(error)
assert t.files(disk / "run") == before, t.files(disk / "run")
if fault == "full":
    (disk / "other").unlink()
else:
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
model, _ = t.train(disk / "run", 4, t.small_model(9))
t.assert_same_state(model, whole)
"""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("full", "No space left on device"),
        ("read-only", "Read-only file system"),
    ],
)
def test_a_disk_that_can_not_be_written(fault, reason, tmp_path):
    unshare = ["unshare", "--map-root-user", "--mount"]
    try:
        mount = [*unshare, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this system lets no test mount a disk: {error}")
    disk = tmp_path / "disk"
    disk.mkdir()
    here = os.path.dirname(__file__)
    process = subprocess.run(
        [
            *(*unshare, sys.executable, "-c", ON_A_DISK),
            *(here, fault, disk, tmp_path / "whole"),
        ],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == (
        "Expected a folder with room that can be written. "
        f"Received: {disk}/run/epoch-0003.weights.h5 ({reason}); "
        "epoch-0002.weights.h5 is as it was"
    )


def test_a_file_that_can_not_grow(tmp_path):
    code = f"""
import resource, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import test_checkpoints as t
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
t.train(Path(sys.argv[1]), 2)
"""
    process = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True
    )
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        "OSError: Expected a folder with room that can be "
        f"written. Received: {tmp_path}/epoch-0001.weights.h5 (File too "
        "large); there was none before"
    )
    assert files(tmp_path) == []
    train(tmp_path, 1)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The file holds the state of the step that it is of."""
    model = small_model()
    states, go_on = [], threading.Event()
    save = keras.saving.save_weights

    def wait(*arguments, **options):
        assert go_on.wait(60)
        save(*arguments, **options)

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            states.append(state(self.model))
            if batch == 1:  # a step after the one that was to be written
                assert not list(tmp_path.glob("*.h5"))
                go_on.set()

    monkeypatch.setattr(keras.saving, "save_weights", wait)
    train(tmp_path, 1, model, before=[Look()], save_freq_steps=1, max_to_keep=3)
    for step in (1, 2):
        other = small_model(seed=9)
        other.optimizer.build(other.trainable_variables)
        other.load_weights(tmp_path / f"epoch-0000-step-{step:06d}.weights.h5")
        for value, want in zip(state(other), states[step - 1], strict=True):
            np.testing.assert_array_equal(value, want)
    assert not np.array_equal(states[0][0], states[1][0])


@pytest.mark.parametrize("step", [1, STEPS])
def test_an_error_of_the_thread_ends_the_training(step, tmp_path, monkeypatch):
    steps = []

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            steps.append(batch)

        def on_train_batch_end(self, batch, logs=None):
            checkpoints._WRITER.submit(int).result()

    monkeypatch.setattr(checkpoints.Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left on device"):
        train(tmp_path, 1, before=[Look()], save_freq_steps=step)
    # It is seen after the step that follows, or when training ends.
    assert len(steps) == min(step + 1, STEPS)
    assert files(tmp_path) == []


def test_state_of_a_loss_scale(tmp_path):
    """Its optimizer is within another one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        whole, _ = train(tmp_path / "whole", 2)
        train(tmp_path / "parts", 1)
        other, _ = train(tmp_path / "parts", 2, small_model(seed=9))
    finally:
        keras.config.set_dtype_policy(before)
    assert_same_state(other, whole)
    plain = small_model(seed=9)
    plain.load_weights(tmp_path / "parts" / "epoch-0002.weights.h5")
    for value, want in zip(
        plain.get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(value, want)


def test_has_what_save_weights_writes(tmp_path):
    model, _ = train(tmp_path, 1, small_model(optimizer="adam"))
    model.save_weights(tmp_path / "keras.weights.h5")
    contents = []
    for name in ("epoch-0001", "keras"):
        found = {}
        with h5py.File(tmp_path / f"{name}.weights.h5") as file:
            file.visititems(
                lambda path, item, found=found: found.update(
                    {path: np.array(item)}
                    if isinstance(item, h5py.Dataset)
                    else {}
                )
            )
        contents.append(found)
    assert contents[0].keys() == contents[1].keys()
    for path, value in contents[0].items():
        np.testing.assert_array_equal(value, contents[1][path])
