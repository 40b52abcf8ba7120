"""Arguments for a model that was built from its configuration alone: guessed by their names, and
mended by what the model says of them."""

import inspect
import re

import torch

ROWS, TOKENS = 2, 12


def signature_of(model):
    return inspect.signature(type(model).forward).parameters


def find(config, *names, default=None):
    """The first of these fields that a configuration or one of its parts has as a number."""
    parts = [config, *(v for v in vars(config).values() if hasattr(v, "model_type"))]
    for name in names:
        for part in parts:
            value = vars(part).get(name)
            if isinstance(value, (list, tuple)) and value and isinstance(value[0], int):
                return value[0]
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return default


class Arguments:
    """What a model may be given: a value, or several to try, for each name."""

    def __init__(self, model):
        self.model, self.config = model, model.config
        self.names = list(signature_of(model))
        self.generator = torch.Generator().manual_seed(11)
        self.main = []

    def randn(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def ids(self, high=None, rows=ROWS, tokens=TOKENS):
        high = high or min(90, find(self._text(), "vocab_size", "src_vocab_size", default=90))
        low = min(5, high - 1)
        return torch.randint(low, high, (rows, tokens), generator=self.generator)

    def _text(self):
        return getattr(self.config, "text_config", None) or self.config

    def width(self):
        return find(self.config, "hidden_size", "d_model", "embed_dim", "dim", "n_embd", default=32)

    def options(self, name):
        """Values to try for an argument."""
        known = getattr(self, f"_{name}", None)
        if known is not None:
            found = known()
            return found if isinstance(found, list) else [found]
        if name.endswith("input_ids") or name in ("decoder_input_ids", "tokens"):
            return [self.ids()]
        if name.endswith("mask"):
            lengths = [t.shape[1:] for t in self.main if t.dim() >= 2]
            lengths += [s[-1:] for s in lengths] + [s[:1] for s in lengths]
            shapes = [(TOKENS,), *(s for s in lengths if len(s) == 1)]
            return [torch.ones(ROWS, *s, dtype=torch.long) for s in dict.fromkeys(shapes)]
        if name == "query_embeds":
            return [self.randn(ROWS, 8, self.width())]
        if name == "position_ids":
            return [torch.arange(TOKENS).expand(ROWS, -1)]
        if name.endswith("inputs_embeds") or name in ("hidden_states", "encoder_hidden_states"):
            return [self.randn(ROWS, TOKENS, self.width())]
        if name.startswith("pixel_values"):
            return self._pixel_values()
        return []

    def _input_ids(self):
        codebooks = find(self.config, "num_codebooks", "n_codes_given", default=0)
        first = [self.ids()]
        if codebooks:
            first += [
                self.ids(tokens=TOKENS).unsqueeze(-1).repeat(1, 1, codebooks),
                self.ids(tokens=TOKENS).unsqueeze(1).repeat(1, codebooks, 1),
            ]
        return [*first, self.ids(tokens=64), self.ids(tokens=128)]

    def _image(self):
        part = getattr(self.config, "vision_config", None) or self.config
        size = find(part, "image_size", "img_size", "input_size", default=64)
        channels = find(part, "num_channels", "in_channels", "in_chans", default=3)
        return (channels if channels in (1, 2, 3, 4, 6) else 3), size

    def _pixel_values(self):
        channels, size = self._image()
        frames = find(self.config, "num_frames", default=2)
        part = getattr(self.config, "vision_config", None) or self.config
        patch = find(part, "patch_size", default=16)
        temporal = find(part, "temporal_patch_size", default=1)
        options = [self.randn(ROWS, channels, size, size)]
        if any("grid_thw" in name for name in self.names):
            options.insert(0, self.randn(16 * ROWS, channels * temporal * patch * patch))
        options += [
            self.randn(ROWS, frames, channels, size, size),
            self.randn(ROWS, 1, channels, size, size),
            self.randn(ROWS, 16, channels * patch * patch),
            self.randn(ROWS, channels, 64, 64),
            self.randn(ROWS, channels, 224, 224),
            self.randn(16 * ROWS, channels * temporal * patch * patch),
        ]
        return options

    def _pixel_values_videos(self):
        channels, size = self._image()
        frames = find(self.config, "num_frames", "frames_per_clip", default=4)
        return [
            self.randn(ROWS, frames, channels, size, size),
            self.randn(ROWS, channels, frames, size, size),
        ]

    def _image_grid_thw(self):
        return torch.tensor([[1, 4, 4]] * ROWS)

    def _grid_thw(self):
        return torch.tensor([[1, 4, 4]] * ROWS)

    def _spatial_shapes(self):
        return torch.tensor([[4, 4]] * ROWS)

    def _pixel_attention_mask(self):
        _channels, size = self._image()
        return [
            torch.ones(ROWS, 16, dtype=torch.long),
            torch.ones(ROWS, size, size, dtype=torch.long),
        ]

    def _pixel_mask(self):
        _channels, size = self._image()
        return torch.ones(ROWS, size, size, dtype=torch.long)

    def _image_sizes(self):
        _channels, size = self._image()
        return torch.tensor([[size, size]] * ROWS)

    def _bbox(self):
        corners = torch.randint(0, 50, (ROWS, TOKENS, 2), generator=self.generator)
        return torch.cat([corners, corners + 10], -1)

    def _input_values(self):
        mel = find(self.config, "num_mel_bins", "feature_size", default=16)
        frames = find(self.config, "max_length", default=64)
        ids = self.ids()
        return [
            self.randn(ROWS, 2000),
            self.randn(ROWS, frames, mel),
            self.randn(ROWS, 1, 2000),
            self.randn(ROWS, 16000),
            self.randn(ROWS, 1, 16000),
            self.randn(ROWS, TOKENS, mel),
            ids,
        ]

    def _input_features(self):
        mel = find(self.config, "num_mel_bins", "feature_size", "input_feat_size", "input_channels",
                   "input_feat_per_channel", "n_mels", default=16)  # fmt: skip
        longest = find(self.config, "max_source_positions", default=64)
        return [
            self.randn(ROWS, mel, 2 * longest),
            self.randn(ROWS, mel, longest),
            self.randn(ROWS, 64, mel),
            self.randn(ROWS, mel, 64),
            self.randn(ROWS, 1, 64, mel),
            self.randn(ROWS, 1, 1001, mel),
            self.randn(ROWS, 64, self.width()),
        ]

    def _visual_feats(self):
        return self.randn(ROWS, 4, find(self.config, "visual_feat_dim", default=32))

    def _visual_pos(self):
        return torch.rand(ROWS, 4, 4, generator=self.generator)

    def _visual_embeds(self):
        return self.randn(ROWS, 4, find(self.config, "visual_embedding_dim", default=32))

    def _encoder_outputs(self):
        return [(self.randn(ROWS, TOKENS, self.width()),)]

    def _past_values(self):
        length = find(self.config, "context_length", default=16)
        lags = getattr(self.config, "lags_sequence", None) or [0]
        length += max(lags)
        channels = find(self.config, "num_input_channels", "input_size", default=1)
        if channels == 1:
            return [self.randn(ROWS, length), self.randn(ROWS, length, 1)]
        return [self.randn(ROWS, length, channels), self.randn(ROWS, length)]

    def _like_past(self, last=None):
        past = self._past_values()[0]
        return torch.ones_like(past) if last is None else torch.ones(*past.shape[:2], last)

    def _past_observed_mask(self):
        return self._like_past()

    def _past_time_features(self):
        return self._like_past(find(self.config, "num_time_features", default=1))

    def _future_values(self):
        return self.randn(ROWS, find(self.config, "prediction_length", default=8))

    def _future_time_features(self):
        features = find(self.config, "num_time_features", default=1)
        return self.randn(ROWS, find(self.config, "prediction_length", default=8), features)

    def _freq(self):
        return torch.zeros(ROWS, 1, dtype=torch.long)

    def _audio_values(self):
        return [self.randn(ROWS, 1, 2000), self.randn(ROWS, 2000)]

    def _is_longer(self):
        return torch.zeros(ROWS, 1, dtype=torch.bool)

    def _states(self):
        return self.randn(ROWS, TOKENS, find(self.config, "state_dim", default=17))

    def _actions(self):
        return self.randn(ROWS, TOKENS, find(self.config, "act_dim", default=4))

    def _rewards(self):
        return self.randn(ROWS, TOKENS, 1)

    def _returns_to_go(self):
        return self.randn(ROWS, TOKENS, 1)

    def _timesteps(self):
        return torch.arange(TOKENS).expand(ROWS, -1)

    def _inputs(self):
        d = find(self.config, "d_model", default=32)
        return [self.randn(ROWS, TOKENS, d), self.ids()]

    def _task_inputs(self):
        return torch.randint(1, 90, (ROWS, find(self.config, "task_seq_len", default=77)))

    def _conditional_pixel_values(self):
        return self._pixel_values()[0]

    def _prompt_pixel_values(self):
        return self._pixel_values()[0]

    def _prompt_masks(self):
        return self._pixel_values()[0]

    def _features(self):
        return self.randn(ROWS, 32, 8, 8)

    def _spectrogram(self):
        return self.randn(ROWS, 16, find(self.config, "model_in_dim", "num_mel_bins", default=16))

    def _aspect_ratio_ids(self):
        return torch.ones(ROWS, 1, dtype=torch.long)

    def _aspect_ratio_mask(self):
        return torch.ones(ROWS, 1, find(self.config, "max_num_tiles", default=4), dtype=torch.long)

    def _flattened_patches(self):
        patch = find(self.config, "patch_size", default=16)
        where = torch.arange(16).view(1, 16, 1).expand(ROWS, 16, 2).float() % 4
        return torch.cat([where, self.randn(ROWS, 16, 3 * patch * patch)], -1)

    def _xpath_tags_seq(self):
        return torch.ones(
            ROWS, TOKENS, find(self.config, "max_depth", default=50), dtype=torch.long
        )

    _xpath_subs_seq = _xpath_tags_seq


PRIMARY = (
    "input_ids", "pixel_values", "input_features", "input_values", "decoder_input_ids",
    "attention_mask", "bbox", "input_features_mask", "feature_attention_mask", "padding_mask",
    "encoder_hidden_states", "pixel_mask", "position_ids", "pixel_attention_mask", "is_longer",
    "states", "actions", "rewards", "returns_to_go", "timesteps", "query_embeds",
)  # fmt: skip


class NotBuiltError(Exception):
    """No arguments were found with which the model runs; says why."""


def arguments_of(model, run, tries=20):
    """Keyword arguments with which `run` works. What is missing is added as the model names it.

    run : function of keyword arguments that raises where they are wrong.
    """
    found = Arguments(model)
    parameters = signature_of(model)
    main = model.main_input_name if model.main_input_name in parameters else None
    if main is None:
        main = next((name for name in (*PRIMARY[:4], "inputs") if name in parameters), None)
    wanted = [main] if main else []
    wanted += [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and name not in ("self", main)
    ]
    for name in ("decoder_input_ids",):
        if name in parameters and getattr(model.config, "is_encoder_decoder", False):
            wanted.append(name)
    if "grid_thw" in " ".join(parameters) and main == "pixel_values":
        wanted += [n for n in parameters if "grid_thw" in n]
    if main is None and not wanted:
        raise NotBuiltError("no argument of forward is known")
    return _search(found, wanted, run, parameters, tries)


def _search(found, wanted, run, parameters, tries):
    place, first_error = {}, None
    given, failed = {}, set()
    for _ in range(tries):
        for name in wanted:
            if name not in given:
                options = found.options(name)
                if not options:
                    raise NotBuiltError(f"no value is known for the argument {name}")
                given[name] = options[min(place.get(name, 0), len(options) - 1)]
                if name in PRIMARY[:4] and isinstance(given[name], torch.Tensor):
                    found.main = [given[name]]
        try:
            run(dict(given))
            return given
        except Exception as error:
            said = f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:160]}"
            first_error = first_error or said
            failed.add(said)
            if not _mended(str(error), found, wanted, given, place, parameters):
                raise NotBuiltError(first_error) from None
    raise NotBuiltError(first_error)


_COUNTS = re.compile(r"[Tt]okens[:=]? *(\d+).*?features[:=]? *(\d+)", re.DOTALL)


def _mended(message, found, wanted, given, place, parameters):
    """Whether something was changed that may help."""
    missing = [
        name
        for name in parameters
        if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", message)
        and name not in wanted
        and found.options(name)
    ]
    if missing:
        wanted.append(missing[0])
        return True
    if "NoneType" in message:
        absent = [n for n in PRIMARY if n in parameters and n not in wanted and found.options(n)]
        if absent:
            wanted.append(absent[0])
            return True
    counts = _COUNTS.search(message)
    if counts is None and "features" in message and "tokens" in message:
        counts = _COUNTS.search(message.replace("Image", ""))
    if counts and "input_ids" in given:
        return _placeholders(found, given, int(counts[2]))
    for name in wanted:
        options = found.options(name)
        if place.get(name, 0) + 1 < len(options):
            place[name] = place.get(name, 0) + 1
            for other in [n for n in given if n != name]:
                del given[other]
            given.pop(name, None)
            return True
        place[name] = 0
        given.pop(name, None)
    return False


def _placeholders(found, given, features):
    """As many placeholders among the tokens as there are features of pictures or sounds."""
    token = find(found.config, "image_token_id", "image_token_index", "audio_token_id",
                 "audio_token_index", "video_token_id")  # fmt: skip
    if token is None or features % ROWS or features > 600:
        return False
    each = features // ROWS
    if bool((given["input_ids"] == token).any()):
        return False
    ids = found.ids(tokens=each + 6)
    ids[:, 2 : 2 + each] = token
    given["input_ids"] = ids
    return True
