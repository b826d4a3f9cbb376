"""Tells whether two checkouts of this project train to the same numbers.

    python tools/same_numbers.py ../before . --cache=runs/same_numbers

Each case below is a short run of a method on the embedded digits, in float32
with deterministic ops and one thread, of the smallest of our networks. The
weights of its model, the figures of its record and the prior that its
SavedModel takes out of logits must agree bit for bit (the prior to five
digits). Use it for changes of the code that must not change results: keep a
checkout of the commit before, and compare.

What a case of a commit gave is kept in --cache and not computed again, but for
checkouts with changes that are not committed. Each case runs in a process that
is forked from one that has imported TensorFlow and the library of the checkout.

The flags of recipes change with time: a case holds its command in each form
that a checkout may have, and `form_of` tells the form of a checkout.
"""

import argparse
import fnmatch
import hashlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import command_line


class Case(NamedTuple):
    """A run of a recipe.

    Attributes:
        name: Its name.
        one_script: Its command where cifar_lt.py does all methods.
        stages: Its command where each stage has a script of its own.
        one_script_file: The file that holds the model in the first form.
        compared: What its numbers are compared by, all where empty.

    `{NAME}` in a command is the folder of the case of this name.
    """

    name: str
    one_script: str
    stages: str
    one_script_file: str = "model.keras"
    compared: tuple[str, ...] = ()


# Twenty steps of two epochs, with all parts of a learning rate.
_SHARED = "--deterministic --mixed_precision=none "
_DATA = "--dataset=digits --imbalance_factor=20 --many_shot=60 --few_shot=20 "
_STEPS = "--epochs=2 --steps_per_epoch=10 --batch_size=16 "
_OLD = (
    f"cifar_lt.py {_SHARED}{_DATA}{_STEPS}--backbone=cifar_resnet20 "
    "--learning_rate=0.05 --warmup_epochs=0.5 "
)
_OLD_RATE = "--decay_epochs=1.5 --decay_factors=0.1 "
_OLD_SINGLE = _OLD + _OLD_RATE + "--padding=1 "
_NEW = (
    f"cifar_lt.py {_SHARED}{_DATA}{_STEPS}--backbone=cifar_resnet(8) "
    "--augment=pad_crop_flip(1) "
    "--learning_rate=warmup_step(0.05,[1.5],[0.1],warmup=0.5) "
)


# Second stages once took these from the first one.
_FEATURES = "--batch_size=16 --steps_per_epoch=10 "


def _single(name: str, one_script: str, stages: str) -> Case:
    return Case(name, _OLD_SINGLE + one_script, _NEW + stages)


def _pretrained(name: str, stage1: str, loss: str) -> Iterator[Case]:
    """A contrastive first stage, and a linear probe of its features."""
    old = (
        f"{_OLD}--method=linear_probe --stage1={stage1} --decay=cosine "
        "--optimizer=adamw --l2=0 --projection_dim=32 --min_area=0.5 "
        "--stage2_epochs=2"
    )
    new = (
        f"pretrain.py {_SHARED}{_DATA}{_STEPS}--backbone=cifar_resnet(8) "
        f"--loss={loss} --learning_rate=cosine(0.05,warmup=0.5) "
        "--optimizer=adamw(weight_decay=0.05,beta_2=0.95) --l2=0 "
        "--projection_dim=32 --views=simclr(0.5)"
    )
    # A run of pretrain.py has a classifier of its own, so its network is
    # compared within the linear probe.
    yield Case(name, old, new, "stage1.keras", ("history", "class_counts"))
    yield Case(
        f"{name}_linear_probe",
        old,
        f"second_stage.py --from={{{name}}} --stage=linear_probe(l2=0.0) "
        f"--epochs=2 {_FEATURES}{_SHARED}",
    )


def _second(name: str, first: str, old_first: str, old: str, new: str) -> Case:
    """A classifier on the features of a case of the list."""
    learns = "--epochs" in new
    return Case(
        name,
        f"{_OLD_SINGLE}{old_first} --stage1_workdir={{{first}}} "
        f"--stage2_epochs=2 {old}",
        f"second_stage.py --from={{{first}}} {new} "
        f"{_FEATURES if learns else ''}{_SHARED}",
        # One that does not learn has no batch size, and the sizes of the
        # batches that are scored round the eleventh digit of the ECE.
        compared=() if learns else ("weights", "test.last.confusion"),
    )


def _subsets(name: str, kind: str, new: str, old: str = "") -> Case:
    """The contrastive first stage, then training on balanced subsets."""
    return Case(
        name,
        f"{_OLD}--method=bns_ipdpp --stage1=bns --decay=cosine "
        "--optimizer=adamw --l2=0 --projection_dim=32 --min_area=0.5 "
        f"--stage1_workdir={{bns}} --stage2={kind} --subset_size=20 "
        "--resample_epochs=1 --stage2_epochs=2 --stage2_batch_size=16 "
        f"--stage2_warmup_epochs=1 --stage2_learning_rate=0.001 {old}",
        f"ip_dpp.py --from={{bns}} --subsets={new} --epochs_per_round=1 "
        "--epochs=2 --batch_size=16 --learning_rate=cosine(0.001,warmup=1) "
        f"{_SHARED}",
    )


def _division(name: str, first: str, new: str, old: str = "") -> Case:
    old_first = "--method=dual_branch --auxiliary=classifier"
    return Case(
        name,
        f"{_OLD_SINGLE}{old_first if first == 'dual_branch' else ''} "
        f"--method=dlsa --features_from={{{first}}} --dlsa_clusters=4 "
        f"--dlsa_flow_epochs=2 --dlsa_classifier_epochs=3 {old}",
        f"dlsa.py --from={{{first}}} {new} --flow=flow(epochs=2) {_SHARED}",
    )


_DUAL = "--method=dual_branch --auxiliary="
_NEW_DUAL = "--sampling=class_balanced --auxiliary="
CASES = (
    _single("ce", "", ""),
    _single("best_epoch", "--holdout=0.1", "--holdout=0.1"),
    _single(
        "class_balanced",
        "--loss=class_balanced --beta=0.99 --normalizer=nonzero",
        "--loss=class_balanced(beta=0.99,normalizer='nonzero')",
    ),
    _single(
        "class_balanced_sigmoid",
        "--loss=class_balanced_sigmoid --beta=0.99",
        "--loss=class_balanced_sigmoid(beta=0.99)",
    ),
    _single(
        "class_balanced_focal",
        "--loss=class_balanced_focal --beta=0.99 --gamma=2",
        "--loss=class_balanced_focal(beta=0.99,gamma=2.0)",
    ),
    _single("focal", "--loss=focal --gamma=2", "--loss=focal(gamma=2.0)"),
    _single(
        "balanced_softmax",
        "--loss=balanced_softmax",
        "--loss=balanced_softmax",
    ),
    _single(
        "logit_adjusted",
        "--loss=logit_adjusted --tau=0.5",
        "--loss=logit_adjusted(tau=0.5)",
    ),
    _single(
        "label_aware_smoothing",
        "--loss=label_aware_smoothing --head=0.4 --tail=0.1",
        "--loss=label_aware_smoothing(head=0.4,tail=0.1)",
    ),
    _single(
        "ce_drw",
        "--loss=class_balanced --beta=0.99 --normalizer=weight_sum "
        "--drw_epoch=1",
        "--loss=class_balanced(beta=0.99,normalizer='weight_sum') "
        "--drw_epoch=1",
    ),
    _single(
        "ldam_drw",
        "--loss=ldam --beta=0.99 --normalizer=weight_sum --drw_epoch=1",
        "--loss=ldam(beta=0.99,normalizer='weight_sum') --drw_epoch=1",
    ),
    _single("mixup", "--mix=mixup", "--mix=mixup(1.0)"),
    _single(
        "remix",
        "--mix=remix --mix_alpha=0.5 --loss=class_balanced --beta=0.99",
        "--mix=remix(alpha=0.5) --loss=class_balanced(beta=0.99)",
    ),
    _single(
        "cutmix_strong",
        "--mix=cutmix --augment=strong",
        "--mix=cutmix(1.0) --augment=pad_crop_flip(1)|rand_augment|cutout(4)",
    ),
    _single(
        "class_balanced_sampling",
        "--sampling=class_balanced",
        "--sampling=class_balanced",
    ),
    _single(
        "square_root_sampling",
        "--sampling=square_root",
        "--sampling=square_root",
    ),
    _single(
        "progressive_sampling",
        "--sampling=progressive",
        "--sampling=progressive",
    ),
    _single(
        "half_balanced_sampling",
        "--sampling=half_balanced",
        "--sampling=half_balanced",
    ),
    _single(
        "drs",
        "--drs_epoch=1",
        "--sampling=switched(random,class_balanced,1)",
    ),
    Case(
        "adamw_cosine",
        f"{_OLD}--padding=1 --decay=cosine --optimizer=adamw "
        "--backbone_learning_rate_factor=0.1 --noflip",
        _NEW + "--learning_rate=cosine(0.05,warmup=0.5) "
        "--optimizer=adamw(weight_decay=0.05,beta_2=0.95) "
        "--backbone_learning_rate_factor=0.1 "
        "--augment=pad_crop_flip(1,flip=False)",
    ),
    _single("dual_branch", f"{_DUAL}classifier", f"{_NEW_DUAL}classifier"),
    _single(
        "dual_branch_joint",
        f"{_DUAL}classifier --joint_forward",
        f"{_NEW_DUAL}classifier --joint_forward",
    ),
    _single(
        "dual_branch_rotation",
        f"{_DUAL}rotation --auxiliary_schedule=linear --auxiliary_weight=0.5",
        f"{_NEW_DUAL}rotation(weight=linear(0.5))",
    ),
    _single(
        "dual_branch_contrastive",
        f"{_DUAL}contrastive --auxiliary_schedule=cumulative",
        f"{_NEW_DUAL}contrastive(weight=cumulative(1.0))",
    ),
    _single(
        "dual_branch_ldam",
        f"{_DUAL}classifier --loss=ldam --sampling=square_root "
        "--balanced_sampling=reversed",
        "--sampling=reversed --auxiliary=classifier --loss=ldam "
        "--auxiliary_sampling=square_root",
    ),
    *_pretrained("bns", "bns", "bns"),
    *_pretrained("simclr", "simclr", "nt_xent"),
    *_pretrained("supcon", "supcon", "supcon"),
    _second("crt", "ce", "", "--stage2=crt", "--stage=crt --epochs=2"),
    _second(
        "crt_balanced_softmax",
        "ce",
        "",
        "--stage2=crt --stage2_loss=balanced_softmax --stage2_sampling=random",
        "--stage=crt --epochs=2 --loss=balanced_softmax --sampling=random",
    ),
    _second(
        "crt_on_dual_branch",
        "dual_branch",
        f"{_DUAL}classifier",
        "--stage2=crt",
        "--stage=crt --epochs=2",
    ),
    _second("lws", "ce", "", "--stage2=lws", "--stage=lws --epochs=2"),
    _second(
        "tau", "ce", "", "--stage2=tau --stage2_tau=0.7", "--stage=tau(0.7)"
    ),
    _second("ncm", "ce", "", "--stage2=ncm", "--stage=ncm"),
    _subsets("ip_dpp", "ip_dpp", "ip_dpp(20)"),
    _subsets(
        "ip_dpp_n",
        "ip_dpp",
        "ip_dpp(20,scale='n',augmented=True)",
        "--dpp_scale=n --score_augmented",
    ),
    _subsets(
        "random_balanced",
        "random_balanced",
        "random(20) --freeze_features",
        "--stage2_freeze",
    ),
    _subsets(
        "class_balanced_subsets",
        "class_balanced",
        "all(20) --sampling=class_balanced",
    ),
    _subsets("instance_subsets", "instance", "all(20)"),
    _division(
        "dlsa",
        "ce",
        "--dlsa=dlsa(num_clusters=4) --classifier=classifier(epochs=3)",
    ),
    _division(
        "dlsa_on_dual_branch",
        "dual_branch",
        "--dlsa=dlsa(num_clusters=4,classifier='cosine',z='features') "
        "--classifier=classifier(epochs=3,loss='crossentropy')",
        "--dlsa_classifier=cosine --dlsa_z=features --dlsa_loss=crossentropy",
    ),
)


def form_of(checkout: Path) -> str:
    """The form of the commands that a checkout understands."""
    stages = checkout / "recipes" / "flag_groups.py"
    return "stages" if stages.exists() else "one_script"


def commit_of(checkout: Path) -> str | None:
    """The commit of a checkout; None with changes that are not committed."""

    def git(*command):
        return subprocess.run(
            ["git", "-C", str(checkout), *command],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return None if changed else git("rev-parse", "HEAD")[:12]


def needed(cases: tuple[Case, ...], form: str) -> list[Case]:
    """Returns the cases with those that they start from, in order."""
    wanted = {case.name for case in cases}
    for case in reversed(CASES):
        if case.name in wanted:
            command = getattr(case, form)
            wanted |= {c.name for c in CASES if f"{{{c.name}}}" in command}
    return [case for case in CASES if case.name in wanted]


def run_cases(
    checkout: Path, form: str, folder: Path, names: list[str]
) -> None:
    """Runs the cases that have no numbers in `folder` yet."""
    import keras  # noqa: F401 - so that the processes of the cases have it
    import tensorflow as tf  # noqa: F401

    import keras_lt

    found = Path(keras_lt.__file__).resolve().parents[1]
    if found != checkout:
        raise ValueError(
            f"Expected the library of {checkout}. Received: that of {found}"
        )
    for case in needed(tuple(c for c in CASES if c.name in names), form):
        run = folder / case.name
        if (run / "numbers.json").exists():
            continue
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            _be_case(case, checkout, form, folder)
        _, status = os.waitpid(child, 0)
        print(f"{case.name}: {'failed' if status else 'done'}", flush=True)


def _be_case(case: Case, checkout: Path, form: str, folder: Path) -> None:
    """Runs a case and writes its numbers, as a process that then ends."""
    folders = {c.name: folder / c.name / "run" for c in CASES}
    run = folders[case.name]
    script, *arguments = getattr(case, form).format_map(folders).split()
    script = checkout / "recipes" / script
    log = os.open(run.parent / "log.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        sys.argv = [str(script), *arguments, f"--workdir={run}"]
        sys.path.insert(0, str(script.parent))
        if form == "one_script":  # whose flags can't say so small a network
            __import__("options").DEPTHS["cifar_resnet20"] = 8
        try:
            runpy.run_path(str(script), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code or 0
        if status == 0:
            name = case.one_script_file if form == FORMS[0] else "model.keras"
            numbers = {
                "weights": weights(run / name),
                **figures(json.loads((run / "result.json").read_text())),
                **prior(run / "saved_model"),
            }
            part = run.parent / "numbers.part"
            part.write_text(json.dumps(numbers))
            part.rename(run.parent / "numbers.json")
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        os._exit(min(int(status), 255))


FORMS = Case._fields[1:3]


def weights(path: Path) -> list[str]:
    """Digests of the weights of a .keras file, whatever their names are."""
    import h5py

    found = []

    def visit(name, value):
        if isinstance(value, h5py.Dataset) and "optimizer" not in name:
            digest = hashlib.sha256(value[()].tobytes()).hexdigest()[:16]
            found.append(f"{value.shape} {value.dtype} {digest}")

    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(visit)
    return sorted(found)


def figures(record: dict) -> dict:
    """Figures of a record that depend on no clock, by their place in it."""
    found = {}

    def visit(place, value):
        if isinstance(value, dict):
            for key, each in value.items():
                if "seconds" not in key:
                    visit(f"{place}.{key}", each)
        elif not isinstance(value, str):
            found[place] = value

    for key in ("class_counts", "history", "test"):
        visit(key, record.get(key))
    train = record.get("train", {})
    for key in ("steps", "epochs", "levels", "test_levels", "draws"):
        for index, value in enumerate(_listed(train.get(key))):
            visit(f"train.{key}.{index}", value)
    return found


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]


def prior(folder: Path) -> dict:
    """What a SavedModel takes out of its logits to be without prior."""
    import numpy as np
    import tensorflow as tf

    if not folder.exists():
        return {}
    signatures = tf.saved_model.load(str(folder)).signatures
    if "serve_prior" not in signatures:
        return {"prior": None}
    serve = signatures["serve_prior"]
    specs = serve.structured_input_signature[1]
    images = np.zeros([2, 8, 8, specs["images"].shape[-1]], "uint8")
    shares = np.full(specs["prior"].shape, 0.1, "float32")
    plain = signatures["serving_default"](images=tf.constant(images))
    given = serve(images=tf.constant(images), prior=tf.constant(shares))
    # log(q / n), of which a constant of all classes means nothing.
    taken = (plain["logits"] - given["logits"]).numpy()[0].astype(float)
    return {"prior": [round(float(x), 4) for x in taken - taken.min()]}


def numbers_of(checkout: Path, cases: tuple[Case, ...], cache: Path) -> dict:
    """Returns the numbers of each case by its name; None where it failed."""
    commit, form = commit_of(checkout), form_of(checkout)
    folder = cache / (commit or "changed")
    if commit is None:
        shutil.rmtree(folder, ignore_errors=True)
    missing = [
        case.name
        for case in cases
        if not (folder / case.name / "numbers.json").exists()
    ]
    if missing:
        print(f"{len(missing)} cases of {checkout}", flush=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(checkout),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "1",
            "TF_NUM_INTRAOP_THREADS": "1",
        }
        subprocess.run(
            [
                *(sys.executable, __file__, str(checkout), str(folder)),
                *("--form", form, "--cases", *missing),
            ],
            env=environment,
            cwd=checkout,
            check=True,
        )
    return {case.name: read(folder / case.name) for case in cases}


def read(folder: Path) -> dict | None:
    path = folder / "numbers.json"
    return json.loads(path.read_text()) if path.exists() else None


def differences(
    before: dict, after: dict, compared: tuple[str, ...] = ()
) -> list[str]:
    """Places whose values differ; only one of the two may lack a place."""
    found = []
    for place in sorted({*before} & {*after}):
        if compared and not place.startswith(compared):
            continue
        if before[place] != after[place]:
            shown = [str(each)[:60] for each in (before[place], after[place])]
            found.append(f"{place}: {shown[0]} became {shown[1]}")
    return found


def compare(before: dict, after: dict) -> bool:
    """Prints what differs; returns whether nothing does."""
    same = True
    for name in before:
        if before[name] is None or after[name] is None:
            which = "before" if before[name] is None else "after"
            print(f"{name}: no numbers {which}, see its log.txt")
            same = False
            continue
        (case,) = (case for case in CASES if case.name == name)
        found = differences(before[name], after[name], case.compared)
        same = same and not found
        print(f"{name}: {'DIFFERS' if found else 'the same'}")
        for line in found:
            print(f"    {line}")
        for which, one, other in (
            ("before", before[name], after[name]),
            ("after", after[name], before[name]),
        ):
            if lacking := sorted({*one} - {*other}):
                print(f"    only {which}: {', '.join(lacking)}")
    return same


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("before", type=Path, help="Checkout to compare with.")
    parser.add_argument("after", type=Path, help="Checkout to compare.")
    parser.add_argument(
        "--only",
        nargs="+",
        default=["*"],
        metavar="PATTERN",
        help="Names of cases, with * for any text (default: all cases).",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="Folder that keeps the numbers of commits (default: none).",
    )
    # For the process of a checkout, which this script starts itself.
    parser.add_argument("--form", help=argparse.SUPPRESS)
    parser.add_argument("--cases", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    before, after = arguments.before.resolve(), arguments.after.resolve()
    if arguments.form:
        run_cases(before, arguments.form, after, arguments.cases)
        return
    cases = tuple(
        case
        for case in CASES
        if any(fnmatch.fnmatch(case.name, each) for each in arguments.only)
    )
    if not cases:
        parser.error(f"no case is named {' or '.join(arguments.only)}")
    with tempfile.TemporaryDirectory() as temporary:
        cache = (arguments.cache or Path(temporary)).resolve()
        same = compare(
            numbers_of(before, cases, cache), numbers_of(after, cases, cache)
        )
    sys.exit(not same)


if __name__ == "__main__":
    main()
