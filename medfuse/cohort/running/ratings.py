"""Read how people rated the results of a cohort, and choose the studies that were rated so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from medfuse.cohort.records import Record, read_table, records_of, without_mark
from medfuse.cohort.running.ledger import History
from medfuse.errors import CohortError, counted, did_you_mean
from medfuse.registration.files.words import ALIGNMENTS

NAME = "ratings.tsv"
"""How the page of a cohort calls the file; it is found in the cohort's folder under this name."""

Word = Literal["accept", "doubtful", "reject"]
WORDS: tuple[Word, ...] = get_args(Word)

RATED: Mapping[str, Word] = {"accepted": "accept", "doubtful": "doubtful", "rejected": "reject"}
"""How rated studies are called where they are chosen."""

COLUMNS = ("study", "rating", "comment", "digest")
"""Of the file, in the order in which the page writes them."""

REQUIRED = ("study", "rating", "digest")

DIGEST = re.compile(r"[0-9a-f]{64}")

MOST_COMMENT = 2000

HOW = "save the ratings anew from the cohort's page"


@dataclass(frozen=True)
class Rating:
    """What somebody thinks of a study's result, and why."""

    word: Word
    comment: str = ""


@dataclass(frozen=True)
class Ratings:
    """What a file says of a cohort's present results.

    Parameters
    ----------
    path
        The file.
    of
        The rating of each study that has one for its present result.
    outdated
        Studies that were done anew since they were rated.
    faults
        A sentence for each row that cannot be read. It repeats no cell, which might hold a patient's name.
    """

    path: Path
    of: Mapping[str, Rating] = field(default_factory=dict)
    outdated: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def counts(self, plan: Sequence[str]) -> dict[str, int]:
        """How many studies of a plan are rated how; the numbers add up to the plan."""
        found = [self.of[study].word for study in plan if study in self.of]
        return {**{word: found.count(word) for word in WORDS}, "unrated": len(plan) - len(found)}

    def to_dict(self, plan: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "file": str(self.path),
            "counts": self.counts(plan),
            "outdated": list(self.outdated),
            "faults": list(self.faults),
        }


@dataclass(frozen=True)
class Only:
    """Which studies of a plan are run, by how they were rated, and how they are aligned then.

    Parameters
    ----------
    rated
        ``accepted``, ``doubtful`` or ``rejected``, one or several.
    path
        The file of ratings; None for that in the cohort's folder.
    align
        A way to align these studies from now on; empty to leave it as it is.
    """

    rated: tuple[str, ...]
    path: Path | None = None
    align: str = ""

    @classmethod
    def of(cls, rated: Sequence[str], path: str | Path | None, align: str) -> Only | None:
        """Check what was asked for; None where that is all studies.

        Raises
        ------
        CohortError
            If a word is unknown, or ratings or an alignment are given of no studies.
        """
        if not rated:
            if path is not None or align:
                raise CohortError(
                    f"expected {'an alignment' if align else 'ratings'} together with which studies are meant, found "
                    "none; add --only rejected, or say in the settings how all studies are aligned."
                )
            return None
        for word, words in (*((one, tuple(RATED)) for one in rated), (align, ("", *ALIGNMENTS))):
            if word not in words:
                raise CohortError(
                    f"expected one of {', '.join(filter(None, words))}; found {word[:40]!r}.{did_you_mean(word, words)}"
                )
        return cls(tuple(rated), None if path is None else Path(path), align)

    def names(self, folder: Path, history: History) -> set[str]:
        """The studies that were rated so.

        Raises
        ------
        CohortError
            If there are no ratings, or rows that cannot be read: one of them may be meant.
        """
        path = self.path or folder / NAME
        if self.path is None and not path.exists():
            raise CohortError(
                f"expected ratings in {path}, found no such file; save them there from the cohort's page, or give "
                "--ratings FILE."
            )
        found = read_ratings(path, history)
        if found.faults:
            more = f" ({len(found.faults)} rows in all)" if len(found.faults) > 1 else ""
            raise CohortError(f"the ratings in {path} cannot all be read{more}: {found.faults[0]}")
        words = {RATED[one] for one in self.rated}
        return {study for study, rating in found.of.items() if rating.word in words}


def read_ratings(path: Path, history: History) -> Ratings:
    """Read a file of ratings; a row that cannot be read is one fault, and stops none of the others.

    Parameters
    ----------
    path
        A table with the columns `COLUMNS` in any order, as the page or a spreadsheet saves it; others are passed over.
    history
        Of the cohort. A rating counts as long as the study's result has the digest that was rated.

    Raises
    ------
    CohortError
        If the file cannot be read, or lacks a column.
    """
    if path.exists() and not path.is_file():
        raise CohortError(f"expected a file of ratings, found something else: {path}; {HOW}.")
    records = records_of(read_table(path, "file of ratings"))
    header = next(records, None)
    names = [cell.strip().lower() for cell in header.cells] if header else []
    missing = [name for name in REQUIRED if names.count(name) != 1]
    if missing or names.count("comment") > 1:
        wrong = missing[0] if missing else "comment"
        found = "several" if names.count(wrong) > 1 else "none"
        raise CohortError(
            f"expected one column {wrong} in {path.name}, among {', '.join(COLUMNS)} in its first line; found {found}. "
            f"Correct it, or {HOW}."
        )
    rated: dict[tuple[str, str], tuple[int, Rating]] = {}
    doubled: set[tuple[str, str]] = set()
    faults: list[str] = []
    for record in records:
        try:
            key, rating = _rating(record, names, history)
            if rating is None or rated.setdefault(key, (record.line, rating))[1] == rating:
                continue
            doubled.add(key)
            raise _RowError(
                f"expected one rating of each study, found another of the study in line {rated[key][0]}, and neither "
                "counts; keep one of the two lines."
            )
        except _RowError as error:
            faults.append(f"line {record.line}: {error}")
    current = dict(_current(rated, doubled, history))
    outdated = {study for study, _ in rated} - current.keys() - {study for study, _ in doubled}
    return Ratings(path, current, tuple(sorted(outdated)), tuple(faults))


class _RowError(Exception):
    """A row holds no rating; the message is the rest of a sentence that begins with its line."""


def _rating(record: Record, names: Sequence[str], history: History) -> tuple[tuple[str, str], Rating | None]:
    """The study and digest that a row rates, and its rating; None where its cell is empty."""
    if record.problem:
        raise _RowError(f"expected a line of a table, found {record.problem}; correct it.")
    if len(record.cells) != len(names):
        raise _RowError(f"expected {counted(len(names), 'cell')} as in the header, found {len(record.cells)}; {HOW}.")
    cells = {name: without_mark(cell.strip()) for name, cell in zip(names, record.cells, strict=True)}
    study, digest, word = cells["study"], cells["digest"].lower(), cells["rating"].lower()
    if study not in history.plan:
        raise _RowError("expected a study of this cohort, found a name that its plan has not; remove the line.")
    if not word:
        return (study, digest), None
    word = RATED.get(word, word)
    known = next((each for each in WORDS if each == word), None)
    if known is None:
        raise _RowError(f"expected a rating of {', '.join(WORDS)}, found another word; correct it.")
    if not DIGEST.fullmatch(digest):
        raise _RowError(f"expected the digest of the result that is rated (64 digits 0 to f), found none; {HOW}.")
    comment = "".join(one if one.isprintable() else " " for one in cells.get("comment", ""))
    return (study, digest), Rating(known, comment[:MOST_COMMENT])


def _current(
    rated: Mapping[tuple[str, str], tuple[int, Rating]], doubled: set[tuple[str, str]], history: History
) -> Iterator[tuple[str, Rating]]:
    for (study, digest), (_, rating) in rated.items():
        if (study, digest) not in doubled and history.digests.get(study) == digest:
            yield study, rating
