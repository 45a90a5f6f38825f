"""Choose the patients that a training holds out: those that are named, or one of two folds of all."""

from __future__ import annotations

from collections.abc import Sequence

from medfuse.errors import TrainingError
from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import Pair


def fold_of(cases: Sequence[str]) -> dict[str, int]:
    """Give each patient of each task, ``TASK/CASE``, the fold that holds it out: 1 or 2.

    The patients of a task, sorted by name, are dealt out in turn, the task with the fewest patients first. A case that
    two tasks share is one patient and stays in one fold, and each patient goes to the fold with fewer of its task.
    So each task has both folds, and two patients of a task are in opposite ones.

    Raises
    ------
    TrainingError
        If a patient has no name, or a task's patients cannot be in both folds.
    """
    by_task: dict[str, list[str]] = {}
    for each in sorted(set(cases)):
        task, _, case = each.rpartition("/")
        if not case:
            raise TrainingError(f"folds are of patients; a pair of {task} names no case. Name it, or set fold: 0.")
        by_task.setdefault(task, []).append(case)
    fold: dict[str, int] = {}
    for own in sorted(by_task.values(), key=lambda cases: (len(cases), cases)):
        for case in own:
            if case not in fold:
                held = [sum(fold.get(other) == number for other in own) for number in (1, 2)]
                fold[case] = 1 if held[0] <= held[1] else 2
    for task, own in by_task.items():
        if len({fold[case] for case in own}) < 2:
            raise TrainingError(
                f"two folds need patients of {task} in both; it has {len(own)} ({', '.join(own)}). Set fold: 0, and "
                "name validation_cases."
            )
    return {f"{task}/{case}": fold[case] for task, own in by_task.items() for case in own}


def held_out(config: TrainingConfig, pairs: Sequence[Pair]) -> set[str]:
    """The patients that are not trained on, as ``TASK/CASE``.

    Raises
    ------
    TrainingError
        If one of them is not among the pairs, or all are.
    """
    cases = {pair.case for pair in pairs if not pair.simulated}
    if config.fold:
        folds = fold_of(sorted(cases))
        return {case for case in cases if folds[case] == config.fold}
    if absent := set(config.validation_cases) - cases:
        raise TrainingError(f"no pair is of the held-out patients {', '.join(sorted(absent))}.")
    if not {pair.case for pair in pairs} - set(config.validation_cases):
        raise TrainingError("no pair is left to train on; hold out fewer patients.")
    return set(config.validation_cases)
