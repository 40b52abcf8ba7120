"""What the tests of the main job share: real data as users bring it, and whole results."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

SMALL = ["--p", "0,0.2", "--hidden", "16", "--epochs", "4", "--repeats", "1"]


def mixed(rows=442):
    """scikit-learn's diabetes patients in their own units: numbers, texts, booleans, gaps."""
    from sklearn.datasets import load_diabetes

    frame = load_diabetes(as_frame=True, scaled=False).frame[:rows].copy()
    frame["sex"] = np.where(frame["sex"] == 1, "woman", "man")
    frame["older"] = frame["age"] > 50
    frame["build"] = pd.cut(frame["bmi"], [0, 22, 27, 99], labels=["slim", "middle", "heavy"])
    frame["build"] = frame["build"].astype(str)
    frame.loc[frame.index % 11 == 3, "bp"] = np.nan
    frame.loc[frame.index % 13 == 5, "build"] = None
    return frame


# As the installed command does, with warnings as errors.
RUN = "import sys; from thinned.cli.main import main; sys.exit(main())"


class Fitted:
    """A folder that `thinned fit` wrote in a process of its own, and what it said."""

    def __init__(self, folder, *arguments):
        self.folder = Path(folder)
        self.arguments = [str(argument) for argument in arguments]
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                RUN,
                "fit",
                *self.arguments,
                "--out",
                self.folder.name,
            ],
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert self.code == 0, self.err
        self.metrics = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))
        self.report = (self.folder / "report.html").read_text(encoding="utf-8")
        self.predictions = pd.read_csv(self.folder / "predictions.csv")
