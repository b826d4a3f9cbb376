"""What the flags of older records are called now."""

# Of flags that the oldest records do not have.
_DEFAULTS = {
    "auxiliary_weight": 1.0,
    "auxiliary_schedule": "constant",
    "augment": "standard",
    "balanced_sampling": "class_balanced",
    "drs_epoch": None,
    "flip": True,
    "joint_forward": False,
    "max_margin": 0.5,
    "mix": "none",
    "mix_alpha": 1.0,
    "optimizer": "sgd",
    "scale": 30.0,
    "steps_per_epoch": None,
    "tau": 1.0,
    "width": 1,
}
# Flags that have kept their names.
_SAME = (
    *("dataset", "imbalance_factor", "profile", "selection", "split_seed"),
    *("holdout", "many_shot", "few_shot", "l2", "epochs", "batch_size"),
    *("steps_per_epoch", "seed", "drw_epoch"),
)


def is_of_cifar_lt(old: dict) -> bool:
    """Whether flags of a record are of a run with one stage."""
    return (
        old["method"] in ("single", "dual_branch")
        and old.get("stage2", "none") == "none"
    )


def translated(record: dict) -> dict:
    """Returns the flags of `cifar_lt.py`, made of those of a record."""
    old = _DEFAULTS | record
    assert old["auxiliary_weight"] == 1.0 and old["flip"] and old["width"] == 1
    assert old["auxiliary_schedule"] == "constant"
    assert old["augment"] == "standard" and old["drs_epoch"] is None
    dual, mix = old["method"] == "dual_branch", old["mix"]
    depth = old["backbone"].removeprefix("cifar_resnet")
    assert depth in ("20", "32") and old["optimizer"] == "sgd"
    return {
        **{name: old[name] for name in _SAME},
        "augment": f"pad_crop_flip({old['padding']})",
        "mix": None if mix == "none" else f"{mix}({old['mix_alpha']})",
        "backbone": f"cifar_resnet({depth})",
        "loss": _loss(old),
        "learning_rate": _learning_rate(old),
        # Keras' own, as it was called.
        "optimizer": f"keras_sgd(momentum={old['momentum']})",
        "sampling": old["balanced_sampling"] if dual else old["sampling"],
        "auxiliary": old["auxiliary"] if dual else None,
        "auxiliary_sampling": old["sampling"] if dual else None,
        "joint_forward": dual and old["joint_forward"],
    }


def _loss(old: dict) -> str:
    name, arguments = old["loss"], []
    if name == "ldam":
        arguments += [f"max_margin={old['max_margin']}"]
        arguments += [f"scale={old['scale']}"]
    if name == "logit_adjusted":
        arguments += [f"tau={old['tau']}"]
    if name.startswith("class_balanced") or old["drw_epoch"] is not None:
        arguments += [f"beta={old['beta']}"]
    if name in ("class_balanced_focal", "focal"):
        arguments += [f"gamma={old['gamma']}"]
    if old["normalizer"] is not None:
        arguments += [f"normalizer={old['normalizer']!r}"]
    return f"{name}({','.join(arguments)})" if arguments else name


def _learning_rate(old: dict) -> str:
    rate, warmup = old["learning_rate"], old["warmup_epochs"]
    if old["decay"] == "cosine":
        return f"cosine({rate},warmup={warmup})"
    epochs, factors = (
        f"[{','.join(old[f'decay_{name}'])}]" for name in ("epochs", "factors")
    )
    return f"warmup_step({rate},{epochs},{factors},warmup={warmup})"
