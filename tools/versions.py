"""The golden files under several Pythons and torches, each in an environment of its own that is removed afterwards.

    python tools/versions.py [--pythons python3.11,python3.12,python3.13] [--torch 2.9.1,2.15.0] [--numpy 2]

Makes environments by `python -m venv` and pip and runs tests/test_golden.py in them, one after the other; a Python that
is not there is skipped. torch with its libraries is several GB each time. compressai is installed without what it
requires: its coder alone is used, and its bound on NumPy would leave out newer Pythons.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = ("numpy", "pillow", "safetensors", "rich", "platformdirs", "pytest")
TRIAL = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
FOUND = (
    "import numpy, torch, sys; from importlib.metadata import version; "
    "print(f'Python {sys.version.split()[0]}, torch {torch.__version__}, "
    "numpy {numpy.__version__}, compressai', version('compressai'))"
)


@dataclass(frozen=True)
class Outcome:
    """What came of one environment: its name and one line."""

    name: str
    passed: bool | None  # None: skipped
    reason: str


def tail(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that a command left."""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit status {done.returncode}"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def missing(python: str) -> str | None:
    """Why a Python cannot be used."""
    if shutil.which(python) is None:
        return "not on the PATH"
    done = run(python, "-c", TRIAL)
    return None if done.returncode == 0 else f"does not start: {tail(done)}"


def attempt(python: str, torch: str, numpy: str | None) -> Outcome:
    """Make an environment, run the golden files in it."""
    name = f"{python}, torch {torch}"
    with tempfile.TemporaryDirectory(prefix="nlaic-versions-") as folder:
        inside = Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python"
        pip = (inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:")
        base = [f"numpy=={numpy}.*" if numpy and part == "numpy" else part for part in BASE]
        steps = {
            "environment": (python, "-m", "venv", folder),
            "torch": (*pip, f"torch=={torch}", *base),
            "compressai": (*pip, "--no-deps", "compressai"),
            "versions": (inside, "-c", FOUND),
            "tests": (inside, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_golden.py", "-rs"),
        }
        for step, command in steps.items():
            done = run(*command)
            if done.returncode:
                sys.stderr.write(done.stdout + done.stderr)
                return Outcome(name, False, f"{step}: {tail(done)}")
            if step == "versions":
                name = done.stdout.strip()
        return Outcome(name, True, tail(done))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", default="python3.11,python3.12,python3.13", help="commands, or paths of them")
    parser.add_argument("--torch", default="2.9.1,2.15.0", help="releases, by default two a year apart")
    parser.add_argument("--numpy", help="its first number or numbers; by default the newest")
    arguments = parser.parse_args()
    outcomes = []
    for python in arguments.pythons.split(","):
        reason = missing(python)
        for torch in arguments.torch.split(","):
            outcome = (
                Outcome(f"{python}, torch {torch}", None, reason) if reason else attempt(python, torch, arguments.numpy)
            )
            word = {True: "passed", False: "FAILED", None: "skipped"}[outcome.passed]
            print(f"{word:8}{outcome.name}: {outcome.reason}", flush=True)
            outcomes.append(outcome)
    sys.exit(any(outcome.passed is False for outcome in outcomes))


if __name__ == "__main__":
    main()
