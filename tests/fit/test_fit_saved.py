"""The saved model: two files without code, the same answers, and a refusal of everything else."""

import hashlib
import io
import json
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save

from thinned.errors import InputError
from thinned.fit.choices import Choices
from thinned.fit.engines.local import Local
from thinned.fit.job import read_hidden
from thinned.fit.model import Said, write_predictions
from thinned.fit.rate import read_p
from thinned.fit.results import FitSettings
from thinned.fit.saved import load_model, save_model, sealed
from thinned.fit.search import Search
from thinned.fit.tables import load

from .test_fit_damage import TABLE, with_twin

SETTINGS = FitSettings(p=(0.0, 0.2), hidden=(8,), epochs=2, repeats=1, seed=0)


@pytest.fixture(scope="module", params=["wine", "mixed"])
def searched(request, mixed_csv):
    problem = load("wine" if request.param == "wine" else str(mixed_csv), "target")
    search = Search(problem, SETTINGS, engine=Local(1))
    search.run()
    return search


def shop(path, start=0):
    """A table that is written as no two people write: prices, weights, codes, a grouped target."""
    rows = range(start, start + 40)
    frame = pd.DataFrame(
        {
            "price": [f"${1000 + 37 * i:,}.50" for i in rows],
            "weight": [f"{i % 9 + 1},5 kg" for i in rows],
            "zip": [f"0{i % 3}" for i in rows],
            "size": ["?" if i % 8 == 3 else str(i % 5) for i in rows],
            "when": [f"{1 + i % 28:02d}/{1 + i % 12:02d}/{2019 + i % 3}" for i in rows],
            "open": [f"{i % 12 + 1}:0{i % 6} {'ap'[i % 2]}m" for i in rows],
            "sold": [f"{(i * i) % 7}.{100 + i}" for i in rows],
        }
    )
    frame["sold"] = frame["sold"].str.replace("0.", "", n=1, regex=False)
    frame.to_csv(path, index=False)
    return str(path)


# The prices have decimal points and the weights decimal commas: what "1.101" is must be said.
SHOP = Choices(("zip=text", "sold=grouped"), ("?",))


@pytest.fixture(scope="module")
def sold(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    problem = load(shop(folder / "shop.csv"), "sold", "regression", SHOP)
    search = Search(problem, SETTINGS, engine=Local(1))
    search.run()
    (folder / "model").mkdir()
    save_model(search.model, folder / "model")
    return problem, search.model, folder / "model"


def test_a_saved_model_reads_new_data_as_it_read_the_first(sold, tmp_path):
    problem, fitted, folder = sold
    model = load_model(folder)
    assert model.readings == fitted.readings
    assert {(one.column, one.form, one.before, one.after) for one in model.readings} == {
        ("price", "1,234.5", "$", ""),
        ("weight", "1,5", "", "kg"),
        ("zip", "text", "", ""),
        ("when", "25/03/2023", "", ""),
        ("open", "14:05", "", ""),
        ("sold", "1.234,5", "", ""),
    }
    frame, target, _ = model.read(shop(tmp_path / "same.csv"))
    pd.testing.assert_frame_equal(frame, problem.features)
    assert target.tolist() == problem.target.tolist()
    # Three rows show less than the whole column did: no group, no gap, all weights whole.
    (tmp_path / "few.csv").write_text(
        "price,weight,zip,size,when,open\n"
        "$7.50,2 kg,01,?,03/04/2020,6:00 pm\n$8,3 kg,NA,1,,12:30 am\n"
    )
    frame, _, _ = model.read(str(tmp_path / "few.csv"))
    assert frame["price"].tolist() == [7.5, 8.0]
    assert frame["weight"].tolist() == [2.0, 3.0]
    assert frame["zip"].tolist() == ["01", "NA"]
    assert np.isnan(frame["size"][0])
    assert frame["when: days"][0] == 18355  # 3 April
    assert np.isnan(frame["when: year"][1])
    assert frame["open: hour (sine)"][0] == -1.0


@pytest.mark.parametrize(
    ("column", "cell", "form"),
    [
        ("price", "7.50", 'numbers as "$1,234.5"'),
        ("price", "€8", 'numbers as "$1,234.5"'),
        ("price", "$8,5", 'numbers as "$1,234.5"'),
        ("when", "03/25/2020", 'dates or times as "25/03/2023"'),
        ("when", "2020-03-25", 'dates or times as "25/03/2023"'),
        ("open", "25:00", 'dates or times as "14:05"'),
    ],
)
def test_new_data_in_another_form_are_refused_by_place(sold, tmp_path, column, cell, form):
    row = dict.fromkeys(("price", "weight", "zip", "size", "when", "open"), "")
    pd.DataFrame([row, row | {column: cell}]).to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(InputError) as caught:
        load_model(sold[2]).read(str(tmp_path / "new.csv"))
    assert str(caught.value) == (
        f'new.csv: column "{column}" holds {form}; row 2 (line 3) holds "{cell}".'
    )


def test_models_of_earlier_versions_still_load(searched, saved):
    """Version 2 has no readings, up to 3 there is neither a score nor a twin, up to 4 no `own`."""
    path, weights = saved / "model.json", saved / "model.safetensors"
    facts = json.loads(path.read_text(encoding="utf-8"))
    own = {k: v for k, v in load_file(weights).items() if k.startswith("layers.")}
    weights.write_bytes(save(own, metadata={"mask_spec": "1"}))
    facts["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    frame = searched.problem.features
    del facts["weighted"]
    parts = {4: ("own", "sha256"), 3: ("twin", "scores"), 2: ("readings", "missing")}
    for version, without in parts.items():
        for name in without:
            del facts[name]
        if version == 4:  # it has what stands beside the network, which is cut off here
            continue
        path.write_bytes(sealed(facts | {"format_version": version}))
        model = load_model(saved)
        np.testing.assert_array_equal(
            model.answers(frame).outputs, searched.model.answers(frame).outputs
        )
        assert model.twin is None
        assert model.strangeness is None
        path.write_bytes(sealed(facts | {"format_version": version + 1}))
        assert f'with "{"twin" if version == 3 else "readings"}"' in sentence(saved)
    if not searched.best.p:
        path.write_bytes(sealed(facts | {"format_version": 2}))
        with pytest.raises(InputError, match="saved no other network beside it"):
            load_model(saved).members(frame, 4)


def test_scores_come_back_with_their_weights(searched, saved, tmp_path):
    assert load_model(saved).score_weights is None
    weights = np.linspace(0.01, 1, len(searched.test_rows)).astype(np.float32)
    model = replace(searched.model, score_weights=weights.astype(np.float64))
    save_model(model, tmp_path)
    np.testing.assert_array_equal(load_model(tmp_path).score_weights, weights)
    save_model(replace(model, score_weights=0 * model.score_weights), tmp_path)
    assert "score_weights must be above 0" in sentence(tmp_path)


def test_a_model_whose_scores_count_the_same_is_read(searched, saved):
    path = saved / "model.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    del facts["weighted"], facts["sha256"]
    path.write_bytes(sealed(facts | {"format_version": 5}))
    model = load_model(saved)
    assert model.score_weights is None
    np.testing.assert_array_equal(model.strangeness, searched.model.strangeness)


def test_what_stands_beside_the_network_comes_back(searched, saved):
    model = load_model(saved)
    np.testing.assert_array_equal(model.strangeness, searched.model.strangeness)
    assert len(model.strangeness) == len(searched.test_rows)
    assert (model.twin is None) == bool(searched.best.p)
    frame = searched.problem.features.iloc[:20]
    ours, theirs = model.members(frame, 8), searched.model.members(frame, 8)
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    assert (ours.std > 0).any()


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_network_beside_one_without_dropout_comes_back(task, tmp_path):
    ours = with_twin(task)
    save_model(ours, tmp_path)
    model = load_model(tmp_path)
    assert model.twin.training == ours.twin.training
    np.testing.assert_array_equal(model.members(TABLE, 8).mean, ours.members(TABLE, 8).mean)
    np.testing.assert_array_equal(model.answers(TABLE).outputs, ours.answers(TABLE).outputs)
    changed(tmp_path, training=ours.training | {"p": 0.5})
    assert "a network beside the model that does not belong to it" in sentence(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"form": "1.2.3"}, "readings[0].form must be 1.5 or 1,5 or "),
        ({"before": None}, "readings[0].before must be a text"),
        ({"lenient": 1}, "readings[0].lenient must be true or false"),
        ({"column": "none"}, 'the reading of "none" is not its column\'s'),
        ({"column": "zip"}, "a column with two readings"),
        ({"form": "text"}, 'the reading of "price" is not its column\'s'),
        ({"form": "14:05"}, 'the reading of "price" is not its column\'s'),
        ({"more": 1}, 'readings[0] must be without "more"'),
    ],
)
def test_readings_that_cannot_be_are_refused(sold, tmp_path, change, said):
    for file in sold[2].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    facts = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    facts["readings"][0] |= change
    changed(tmp_path, readings=facts["readings"])
    assert said in sentence(tmp_path)


@pytest.fixture
def saved(searched, tmp_path):
    save_model(searched.model, tmp_path)
    return tmp_path


def test_a_loaded_model_gives_the_same_answers(searched, saved):
    model = load_model(saved)
    frame = searched.problem.features
    ours, theirs = model.answers(frame), searched.model.answers(frame)
    np.testing.assert_array_equal(ours.outputs, theirs.outputs)
    assert model.classes == searched.problem.classes
    assert model.columns == searched.problem.columns
    assert model.training["p"] == searched.best.p


def test_answers_do_not_depend_on_the_other_rows(searched):
    frame = searched.problem.features
    whole = searched.model.answers(frame).outputs
    alone = np.vstack([searched.model.answers(frame.iloc[[i]]).outputs for i in range(9)])
    np.testing.assert_allclose(alone, whole[:9], rtol=1e-12)


def test_the_files_hold_numbers_and_names_only(saved):
    raw = (saved / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert header.pop("__metadata__") == {"mask_spec": "1"}
    ends = [entry["data_offsets"] for entry in header.values()]
    assert all(entry["dtype"] == "F32" for entry in header.values())
    assert max(end for _, end in ends) == len(raw) - 8 - length
    facts = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    assert facts["mask_spec"] == 1
    for path in saved.iterdir():
        start = path.read_bytes()[:2]
        assert start not in (b"\x80\x04", b"\x80\x05", b"PK")  # pickle, zip


def test_loading_needs_no_pickle(saved):
    code = (
        "import sys, pickle\n"
        "def no(*a, **k): raise AssertionError('unpickled')\n"
        "from thinned.fit.saved import load_model\n"
        "import safetensors.numpy, pandas\n"
        "pickle.load = pickle.loads = pickle.Unpickler = no\n"
        "from pathlib import Path\n"
        "load_model(Path(sys.argv[1]))\n"
        "assert 'joblib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True, timeout=60)


def changed(folder, **facts):
    """Another model.json, written as if it had always been so."""
    path = folder / "model.json"
    now = json.loads(path.read_text(encoding="utf-8"))
    del now["sha256"]
    path.write_bytes(sealed(now | facts))


def sentence(folder):
    with pytest.raises(InputError) as caught:
        load_model(folder)
    return str(caught.value)


def test_another_version_of_the_mask_spec_is_refused(saved):
    import thinned

    changed(saved, mask_spec=2)
    assert sentence(saved) == (
        f"{saved / 'model.json'}: trained on version 2 of the mask spec; this thinned "
        f"({thinned.__version__}) draws masks of version 1."
    )
    changed(saved, mask_spec=1, format_version=9)
    assert sentence(saved) == (
        f"{saved / 'model.json'}: a model of format version 9; this thinned "
        f"({thinned.__version__}) reads versions 2 to 6."
    )


def test_a_model_from_before_there_was_a_checksum_is_refused(saved):
    import thinned

    path = saved / "model.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    del facts["sha256"]
    path.write_text(json.dumps(facts | {"format_version": 1}, indent=1) + "\n", encoding="utf-8")
    assert sentence(saved) == (
        f"{path}: a model of format version 1, which has no checksum that would show damage; this "
        f"thinned ({thinned.__version__}) reads versions 2 to 6. Fit it again: its "
        "report.html holds the command."
    )


def test_folders_that_are_not_ours(tmp_path, saved):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert sentence(empty) == (
        f"{empty}: no model.json in it; thinned fit did not write this folder."
    )
    none = tmp_path / "none"
    assert sentence(none) == f"{none}: no such folder; name one that thinned fit wrote."
    file = saved / "model.json"
    assert (
        sentence(file) == f"{file}: this is a file, not a folder; name one that thinned fit wrote."
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x04K\x01.", "not readable as JSON."),
        (b"{", "not readable as JSON."),
        (b"[1]", "not a model of thinned fit."),
        (b'{"format": "other"}', "not a model of thinned fit."),
        (b"[" * 100_000, "not readable as JSON."),
    ],
)
def test_damaged_facts(saved, content, said):
    (saved / "model.json").write_bytes(content)
    assert sentence(saved) == f"{saved / 'model.json'}: {said}"


def test_damaged_weights(saved):
    path = saved / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    said = f"{path}: damaged, or not the weights of the model.json beside."
    assert sentence(saved) == said
    path.write_bytes(b"")
    assert sentence(saved) == said
    path.unlink()
    assert sentence(saved) == f"{path}: cannot be read (No such file or directory)."


@pytest.mark.parametrize(
    "facts",
    [
        {"layers": 0},
        {"layers": 3},
        {"layers": "many"},
        {"layers": "2"},
        {"layers": True},
        {"layers": 2.0},
        {"classes": ["one"] * 9},
        {"task": "clustering"},
        {"columns": []},
        {"encoder": {"numeric": [], "texts": []}},
        {"target_scale": 0.0},
        {"target_scale": 1},
        {"classes": ["a", 1, 2]},
        {"classes": ["b", "a", "a"]},
        {"training": {"p": 0.5}},
        {"surplus": 1},
        {"missing": ["?", "?"]},
        {"readings": [{"column": "no such", "form": "1.5"}]},
    ],
)
def test_facts_that_contradict_the_weights(saved, facts):
    changed(saved, **facts)
    assert sentence(saved).startswith(f"{saved / 'model.json'}: not readable as a model (")


def test_a_scale_of_zero_is_refused(saved):
    facts = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    facts["encoder"]["numeric"][0]["scale"] = 0.0
    del facts["sha256"]
    changed(saved, **facts)
    assert "encoder.numeric[0].scale must be above 0, got 0.0" in sentence(saved)


def test_predictions_as_csv(searched):
    model, frame = searched.model, searched.problem.features.iloc[:3]
    stream = io.StringIO()
    said = Said(model, model.answers(frame), [1.0, None, 2.5])
    write_predictions(stream, np.array([1, 2, 9]), [said])
    table = pd.read_csv(io.StringIO(stream.getvalue()))
    assert table["row"].tolist() == [1, 2, 9]
    assert stream.getvalue().splitlines()[1].startswith("1,1,")  # a whole number stays one
    assert np.isnan(table["target"][1])
    if model.classes:
        shares = table[[f"probability of {name}" for name in model.classes]]
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=3e-6)
        found = [model.classes[i] for i in shares.to_numpy().argmax(axis=1)]
        assert table["prediction"].tolist() == found
    else:
        said = model.answers(frame).prediction
        np.testing.assert_allclose(table["prediction"], said, rtol=1e-7)


# ---------------------------------------------------------------------------------------- options


def test_ps_are_sorted_and_have_zero():
    assert read_p("0.5,0.1") == (0.0, 0.1, 0.5)
    assert read_p(" 0 , .2,.2,-0.0") == (0.0, 0.2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--p: an empty place is no number; write 0,0.1,0.5."),
        ("0.1,,0.2", "--p: an empty place is no number; write 0,0.1,0.5."),
        ("0.1;0.2", "--p: 0.1;0.2 is no number; write 0,0.1,0.5."),
        ("nan", "--p: every p must be in [0, 1), got nan."),
        ("1", "--p: every p must be in [0, 1), got 1."),
        ("-0.1", "--p: every p must be in [0, 1), got -0.1."),
        ("0,50", "--p: every p must be in [0, 1), got 50. Did you pass a percentage?"),
        ("0", "--p: at least one p above 0 is needed, to compare with none."),
    ],
)
def test_ps_that_cannot_be(text, said):
    with pytest.raises(InputError) as caught:
        read_p(text)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--hidden: an empty place is no number of units; write 256,256 for two layers."),
        ("64,x", "--hidden: x is no number of units; write 256,256 for two layers."),
        ("64.5", "--hidden: 64.5 is no number of units; write 256,256 for two layers."),
        ("-3", "--hidden: -3 is no number of units; write 256,256 for two layers."),
        ("64,0", "--hidden: a layer has 1 to 65536 units, got 0."),
        ("99999999", "--hidden: a layer has 1 to 65536 units, got 99999999."),
    ],
)
def test_layers_that_cannot_be(text, said):
    with pytest.raises(InputError) as caught:
        read_hidden(text)
    assert str(caught.value) == said


def test_layers():
    assert read_hidden("256, 128") == (256, 128)
