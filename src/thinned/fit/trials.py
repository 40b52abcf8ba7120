"""Trials of a study of Optuna's, asked for and told one after the other, and kept by its storage.

The storage is a journal in the folder where trainings are kept, under the hash of what is tried. A
run that goes on finds the trials that were told, and asks for the next one as if it had never
stopped: the sampler of a trial is seeded by its number. A journal that is damaged counts as none.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from thinned import reference
from thinned.fit.engines import Engine
from thinned.fit.kept import Kept, job_hash
from thinned.fit.training import Job

__all__ = ["Trials"]


class Trials:
    """The trials of one search: in a journal of Optuna's where trainings are kept.

    Parameters
    ----------
    engine : Engine. One that keeps trainings has the folder of the journal.
    first : a training of the first trial: all that trials depend on beside what is tuned.
    names : what is tuned.

    Attributes
    ----------
    done : the trials that were told, in order.
    """

    def __init__(self, engine: Engine, first: Job, names: tuple[str, ...]) -> None:
        import optuna

        self.done: list[Any] = []
        self._study: Any = None
        if isinstance(engine, Kept) and not engine.lost:
            facts = [job_hash(first), *names, optuna.__version__]
            name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:40]
            self._study = self._journal(engine.folder / f"{name}.trials")
        if self._study is None:
            self._study = optuna.create_study()

    def ask(self, seed: int, first: dict[str, float]) -> Any:
        """The next trial; the first one suggests the values in `first`."""
        import optuna

        number = len(self.done)
        if not number and not self._in_state("WAITING"):
            self._study.enqueue_trial(first)
        self._study.sampler = optuna.samplers.TPESampler(
            seed=reference.fold_in(seed, number) % 2**32
        )
        try:
            return self._study.ask()
        except OSError:  # a full disk, say
            self._without_journal()
            return self.ask(seed, first)

    def tell(self, trial: Any, value: float) -> None:
        """What was asked for has this loss."""
        try:
            trial.set_user_attr("seal", _seal(len(self.done), trial.params, value))
            self.done.append(self._study.tell(trial, value))
        except OSError:
            self._without_journal()  # the trial is asked for again; its trainings are there

    def _in_state(self, state: str) -> list[Any]:
        return [one for one in self._study.get_trials(deepcopy=False) if one.state.name == state]

    def _without_journal(self) -> None:
        import optuna

        self._study = optuna.create_study()
        self._study.add_trials(self.done)

    def _journal(self, path: Path) -> Any:
        """The study in a journal, which is begun anew if it cannot be read; None where there can be
        none."""
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        for _ in range(2):
            try:
                path.parent.mkdir(exist_ok=True, mode=0o700)
                storage = JournalStorage(JournalFileBackend(str(path)))
                self._study = optuna.create_study(
                    storage=storage, study_name="trials", load_if_exists=True
                )
                self.done = self._in_state("COMPLETE")
                if all(map(_is_whole, range(len(self.done)), self.done)):
                    for one in self._in_state("RUNNING"):  # in which the run was ended
                        self._study.tell(one.number, state=optuna.trial.TrialState.FAIL)
                    return self._study
            except OSError:
                break
            except Exception:
                # Optuna's reader raises whatever a damaged line leads to: errors of JSON, of keys,
                # of its own. The trials are asked for again; their trainings are kept elsewhere.
                pass
            path.unlink(missing_ok=True)
        self.done = []
        return None


def _seal(number: int, params: dict[str, Any], value: float) -> str:
    """What tells a trial that was damaged."""
    facts = json.dumps([number, sorted(params.items()), value])
    return hashlib.sha256(facts.encode()).hexdigest()


def _is_whole(number: int, trial: Any) -> bool:
    return bool(trial.user_attrs.get("seal") == _seal(number, trial.params, trial.value))
