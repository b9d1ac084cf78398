"""All settings of a run: read from gin files, and held to those that a run began with.

Settings are {scope: {parameter: value}}, complete with defaults, of the scopes `train`, `env` and the algorithm's own.
"""

from pathlib import Path

from tfsac.algorithms import registry
from tfsac.data.envs import EnvSettings
from tfsac.errors import require
from tfsac.run import config
from tfsac.run.loop import TrainSettings
from tfsac.trust import check_trusted

# What a resumed run may change: none of it touches what is learned up to a given step.
RESUMABLE = ("train.total_steps", "train.eval_every", "train.checkpoint_every")


def scopes(algorithm):
    """What can be set, by scope, for an algorithm's class."""
    return {"train": TrainSettings, "env": EnvSettings, algorithm.scope: algorithm}


def read(gin_files, gin_params, resumed=None, trusted=()):
    """Settings of a new run, or of one to go on with.

    Args:
        gin_files, gin_params: paths, single bindings; the later win.
        resumed: directory of the run to go on with, whose config.gin comes first, or None.
        trusted: modules that the run's config.gin may name, see `trust.check_trusted`.

    Raises:
        UserError: see `config.read`, `config.resolve` and, for a resumed run, `check_trusted`.
    """
    kept = config.read([Path(resumed) / "config.gin"], []) if resumed else {}
    given = config.read(gin_files, gin_params)
    bindings = kept | given
    # Of a resumed run it is the one that the run began with; that it cannot become another, `check_unchanged` says.
    name = (kept or given).get("train.algorithm") or _implied(kept or given)
    if resumed:
        check_trusted([name, *_modules(bindings)], [*trusted, *_modules(given)], f"{resumed}/config.gin")
    return config.resolve({"train.algorithm": name} | bindings, scopes(registry.find(name)))


def _implied(bindings):
    """The algorithm whose settings are given (SAC.tau means sac); the default if none or several are."""
    named = {binding.split(".")[0] for binding in bindings}
    implied = [name for name, algorithm in registry.ALGORITHMS.items() if algorithm.scope in named]
    return implied[0] if len(implied) == 1 else TrainSettings().algorithm


def complete(values, algorithm):
    """Settings as JSON gave them back, of that algorithm, with the defaults of parameters that it lacks."""
    settable = scopes(registry.find(algorithm))
    bindings = {f"{scope}.{k}": value for scope in settable for k, value in values.get(scope, {}).items()}
    return config.resolve(bindings, settable)


def check_unchanged(settings, before):
    """Refuses, with UserError, to go on with other settings than the run began with, given now or edited since.

    Args:
        settings: of the run to go on with.
        before: those of its checkpoint, as JSON gives them back. A parameter that did not exist when the run began is
            missing there and counts as its default.
    """
    settable = scopes(registry.find(settings["train"]["algorithm"]))
    bindings = {
        f"{scope}.{k}": value for scope, values in before.items() if scope in settable for k, value in values.items()
    }
    for scope, values in config.resolve(bindings, settable).items():
        for parameter, old in values.items():
            name, new = f"{scope}.{parameter}", settings[scope][parameter]
            require(
                old == new or name in RESUMABLE,
                f"{name} was {old!r} so far and cannot become {new!r}: a resumed run may change "
                f"{', '.join(RESUMABLE)}; start a new run in another --logdir",
            )


def modules(settings):
    """The texts in settings that name what to import; see `trust.check_trusted`."""
    return [*EnvSettings(**settings["env"]).modules(), settings["train"]["algorithm"]]


def _modules(bindings):
    """`modules` of bindings that are not resolved yet, since the algorithm's own settings are unknown."""
    shared = {name: value for name, value in bindings.items() if name.split(".")[0] in ("train", "env")}
    return modules(config.resolve(shared, {"train": TrainSettings, "env": EnvSettings}))
