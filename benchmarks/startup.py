"""Time how quickly the command answers, in shares of what ``import monai`` takes; all in turns within one run."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

MEASURE = "import monai"
ANSWERS = {
    MEASURE: ("-c", "import monai"),
    "import medfuse": ("-c", "import medfuse"),
    "medfuse --help": ("-m", "medfuse", "--help"),
    "medfuse fuse --help": ("-m", "medfuse", "fuse", "--help"),
    "medfuse fuse, usage error": ("-m", "medfuse", "fuse", "mri", "partner", "--out", "out", "--plane", "oblique"),
}


def seconds(arguments: tuple[str, ...]) -> float:
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    spent = time.perf_counter() - started
    if ended.returncode != (2 if "oblique" in arguments else 0):
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {ended.returncode}")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for arguments in ANSWERS.values():  # so that all are in the disk's cache
        seconds(arguments)
    spent = [{name: seconds(arguments) for name, arguments in ANSWERS.items()} for _ in range(rounds)]
    print(f"medians of {rounds} rounds")
    for name in ANSWERS:
        share = statistics.median(each[name] / each[MEASURE] for each in spent)
        print(f"{name:26} {statistics.median(each[name] for each in spent):6.3f} s   {share:6.3f} of {MEASURE}")


if __name__ == "__main__":
    main()
