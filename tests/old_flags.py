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
    *("holdout", "many_shot", "few_shot", "epochs", "batch_size"),
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
    assert depth in ("20", "32")
    return {
        **{name: old[name] for name in _SAME},
        "l2": 0.0,
        "augment": f"pad_crop_flip({old['padding']})",
        "mix": None if mix == "none" else f"{mix}({old['mix_alpha']})",
        "backbone": f"cifar_resnet({depth})",
        "loss": _loss(old),
        "learning_rate": _learning_rate(old),
        "optimizer": _optimizer(old),
        "sampling": old["balanced_sampling"] if dual else old["sampling"],
        "auxiliary": old["auxiliary"] if dual else None,
        "auxiliary_sampling": old["sampling"] if dual else None,
        "joint_forward": dual and old["joint_forward"],
    }


def pretrained(record: dict) -> dict:
    """Returns the flags of `pretrain.py`, made of those of a record."""
    old = _DEFAULTS | record
    assert old["temperature"] is None
    depth = old["backbone"].removeprefix("cifar_resnet")
    views = (
        f"simclr(min_area={old['min_area']},jitter={old['jitter']},"
        f"blur={old['blur']})"
    )
    names = {"bns": "bns", "simclr": "nt_xent", "supcon": "supcon"}
    return {
        **{name: old[name] for name in _SAME if name != "drw_epoch"},
        "l2": 0.0,
        "projection_dim": old["projection_dim"],
        "views": views,
        "backbone": f"cifar_resnet({depth})",
        "loss": names[old["stage1"]],
        "learning_rate": _learning_rate(old),
        "optimizer": _optimizer(old),
        "sampling": old["sampling"],
    }


def second_stage(record: dict) -> dict:
    """Returns the flags of `second_stage.py`, made of those of a record."""
    old, stage = _DEFAULTS | record, record["stage2"]
    if old["method"] == "linear_probe":
        stage = "linear_probe"
    if stage == "tau":
        stage += f"({old['stage2_tau']})"
    return {
        "stage": stage,
        "loss": old.get("stage2_loss", "crossentropy"),
        "sampling": old["stage2_sampling"],
        "epochs": old["stage2_epochs"],
        "batch_size": old["batch_size"],
        "learning_rate": f"cosine({old['stage2_learning_rate']})",
        # The scales of LWS decay now, as in the published code.
        "optimizer": _sgd(old),
    }


def ip_dpp(record: dict) -> dict:
    """Returns the flags of `ip_dpp.py`, made of those of a record."""
    old, size = _DEFAULTS | record, record["subset_size"]
    assert not old["score_augmented"] and old["augment"] == "standard"
    subsets, sampling = {
        "ip_dpp": (f"ip_dpp({size},scale={old['dpp_scale']!r})", "random"),
        "random_balanced": (f"random({size})", "random"),
        "class_balanced": (f"all({size})", "class_balanced"),
        "instance": (f"all({size})", "random"),
    }[old["stage2"]]
    return {
        "subsets": subsets,
        "sampling": sampling,
        "loss": "crossentropy",
        "epochs": old["stage2_epochs"],
        "epochs_per_round": old["resample_epochs"],
        "batch_size": old["stage2_batch_size"],
        "learning_rate": (
            f"cosine({old['stage2_learning_rate']},"
            f"warmup={old['stage2_warmup_epochs']})"
        ),
        "optimizer": _optimizer(old),
        "augment": f"pad_crop_flip({old['padding']})",
        "freeze_features": old["stage2_freeze"],
        "l2": 0.0,
    }


def dlsa(record: dict) -> dict:
    """Arguments of the objects of `dlsa.py`, made of flags of a record."""
    return {
        "dlsa": {
            "depth": record["dlsa_depth"],
            "num_clusters": record["dlsa_clusters"],
            "llh_proportion": record["llh_proportion"],
            "center_std": record["dlsa_center_std"],
            "classifier": record["dlsa_classifier"],
            "z": record["dlsa_z"],
        },
        "flow": {
            "epochs": record["dlsa_flow_epochs"],
            "learning_rate": record["dlsa_flow_learning_rate"],
            **{
                name: record[f"dlsa_{name}"]
                for name in (
                    "weight_power",
                    "likelihood_factor",
                    "contrast_factor",
                    "balance_factor",
                    "posterior_momentum",
                )
            },
        },
        "classifier": {
            "epochs": record["dlsa_classifier_epochs"],
            "learning_rate": record["dlsa_classifier_learning_rate"],
            "loss": record["dlsa_loss"],
        },
    }


def _optimizer(old: dict) -> str:
    if old["optimizer"] == "sgd":
        return _sgd(old)
    assert old["l2"] == 0
    return f"adamw(weight_decay={old['weight_decay']},beta_2=0.95)"


def _sgd(old: dict) -> str:
    """The published form of what was Keras' own, with the decay in the loss."""
    decay = {0.0: "", 1e-4: ",weight_decay=2e-4"}[old["l2"]]
    return f"sgd(momentum={old['momentum']}{decay})"


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
