r"""Trains a classifier on long-tailed images, from a flag file to a report.

    python recipes/cifar_lt.py --flagfile=recipes/flags/quickstart.cfg \
        --workdir=runs/quickstart

The workdir receives the flags in effect (flags.cfg), TensorBoard events,
checkpoints, model.keras, a SavedModel with its model card, result.json and
report.html. The same command goes on where a run was cut, and leaves a
finished run as it is.
"""

import os
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if __name__ == "__main__":  # no traceback of the imports
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import keras
import options
import parts
import stages
import tensorflow as tf
import workdir as workdirs
from absl import flags
from options import FLAGS

from keras_lt import (
    counts,
    distribute,
    export,
    filenames,
    hardware,
    metrics,
    report,
)
from keras_lt.messages import brief

flags.adopt_module_key_flags(options)


def score(model, test, class_counts) -> dict:
    logits, labels = metrics.predict(model, parts.evaluation(test))
    return metrics.evaluate(
        logits,
        labels,
        counts.Classes(class_counts, many=FLAGS.many_shot, few=FLAGS.few_shot),
    )


def undistributed(model, run: workdirs.Workdir) -> keras.Model:
    """A model that is not bound to the devices it was trained on."""
    if run.strategy.num_replicas_in_sync == 1:
        return model
    return parts.load_model(run.path / "model.keras")


def train_and_report(run: workdirs.Workdir) -> None:
    environment = report.environment()
    data = parts.load_data()
    parts.say_left_out()
    train, held_out, test = data
    class_counts = train.class_counts
    print(f"{len(train)} training images, by class: {brief(class_counts)}")
    groups = counts.shot_groups(class_counts, FLAGS.many_shot, FLAGS.few_shot)
    sizes = (f"{group} {mask.sum()}" for group, mask in groups.items())
    print(f"Classes by shot group: {', '.join(sizes)}")
    if FLAGS.method != "dlsa":
        stage = stages.first_stage(run, data)
    if options.ends_on_features() and not run.is_chief:
        return
    method = options.first_stage_name()
    if FLAGS.method == "dlsa":
        stage = stages.divide(run, data)
    elif options.second_stage_name() != "none":
        stage = stages.second_stage(stage, run, data)
        method += f", {options.second_stage_name()}"

    model = stage.model
    results = {
        "last": {**score(model, test, class_counts), "epoch": stage.epochs}
    }
    logit_counts = options.logit_counts(class_counts)
    if run.is_chief:
        run.discard_results()
        run.write("model.keras", model.save)
        exported, images = undistributed(model, run), test.images[:16]
        export.save(
            exported,
            run.path / "saved_model",
            images,
            class_names=train.class_names,
            class_counts=logit_counts,
        )
        if FLAGS.export_litert:
            export.save_litert(exported, run.path / "model.tflite", images)
    if stage.checkpointing and (best := stage.checkpointing.best):
        stage.checkpointing.load_best(model)
        results["best"] = {
            **score(model, test, class_counts),
            "epoch": best["epoch"],
            "chosen_by": stage.checkpointing.monitor,
        }
    if not run.is_chief:
        return
    record = report.Record(
        name=run.name,
        dataset=FLAGS.dataset,
        data={
            "imbalance_factor": FLAGS.imbalance_factor,
            "profile": FLAGS.profile,
            "selection": FLAGS.selection,
            "split_seed": FLAGS.split_seed,
            "holdout": FLAGS.holdout,
            "num_train": len(train),
            "num_test": len(test),
            "num_held_out": len(held_out) if held_out else 0,
            "test_split": FLAGS.test_split or "test",
            "bad_images": parts.bad_images(data),
            "num_classes": train.num_classes,
            "class_names": train.class_names,
            "image_shape": train.image_shape,
            "random_resized_crop": parts.crops_at_random(train),
        },
        class_counts=class_counts,
        shot_thresholds={"many": FLAGS.many_shot, "few": FLAGS.few_shot},
        method=method,
        flags=run.flags,
        seed=FLAGS.seed,
        environment=environment,
        train=stage.facts,
        history=stage.history,
        test=results,
    )
    stages.say_bad_images(data)
    for which, scores in results.items():
        stage.tensorboard.write_test(scores, f"test_{which}", stage.epochs)
        found = metrics.summary(scores)
        print(f"test, {which} epoch ({scores['epoch']}): {found}")
    card = run.path / "saved_model" / "MODEL_CARD.md"
    report.write_model_card(card, record, logit_counts)
    report.write_html(run.path / "report.html", record)
    record.write(run.path / "result.json")


def evaluate_only() -> None:
    if FLAGS.checkpoint is None and FLAGS.workdir is None:
        raise ValueError(
            "Expected --checkpoint or --workdir with --eval_only. "
            "Received: neither"
        )
    path = FLAGS.checkpoint or os.path.join(FLAGS.workdir, "model.keras")
    if not os.path.isfile(path):
        raise FileNotFoundError(
            "Expected a model.keras or .weights.h5 file. "
            f"Received: --checkpoint={path}, which does not exist"
        )
    train, _, test = parts.load_data()
    class_names = report.class_names_of(path)
    if class_names is not None:
        stages.refuse_other_names("checkpoint", path, class_names, train)
    if path.endswith(".weights.h5"):
        model = parts.make_model(train)
        parts.load_weights(model, path)
    else:
        model = parts.load_model(path)
    scores = score(model, test, train.class_counts)
    print(f"test, {path}: {metrics.summary(scores)}")


def set_precision() -> None:
    """Sets the type to compute in, and says what will be slow on this CPU."""
    if FLAGS.mixed_precision == "auto":
        before = None
        if FLAGS.workdir is not None and not FLAGS.overwrite:
            before = workdirs.flag_of_run(FLAGS.workdir, "mixed_precision")
        if before not in options.PRECISIONS:
            before = options.fast_precision()
        FLAGS.mixed_precision = before
    keras.config.set_dtype_policy(options.PRECISIONS[FLAGS.mixed_precision])
    if FLAGS.mixed_precision == "bfloat16" and hardware.emulates_bfloat16():
        print(
            "This CPU emulates bfloat16: training takes 4 (AVX-512) to 20 "
            "times (AVX2) as long as with --mixed_precision=none."
        )
    if hardware.misses_onednn():
        print(
            "oneDNN is off: TF_ENABLE_ONEDNN_OPTS=1 makes training on this CPU "
            "about twice as fast."
        )


def main(argv: list[str]) -> None:
    filenames.escape_output()
    if len(argv) > 1:
        raise ValueError(f"Expected flags only. Received: {argv[1:]}")
    options.check()
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = distribute.strategy(FLAGS.strategy, FLAGS.devices)
    if not distribute.is_chief(strategy):
        sys.stdout = open(os.devnull, "w")  # one of the processes prints
    set_precision()
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.eval_only:
        evaluate_only()
        return
    if FLAGS.workdir is None:
        raise ValueError("Expected --workdir=FOLDER. Received: none")
    shown = filenames.printable(FLAGS.workdir)
    if shown != FLAGS.workdir:  # TensorFlow takes no such path
        raise ValueError(
            "Expected a --workdir in UTF-8, without control characters. "
            f"Received: --workdir={shown}"
        )
    compared = [
        flag
        for flag in FLAGS.get_key_flags_for_module(options)
        if flag.name not in options.NOT_COMPARED
    ]
    with workdirs.Workdir(
        FLAGS.workdir, compared, FLAGS.overwrite, strategy
    ) as run:
        if run.finished:
            print(f"Finished before; nothing is changed in {run.path}.")
        else:
            train_and_report(run)
        if run.is_chief:
            run.say_where()


if __name__ == "__main__":
    workdirs.run_app(main)
