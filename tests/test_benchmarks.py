"""The benchmarks' own arithmetic. No time is measured here."""

import pytest
from libraries import needs

from benchmarks import starting
from benchmarks.measuring import goals, page
from benchmarks.measuring.timing import figures, interleaved, ratio


def timer(seconds, log, name):
    def taken(calls):
        log.append(name)
        return seconds * calls

    return taken


def test_all_take_turns_and_a_slow_one_takes_fewer():
    log = []
    timers = {"quick": timer(0.001, log, "quick"), "slow": timer(2.0, log, "slow")}
    assert interleaved(timers, rounds=9) == {"quick": 0.001, "slow": 2.0}
    # One call to warm up and one to see how long it takes, then 3 turns of one call each.
    assert log.count("slow") == 2 + 3
    assert log.index("slow") < len(log) - 1 - log[::-1].index("quick")


def result(part, times, kernel="avx512", second=1.0):
    """What a run would say that reached `part` of the multiply and was `times` the others.

    second: two threads over one.
    """

    def rate(threads):
        mine = part * second if threads == 2 else part
        others = dict.fromkeys(("F.dropout", "compiled", "jax"), mine / times)
        return {"thinned": mine, "numpy.multiply": 1.0, "torch.mul": 0.5, "numpy": 0.1, **others}

    rows = [
        {"dtype": dtype, "size": size, "p": p, "threads": threads, "rate": rate(threads)}
        for dtype in ("float32", "bfloat16")
        for size in ("4k", "256k", "1M", "16M")
        for p in (0.1, 0.5)
        for threads in (1, 2)
    ]
    return {
        "of the timings": "the median",
        "kernel": kernel,
        "machine": {
            "processor": "A processor", "cores": 2, "system": "Linux", "load": 0.0,
            "python": "3.11", "numpy": "2.4", "torch": "2.13", "jax": "0.10",
        },
        "rows": rows,
        "more_rates": {0.1: part, 0.9: part},
        "kernels": {"avx2": {"0.1": 1.0}, "avx512": {"0.1": 1.0 / part}},
        "few_elements": {"compiled function": 1.0 / part, "thinned.dropout": 5.0 / part},
        "elsewhere": {
            "jax, forward": times, "jax, forward and backward": times, "attention": times / 2,
        },
        "extra_memory": {"threads": 2, "bytes": {"out": {"left": 1000, "peak": int(60e3 / part)}}},
    }  # fmt: skip


@pytest.mark.parametrize("kernel", ["avx512", "avx2"])
@pytest.mark.parametrize(
    ("part", "times", "second", "verdict"),
    [(0.9, 25.0, 1.0, "reached"), (0.3, 4.5, 0.9, "NOT REACHED")],
)
def test_goals_are_judged_by_the_worst(part, times, second, verdict, kernel):
    judged = goals.judge(result(part, times, kernel, second))
    assert {goal["verdict"] for goal in judged} == {verdict}
    spoiled = result(0.9, 25.0)
    spoiled["rows"][-1]["rate"] = {**spoiled["rows"][-1]["rate"], "jax": 1.0}
    worst = [g for g in goals.judge(spoiled) if g["verdict"] == "NOT REACHED"]
    assert [g["where"] for g in worst] == ["bfloat16, 16M, p = 0.5, 2 threads"]


def test_the_limit_is_the_quicker_multiply():
    row = {"rate": {"thinned": 2.0, "numpy.multiply": 4.0, "torch.mul": 8.0}}
    assert goals.ratios(row) == {"numpy.multiply": 0.5, "torch.mul": 0.25, "multiply": 0.25}


def test_the_page_has_every_figure():
    told = result(0.9, 25.0)
    judged = {**told, "goals": goals.judge(told)}
    text = page.page([judged, {**judged, "kernel": "avx2"}])
    assert text.count("| 256k | 0.1 | **0.90** | 1.00 | 0.036 |") == 4 * 2
    assert text.count("Machine: A processor, 2 cores") == 2
    assert "\n## AVX2\n" in text
    assert ("kept every processor busy" in text) == (judged["machine"]["load"] > 2)


def test_a_ratio_is_taken_within_a_round():
    drifting = {"slow": [1.1, 2.2, None, 8.8], "base": [1.0, 2.0, 4.0, 8.0]}
    assert ratio(drifting, "slow", "base") == pytest.approx(1.1)
    assert figures(drifting) == {"slow": 2.2, "base": 3.0}


@pytest.mark.parametrize(("slow", "reached"), [(1.0, True), (2.0, False)])
def test_starts_are_judged_by_what_they_take_beyond_python(slow, reached):
    seconds = {starting.PYTHON: 1.0, starting.NUMPY: 1.2}
    seconds |= {starting.THINNED: 1.0 + 0.2 * slow, starting.AUDIT: 1.0 + 0.1 * slow}
    beyond = starting.beyond_python(seconds)
    assert beyond[starting.PYTHON] == 0.0
    judged = starting.judged(beyond)
    assert [measured for *_, measured in judged] == pytest.approx([slow, 0.1 * slow])
    assert [measured <= most for _, most, measured in judged] == [reached] * 2


def test_a_start_that_ends_otherwise_is_no_timing(tmp_path):
    timer = starting.started(["-c", "import sys; sys.exit('fell over')"], 0, {})
    with pytest.raises(RuntimeError, match="ended with 1: fell over"):
        timer(1)


@needs("torch")
@pytest.mark.parametrize(
    "parts",
    [
        ("kernels", "calls", "residual", "attention"),
        pytest.param(("compiled", "together", "training"), marks=pytest.mark.long),
    ],
    ids=["eager", "compiled"],
)
def test_what_is_measured_on_a_gpu_runs(parts, capsys, monkeypatch):
    """By the code that a device runs but for its timers, on the CPU and tiny."""
    from benchmarks import gpu
    from benchmarks.measuring import on_device

    def once(timers, repeats, figure):
        return {name: timer(1) for name, timer in timers.items()}

    assert set(parts) <= set(gpu.PARTS)
    monkeypatch.setattr(on_device, "interleaved", once)
    result = gpu.measure(1, min, list(parts), gpu.tiny())
    gpu.show(result)
    told = capsys.readouterr().out
    for part in parts:
        assert f"{part}: microseconds" in told
    assert all(gpu.OURS in row["us"] for row in result["rows"])


@needs("torch")
def test_a_gpu_that_is_not_there_is_named(capsys, monkeypatch):
    import torch

    from benchmarks import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu"])
    assert gpu.main() == 2
    assert "no CUDA device here, and nothing was measured" in capsys.readouterr().err
