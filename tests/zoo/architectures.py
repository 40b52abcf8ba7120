"""Every architecture that transformers' AutoConfig knows, small, with random weights."""

import copy
import gc

import torch
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
from transformers.models.bert import modeling_bert as _loaded_before_the_fork  # noqa: F401

from .arguments import NotBuiltError, arguments_of
from .particulars import PARTICULARS
from .runs import step
from .shrinking import RECIPES, shrunk
from .subject import Subject, awaken

ATTENTIONS = ("sdpa", "eager")
LARGEST = 40_000_000  # parameters
MOST_KINDS = 4  # of classes that are tried

_HEADS = (
    "MODEL_MAPPING", "MODEL_FOR_PRETRAINING_MAPPING", "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
    "MODEL_FOR_MASKED_LM_MAPPING", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING", "MODEL_FOR_CTC_MAPPING",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING", "MODEL_FOR_OBJECT_DETECTION_MAPPING",
    "MODEL_FOR_DEPTH_ESTIMATION_MAPPING", "MODEL_FOR_KEYPOINT_DETECTION_MAPPING",
    "MODEL_FOR_KEYPOINT_MATCHING_MAPPING", "MODEL_FOR_IMAGE_TO_IMAGE_MAPPING",
    "MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING", "MODEL_FOR_TEXT_TO_SPECTROGRAM_MAPPING",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING", "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING", "MODEL_FOR_BACKBONE_MAPPING",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING", "MODEL_FOR_RETRIEVAL_MAPPING",
    "MODEL_FOR_TIME_SERIES_PREDICTION_MAPPING", "MODEL_FOR_MASK_GENERATION_MAPPING",
    "MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING", "MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING",
)  # fmt: skip


def names():
    return sorted(CONFIG_MAPPING_NAMES)


def classes_of(config_class):
    """The classes of models for a configuration: the bare one first, then those with heads."""
    found = []
    for head in _HEADS:
        mapping = getattr(modeling_auto, head, None)
        if mapping is None:
            continue
        try:
            kind = mapping.get(config_class, None)
        except (ValueError, ImportError, KeyError, AttributeError) as error:
            found.append(error)
            continue
        for one in kind if isinstance(kind, (list, tuple)) else [kind]:
            if one is not None and one not in found:
                found.append(one)
    return found


def subjects(name):
    """The architecture under each kind of attention that it has. NotBuiltError says why not."""
    config_class = CONFIG_MAPPING[name]
    found = classes_of(config_class)
    kinds = [kind for kind in found if isinstance(kind, type)]
    if not kinds:
        errors = [kind for kind in found if isinstance(kind, Exception)]
        why = _line(errors[0]) if errors else "no model of its own, only a part of another's"
        raise NotBuiltError(why)
    first = None
    for recipe in RECIPES:
        for kind in kinds[: MOST_KINDS if recipe == RECIPES[0] else 1]:
            try:
                model, config = built(kind, config_class, recipe, name)
                given = arguments_of(model, lambda given, model=model: _tried(model, given))
            except Exception as error:
                first = first or _line(error)
                gc.collect()
                continue
            return list(_under_each_attention(name, kind, config, model, given))
    raise NotBuiltError(first)


def _line(error):
    if isinstance(error, NotBuiltError):
        return str(error)
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:160]}"


def _tried(model, given):
    model.train()
    step(model, lambda m: m(**copy.deepcopy(given)), 0)
    model.eval()
    try:
        with torch.no_grad():
            model(**copy.deepcopy(given))
    finally:
        model.train()


def built(kind, config_class, recipe, name, attention=None):
    particulars = PARTICULARS.get(name, {})
    config = shrunk(config_class, recipe, particulars=particulars)
    size = _size(kind, config)
    if size > LARGEST:
        raise NotBuiltError(f"it has {size:,} parameters where its sizes are smallest")
    return instance(kind, config, attention), config


def _size(kind, config):
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in kind._from_config(copy.deepcopy(config)).parameters())
    except (RuntimeError, NotImplementedError):  # what is computed when it is built needs numbers
        return 0


def instance(kind, config, attention=None):
    torch.manual_seed(0)
    options = {} if attention is None else {"attn_implementation": attention}
    model = kind._from_config(copy.deepcopy(config), **options)
    awaken(model)
    return model.train()


def _under_each_attention(name, kind, config, model, given):
    for attention in ATTENTIONS:
        try:
            same = instance(kind, config, attention)
            if getattr(same.config, "_attn_implementation", None) != attention:
                continue
            _tried(same, given)
        except (ValueError, ImportError, RuntimeError, TypeError, AttributeError, KeyError):
            continue
        yield Subject(name, attention, same, given, checkpoints=checkpoints_of(same))
        model = None
    if model is not None:
        yield Subject(name, "its own", model, given, checkpoints=checkpoints_of(model))


def checkpoints_of(model):
    """How checkpointing is switched on: the library's own ways and nothing else."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        return {}
    return {
        "default": lambda m: m.gradient_checkpointing_enable(),
        "reentrant": lambda m: m.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": True}
        ),
        "not reentrant": lambda m: m.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
        ),
    }


__all__ = ["names", "subjects"]
