"""A search for the best settings: distributions read as data, and the Optuna study that draws from them.

    --search='SAC.tau = loguniform(1e-3, 3e-2)'
    --search='train.batch_size = uniform(64, 512)'                    a whole number, since the setting is one
    --search='SAC.policy_hidden_units = choice((64, 64), (256, 256))'

The study is a journal file in the sweep's directory: whatever ends the sweep, the same command goes on with it.
"""

import ast
from typing import NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tfsac.errors import require
from tfsac.run.checkpoint import reading

KINDS = ("uniform", "loguniform", "choice")
STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class Distribution(NamedTuple):
    """What a setting is drawn from.

    Attributes:
        name: of the setting, 'SAC.tau'.
        kind: one of KINDS.
        values: least and largest value, both included, or the choices; as the setting takes them.
    """

    name: str
    kind: str
    values: tuple

    def __str__(self):
        return f"{self.name} = {self.kind}({', '.join(map(repr, self.values))})"

    def suggest(self, trial):
        """The setting's value in an `optuna.Trial`."""
        if self.kind == "choice":  # Optuna keeps texts and numbers only
            texts = [repr(value) for value in self.values]
            return self.values[texts.index(trial.suggest_categorical(self.name, texts))]
        suggest = trial.suggest_int if isinstance(self.values[0], int) else trial.suggest_float
        return suggest(self.name, *self.values, log=self.kind == "loguniform")


def parse(texts, take):
    """Distributions from texts such as 'SAC.tau = loguniform(1e-3, 3e-2)'; nothing in them is evaluated.

    Args:
        texts: one distribution each.
        take: (name, value) -> the setting's full name and the value as the setting takes it, or UserError.

    Returns:
        List of `Distribution`.

    Raises:
        UserError: another form, a setting that does not exist or stands twice, a value that it does not take.
    """
    distributions = [_parse(text, take) for text in texts]
    names = [distribution.name for distribution in distributions]
    twice = [name for name in names if names.count(name) > 1]
    require(not twice, f"--search: {twice[0] if twice else ''} is given twice: expected one distribution a setting")
    return distributions


def _parse(text, take):
    expected = "expected name.parameter = uniform(LEAST, MOST), loguniform(LEAST, MOST) or choice(VALUE, ...)"
    try:
        (assignment,) = ast.parse(text.strip()).body
        (target,), call = assignment.targets, assignment.value
        name, kind = ast.unparse(target), call.func.id
        values = [ast.literal_eval(argument) for argument in call.args]
        sound = isinstance(call, ast.Call) and kind in KINDS and not call.keywords
    except (SyntaxError, ValueError, AttributeError, TypeError, RecursionError, MemoryError):
        sound = False
    require(sound, f"--search: {expected}, received {text.strip()!r}")
    taken = [take(name, value) for value in values]
    values = tuple(value for _, value in taken)
    if kind == "choice":
        require(len(values) > 1, f"--search: {name}: expected two choices or more, received {len(values)}")
        require(len(set(map(repr, values))) == len(values), f"--search: {name}: a choice is given twice")
    else:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        require(
            numbers and len(values) == 2 and values[0] < values[1],
            f"--search: {name}: expected {kind}(LEAST, MOST), two numbers, received {text.strip()!r}",
        )
        require(kind == "uniform" or values[0] > 0, f"--search: {name}: expected LEAST above 0 for loguniform")
    return Distribution(taken[0][0], kind, values)


class Search:
    """An Optuna study, kept in a file: proposes values, takes their results and says which trials to prune.

    The sampler is TPE; it counts unfinished trials as bad ones, so that trials side by side differ. Once five trials
    are done, a trial is pruned if its best evaluation so far is below the median of the others' up to the same step
    (Optuna's MedianPruner).

    Args:
        path: of the journal file.
        distributions: from `parse`.
        fixed: texts by name, which make two searches the same: settings, seeds.
        trials: how many, those of earlier calls included.

    Raises:
        UserError: the file holds another search, or is damaged.
    """

    def __init__(self, path, distributions, fixed, trials):
        self.distributions, self.total = distributions, trials
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with reading(path):
            storage = JournalStorage(JournalFileBackend(str(path)))
            self._study = optuna.create_study(
                storage=storage, study_name="search", direction="maximize", load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(),
            )  # fmt: skip
        said = fixed | {f"--search {x.name}": str(x) for x in distributions}
        before = self._study.user_attrs.get("said", said)
        for name in [*before, *said]:
            old, new = before.get(name), said.get(name)
            require(
                old == new,
                f"{path} is of another search: {name} was {old} and cannot become {new}; "
                "the same command goes on, another --out begins a new one",
            )
        self._study.set_user_attr("said", said)
        # A new seed for each call: the same one would draw the first trials again.
        self._study.sampler = optuna.samplers.TPESampler(seed=len(self._study.trials))
        waiting = self._study.get_trials(states=[TrialState.RUNNING])
        self._waiting = [optuna.trial.Trial(self._study, trial._trial_id) for trial in waiting]
        self._open = {}

    def told(self):
        """(number, values by name, 'done', 'pruned' or 'failed') of the trials that earlier calls have ended."""
        ended = self._study.get_trials(states=list(STATES))
        return [(x.number, self._values(optuna.trial.FixedTrial(x.params)), STATES[x.state]) for x in ended]

    def ask(self):
        """Number and values by name of a trial to run, first those that an earlier call left; None if there is none."""
        if self._waiting:
            trial = self._waiting.pop(0)
        elif len(self._study.get_trials(deepcopy=False)) < self.total:
            trial = self._study.ask()
        else:
            return None
        self._open[trial.number] = trial
        return trial.number, self._values(trial)

    def prunes(self, number, evaluations):
        """Whether the trial is to end now.

        Args:
            number: from `ask`.
            evaluations: mean return by step, as far as they have come.
        """
        trial = self._open[number]
        reported = self._study.get_trials(deepcopy=False)[number].intermediate_values
        for step, value in sorted(evaluations.items()):
            if step not in reported:
                trial.report(value, step)
                if trial.should_prune():
                    self._study.tell(trial, state=TrialState.PRUNED)
                    return True
        return False

    def tell(self, number, value):
        """Ends a trial with its objective, None if it failed."""
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        self._study.tell(self._open.pop(number), value, state=state)

    def importances(self):
        """Each setting's share of what makes trials good, by name (PED-ANOVA, arXiv:2304.10255); they add up to 1.

        Empty where no two trials are done.
        """
        done = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return optuna.importance.get_param_importances(self._study) if len(done) > 1 else {}

    def _values(self, trial):
        return {distribution.name: distribution.suggest(trial) for distribution in self.distributions}
