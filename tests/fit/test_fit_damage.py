"""A damaged or doctored model is refused in one sentence, and never gives other numbers."""

import hashlib
import json
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save

from thinned.cli import main
from thinned.errors import InputError
from thinned.fit import saved
from thinned.fit.encoding import Encoder, Numeric, Texts
from thinned.fit.model import Model, Twin
from thinned.fit.network import Network
from thinned.fit.saved import load_model, save_model, sealed
from thinned.fit.tables import Column

TABLE = pd.DataFrame({"height": [1.5, 2.5], "sort": ["red", "blue"]})


def small(seed=0, task="classification"):
    """A model with a column of each kind, whose weights a seed draws."""
    rng = np.random.default_rng(seed)
    outputs = 3 if task == "classification" else 1
    sizes = [4, 2, outputs]
    weights = [rng.normal(size=s).astype(np.float32) for s in pairwise(sizes)]
    return Model(
        task=task,
        target="kind",
        classes=("oak", "pine", "ash")[:0] if task == "regression" else ("ash", "oak", "pine"),
        columns=(Column("height", "numeric"), Column("sort", "text")),
        left_out=("id",),
        encoder=Encoder(
            (Numeric("height", 2.0, 1.75, 0.5),), (Texts("sort", ("red", "blue"), ("grün",)),)
        ),
        network=Network(
            tuple(weights), tuple(rng.normal(size=n).astype(np.float32) for n in sizes[1:])
        ),
        training={
            "p": 0.25, "epochs": 3, "random_state": 7, "hidden_layer_sizes": [2],
            "batch_size": 32, "learning_rate_init": 0.001, "weight_decay": 0.0,
        },
    )  # fmt: skip


def with_twin(task="classification"):
    """A model at p = 0 with a network at p = 0.25 beside it, and the scores of five rows."""
    model, other = small(task=task), small(1, task)
    return replace(
        model,
        training=model.training | {"p": 0.0},
        twin=Twin(other.network, other.training),
        strangeness=np.arange(5) / 8,
    )


@pytest.fixture(params=["classification", "regression"])
def folder(request, tmp_path):
    save_model(small(task=request.param), tmp_path)
    return tmp_path


@pytest.fixture
def classifier(tmp_path):
    save_model(small(), tmp_path)
    return tmp_path


def said_of(folder):
    """The outputs of the model in a folder, or the one sentence with which it is refused."""
    try:
        model = load_model(folder)
    except InputError as refusal:
        sentence = str(refusal)
        assert sentence.endswith("."), sentence
        assert "\n" not in sentence
        assert len(sentence) < 600, sentence
        return sentence
    return model.answers(TABLE).outputs


def flipped(raw):
    """The content with each single bit turned."""
    for place in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[place] ^= 1 << bit
            yield bytes(changed)


def numbers_after(path, contents):
    """How many of the contents of a file are not refused."""
    right, count = path.read_bytes(), 0
    for content in contents:
        path.write_bytes(content)
        count += not isinstance(said_of(path.parent), str)
    path.write_bytes(right)
    assert not isinstance(said_of(path.parent), str)
    return count


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_each_single_bit_counts(classifier, name):
    path = classifier / name
    assert numbers_after(path, flipped(path.read_bytes())) == 0


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_each_truncation_and_each_addition_is_refused(classifier, name):
    path = classifier / name
    raw = path.read_bytes()
    shorter = [raw[:end] for end in range(len(raw))] + [raw[start:] for start in range(1, 99)]
    longer = [raw + b"\0", raw + b"\n", raw + raw, b"\xef\xbb\xbf" + raw, b" " + raw]
    crlf = [raw.replace(b"\n", b"\r\n")] if name == "model.json" else []
    assert numbers_after(path, shorter + longer + crlf) == 0


def test_the_sweep_finds_what_a_checksum_alone_can_show(classifier, monkeypatch):
    """Planted: without the checksum over model.json, some turned bits go unseen."""

    class Believed:
        fullmatch = staticmethod(lambda raw: [None, b"", hashlib.sha256(b"").hexdigest().encode()])

    monkeypatch.setattr(saved, "SEALED", Believed)
    path = classifier / "model.json"
    assert numbers_after(path, list(flipped(path.read_bytes()))[::29]) > 0


def test_files_of_two_models_do_not_mix(tmp_path):
    for name, seed in (("one", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        save_model(small(seed), tmp_path / name)
    for name in ("model.json", "model.safetensors"):
        ours = (tmp_path / "one" / name).read_bytes()
        theirs = (tmp_path / "other" / name).read_bytes()
        assert ours != theirs
        assert numbers_after(tmp_path / "one" / name, [theirs]) == 0


# ------------------------------------------------------------------------------------ doctored

# What can stand in a JSON text in a value's place; the last ones are no JSON that can be used.
VALUES = [
    "null", "true", "false", "0", "1", "-1", "2", "1.5", "-0.0", "1e308", '""', '"1"', '"a"',
    "[]", "{}", "[[]]", "[1]", '["a", "a"]', '{"a": 1}', str(2**63), "9" * 40,
    r'"\ud800"', r'["\udc00"]', "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "9" * 5000,
    "[" * 900 + "]" * 900, "[" * 100_000 + "]" * 100_000, '{"a": 1, "a": 2}', "", "nul", "'a'",
]  # fmt: skip


def places(value, at=()):
    """Where the values in a JSON object stand."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*at, key)
            yield from places(value[key], (*at, key))


def text_with(facts, at, value):
    """The JSON text of the facts with a text in the place of one of their values."""
    copy = json.loads(json.dumps(facts))
    part = copy
    for key in at[:-1]:
        part = part[key]
    part[at[-1]] = "@here@"
    return json.dumps(copy, indent=1).replace('"@here@"', value)


def with_seal(text):
    head = text.removesuffix("\n}").encode("utf-8", "surrogatepass")
    return head + b',\n "sha256": "%s"\n}\n' % hashlib.sha256(head).hexdigest().encode()


def facts_of(folder):
    facts = json.loads((folder / "model.json").read_bytes())
    del facts["sha256"]
    return facts


def test_the_tests_seal_as_the_program_does(folder):
    facts = facts_of(folder)
    assert sealed(facts) == (folder / "model.json").read_bytes()
    assert with_seal(json.dumps(facts, indent=1, ensure_ascii=False)) == sealed(facts)


@pytest.mark.one_in(2)
def test_any_value_in_any_place_is_a_model_or_a_sentence(folder):
    facts = facts_of(folder)
    path = folder / "model.json"
    taken = 0
    for at in places(facts):
        for value in VALUES:
            text = text_with(facts, at, value)
            path.write_text(text, encoding="utf-8")
            assert isinstance(said_of(folder), str), (at, value)  # there is no checksum
            path.write_bytes(with_seal(text))
            taken += not isinstance(said_of(folder), str)
    assert taken  # another mean is another model: the seal says that it was meant


def test_a_name_that_is_missing_doubled_or_new_is_a_sentence(folder):
    facts = facts_of(folder)
    path = folder / "model.json"
    text = json.dumps(facts, indent=1)
    for at in places(facts):
        if not isinstance(at[-1], str):
            continue
        copy = json.loads(text)
        part = copy
        for key in at[:-1]:
            part = part[key]
        value = part.pop(at[-1])
        contents = [json.dumps(copy, indent=1)]
        part[at[-1]], part["surplus"] = value, value
        contents.append(json.dumps(copy, indent=1))
        contents.append(contents[-1].replace('"surplus"', json.dumps(at[-1])))
        for content in contents:
            path.write_bytes(with_seal(content))
            assert isinstance(said_of(folder), str), (at, content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not readable as JSON."),
        (b"\xef\xbb\xbf{}", "not readable as JSON."),
        (b"\xff\xfe{\0}\0", "not readable as JSON."),
        (b'{"a": "\xed\xa0\x80"}', "not readable as JSON."),
        (rb'{"a": "\ud800"}', "not readable as JSON."),
        (b'{"a": NaN}', "not readable as JSON (it holds NaN)."),
        (b'{"a": -Infinity}', "not readable as JSON (it holds -Infinity)."),
        (b'{"a": 1e999}', 'not readable as JSON (it holds "1e999", which is beyond all numbers).'),
        (b"9" * 5000, "not readable as JSON (it holds a number of 5,000 digits)."),
        (b'{"a": 1, "a": 2}', 'not readable as JSON (it says "a" twice).'),
        (b"{" * 9, "not readable as JSON."),
        (b'{"a":' * 100_000, "not readable as JSON."),
        (b"{}", "not a model of thinned fit."),
        (b"null", "not a model of thinned fit."),
        (b'"thinned.model"', "not a model of thinned fit."),
        (b'{"format": ["thinned.model"]}', "not a model of thinned fit."),
    ],
)
def test_malformed_json(folder, content, said):
    (folder / "model.json").write_bytes(content)
    assert said_of(folder) == f"{folder / 'model.json'}: {said}"


@pytest.mark.parametrize("version", [None, True, 2.0, "2", -2, 10**39, [], {}, "x" * 9999])
@pytest.mark.parametrize("key", ["format_version", "mask_spec"])
def test_versions_of_a_wrong_type(folder, key, version):
    value = 1.0 if key == "mask_spec" and version == 2.0 else version
    (folder / "model.json").write_bytes(sealed(facts_of(folder) | {key: value}))
    said = said_of(folder)
    assert "version" in said
    assert len(said) < 400


# ------------------------------------------------------------------------------------------ weights


def arrays_of(model):
    found = {}
    for i, (weight, bias) in enumerate(
        zip(model.network.weights, model.network.biases, strict=True)
    ):
        found |= {f"layers.{i}.weight": weight, f"layers.{i}.bias": bias}
    return found


def with_weights(folder, raw):
    """Other weights, and a model.json that takes them for its own."""
    (folder / "model.safetensors").write_bytes(raw)
    digest = hashlib.sha256(raw).hexdigest()
    facts = facts_of(folder) | {"weights_sha256": digest}
    (folder / "model.json").write_bytes(sealed(facts))
    return said_of(folder)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(folder, number):
    arrays = arrays_of(load_model(folder))
    for name in arrays:
        changed = {key: value.copy() for key, value in arrays.items()}
        changed[name].flat[-1] = number
        assert with_weights(folder, save(changed)) == (
            f"{folder / 'model.safetensors'}: not readable as weights ({name} holds numbers that "
            "are not finite)."
        )


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, bool])
def test_weights_that_are_not_float32(folder, dtype):
    arrays = arrays_of(load_model(folder))
    for name in arrays:
        said = with_weights(folder, save(arrays | {name: arrays[name].astype(dtype)}))
        assert f"{name} must be F32 of shape " in said


def test_weights_of_other_names_and_shapes(folder):
    arrays = arrays_of(load_model(folder))
    first = arrays["layers.0.weight"]
    for changed in (
        arrays | {"layers.2.weight": first},
        {name: array for name, array in arrays.items() if name != "layers.1.bias"},
        {name.upper(): array for name, array in arrays.items()},
        arrays | {"layers.0.weight": first.reshape(2, 4)},
        arrays | {"layers.0.weight": first.reshape(-1)},
        arrays | {"layers.0.weight": first[:, :1]},
        arrays | {"layers.0.bias": np.array(1.0, np.float32)},
        {},
    ):
        assert "not readable as weights" in with_weights(folder, save(changed))


def test_a_header_that_is_no_header(folder):
    raw = (folder / "model.safetensors").read_bytes()
    assert not isinstance(with_weights(folder, raw), str)
    for head in (b"", b"\0" * 8, b"\xff" * 8, (2**62).to_bytes(8, "little"), raw[:8] + b"{" * 99):
        assert "model.safetensors: " in with_weights(folder, head)
    for content in (b'{"a":1e999}', b"[" * 50_000, b'{"a":{"dtype":"F32","shape":[-1]}}', b"nul"):
        assert "model.safetensors: " in with_weights(
            folder, len(content).to_bytes(8, "little") + content
        )


# -------------------------------------------------------------------------- what is no file at all


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_what_stands_in_a_files_place(folder, name):
    path = folder / name
    path.unlink()
    path.mkdir()
    assert said_of(folder) == f"{path}: cannot be read (it is not a file)."
    path.rmdir()
    os.mkfifo(path)  # would wait for ever
    assert said_of(folder) == f"{path}: cannot be read (it is not a file)."
    path.unlink()
    path.symlink_to(path.name)
    assert said_of(folder).startswith(f"{path}: cannot be read (")
    path.unlink()
    with path.open("wb") as stream:
        stream.truncate(2**40)  # holes take no room
    assert said_of(folder).startswith(f"{path}: 1,099,511,627,776 bytes are more than the ")


def test_a_folder_that_cannot_be(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for folder in (loop, tmp_path / ("x" * 300), tmp_path / "file" / "in"):
        (tmp_path / "file").write_text("")
        assert str(folder) in said_of(folder)


def test_the_command_refuses_with_2(folder, command):
    (folder / "new.csv").write_text("height,sort\n1.5,red\n")
    assert command("predict", folder, folder / "new.csv")[0] == 0
    path = folder / "model.json"
    raw = path.read_bytes()
    for content in [*list(flipped(raw))[::997], b"", b"[" * 99_999, b'{"format": 1e999}']:
        path.write_bytes(content)
        code, out, err = command("predict", folder, folder / "new.csv", "--out", folder / "out.csv")
        assert (code, out) == (2, "")
        assert err.startswith("thinned: ")
        assert err.count("\n") == 1
        assert not (folder / "out.csv").exists()
    assert main.main(["predict", str(folder / ("x" * 300)), "digits"]) == 2


def test_a_former_result_that_cannot_be_read_is_not_overwritten(tmp_path, command):
    for content in (b"[" * 100_000, b"9" * 5000, b'{"format": 1e999}', b"[]", b"\xff"):
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        (out / "metrics.json").write_bytes(content)
        code, _, err = command("fit", "wine", "--out", out, "--overwrite")
        assert code == 2
        assert "not a result of thinned fit" in err
        assert (out / "metrics.json").read_bytes() == content
