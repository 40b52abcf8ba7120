"""What names say: the words of a name, and those that stand for the mode or for Monte Carlo.

A word is a whole part of a name as people write names: `is_training`, `isTraining` and
`training-mode` hold `training`; `pretrained`, `constraint` and `retrieval` do not.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["draws_by_name", "may_be_mode", "mode_by_name", "stage_by_word", "words_of"]

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# Names that are the mode itself: true in training, or true in evaluation.
_TRAINING = frozenset(
    {"training", "train", "is_training", "is_train", "in_training", "training_mode", "train_mode"}
    | {"do_train", "train_flag", "training_flag", "train_phase", "phase_train", "training_phase"}
    | {"is_training_phase", "learning_phase", "use_training_mode", "in_train_mode", "is_learning"}
    | {"mode_train", "is_train_mode", "istrain", "istraining", "train_now"}
)
_EVALUATION = frozenset(
    {"deterministic", "is_deterministic", "inference", "is_inference", "inference_mode", "eval"}
    | {"is_eval", "eval_mode", "evaluating", "is_evaluating", "is_test", "is_testing", "test_mode"}
    | {"testing", "is_infer", "is_evaluation", "evaluation_mode", "do_eval", "in_eval"}
    | {"eval_flag", "is_predict", "is_predicting", "test_time", "is_test_time", "evaluate"}
)
_MODE_WORDS = frozenset(
    {"train", "training", "eval", "evaluate", "evaluating", "evaluation", "infer", "inference"}
    | {"deterministic", "test", "testing", "mode", "phase", "stage", "valid", "validation", "val"}
    | {
        "predict",
        "predicting",
        "learning",
        "sampling",
        "switch",
        "istrain",
        "istraining",
        "guidance",
        "mc",
    }
)
_TRAIN_STAGE = frozenset({"train", "training", "fit", "trn", "tr"})
_EVAL_STAGE = frozenset(
    {"eval", "evaluate", "evaluation", "val", "valid", "validate", "validation", "test", "testing"}
    | {"predict", "inference", "infer", "dev"}
)
# Names of classes and functions that draw in evaluation on purpose.
_DRAWS = frozenset(
    {"mc", "mcd", "monte", "carlo", "montecarlo", "bayes", "bayesian", "bnn", "uncertainty"}
    | {"uncertain", "epistemic", "mcdropout", "stochastic", "simcse", "rdrop", "always"}
    | {"permanent", "posterior", "thompson"}
)
# What functions, and not classes, may say beside.
_DRAWS_OF_FUNCTIONS = frozenset(
    {"sample", "samples", "sampled", "sampling", "ensemble", "perturb", "perturbed", "augment"}
    | {"augmented", "augmentation", "noise", "noisy", "corrupt", "corrupted", "ensembles"}
    | {"draw", "draws", "random", "preprocess", "augmentations"}
)


@lru_cache(maxsize=2**15)
def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name, in small letters."""
    return tuple(part.lower() for part in _PART.findall(name))


@lru_cache(maxsize=2**13)
def mode_by_name(name: str) -> int:
    """Return 1 for a name that is true in training, -1 for one true in evaluation, else 0."""
    word = "_".join(words_of(name))
    return 1 if word in _TRAINING else -1 if word in _EVALUATION else 0


@lru_cache(maxsize=2**13)
def may_be_mode(name: str) -> bool:
    """Say whether a name holds a word of the mode."""
    return not _MODE_WORDS.isdisjoint(words_of(name))


def stage_by_word(word: str) -> int:
    """Return 1 for a string that names training ("train"), -1 for evaluation, else 0."""
    parts = words_of(word)
    if len(parts) == 1:
        return 1 if parts[0] in _TRAIN_STAGE else -1 if parts[0] in _EVAL_STAGE else 0
    return 0


@lru_cache(maxsize=2**13)
def draws_by_name(name: str, is_function: bool) -> bool:
    """Say whether a function or class of this name draws in evaluation on purpose."""
    words = words_of(name)
    if "stochastic" in words and "depth" in words:
        return False  # a method of dropout, and no draw on purpose
    if not _DRAWS.isdisjoint(words) or ("r" in words and "drop" in words):
        return True
    # MCDropout is one word to the eye.
    if re.search(r"(?:^|[a-z_])MC(?:D(?:rop|$)|_|$)|^MC[A-Z][a-z]", name):
        return True
    return is_function and not _DRAWS_OF_FUNCTIONS.isdisjoint(words)
