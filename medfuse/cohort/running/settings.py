"""Read the settings of a cohort's fusions from a YAML file, and find those that concern one fusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from medfuse.errors import CohortError, did_you_mean
from medfuse.gesenet.engines import AUTO, ENGINE_NAMES
from medfuse.intensity.presets import parse_window
from medfuse.methods.batch_size import DEFAULT_BATCH_SIZE
from medfuse.methods.names import parse_name
from medfuse.registration.files.words import ALIGNMENTS
from medfuse.runtime.yaml_settings import read_yaml
from medfuse.volume.modality import COLOUR_JOINS, PALETTES, PARTNERS
from medfuse.volume.plane_names import PLANES
from medfuse.volume.uptake import NORMALISATIONS


@dataclass(frozen=True)
class Settings:
    """How the fusions of a cohort are made, where their rows of the plan do not say otherwise.

    Parameters
    ----------
    align, force, join, plane, method, weights, device, engine, batch_size, black_air, different_patients
        As for `medfuse.fuse`; weights and engine concern ``gesenet`` alone.
    window, palette
        The same, by the partner's modality (CT, PT, NM).
    suv
        What a PET's SUV is normalised to (bw, lbm, bsa); empty for no SUV.
    fill_gaps, accept_cut
        As for `medfuse.load`.
    dicom
        Write DICOM series, too.
    report
        Write each study's page, to which the cohort's page leads.
    deidentify
        Write all results under pseudonyms, by one map for the whole cohort.
    """

    align: str = "auto"
    force: bool = False
    window: Mapping[str, str] = field(default_factory=dict)
    palette: Mapping[str, str] = field(default_factory=dict)
    join: str = "oklab"
    plane: str = "native"
    method: str = "gesenet"
    weights: str = "default"
    device: str = "cpu"
    engine: str = AUTO
    batch_size: int = DEFAULT_BATCH_SIZE
    black_air: bool = False
    suv: str = ""
    fill_gaps: bool = False
    accept_cut: bool = False
    different_patients: bool = False
    dicom: bool = False
    report: bool = True
    deidentify: bool = False

    @classmethod
    def read(cls, path: str | Path) -> Settings:
        """Read a YAML file of these names; `CohortError` where one is unknown or has no such value."""
        path = Path(path)
        settings = cls.of(read_yaml(path, CohortError, "align: rigid"))
        if settings.weights != "default":  # relative to the file that names it, not to where the command is run
            settings = replace(settings, weights=str(path.absolute().parent / settings.weights))
        return settings

    @classmethod
    def of(cls, values: Mapping[Any, Any]) -> Settings:
        """Make settings of plain values; `CohortError` as `read`."""
        kinds = get_type_hints(cls)
        names = [each.name for each in fields(cls)]
        for name, value in values.items():
            if name not in names:
                raise CohortError(
                    f"expected settings of {', '.join(names)}; found {str(name)[:60]!r}."
                    f"{did_you_mean(str(name), names)}"
                )
            kind = kinds[name]
            if isinstance(kind, type):
                fits = type(value) is kind
            else:
                fits = isinstance(value, dict) and all(each in PARTNERS for each in value)
            if not fits:
                what = kind.__name__ if isinstance(kind, type) else f"mapping of {', '.join(PARTNERS)} to values"
                raise CohortError(f"expected the setting {name} as {_said(what)}; found {str(value)[:60]!r}.")
        mappings = {
            name: {modality: str(each) for modality, each in value.items()}
            for name, value in values.items()
            if isinstance(value, dict)
        }
        settings = cls(**{**values, **mappings})
        settings._require_known()
        return settings

    def _require_known(self) -> None:
        known = {
            "align": ALIGNMENTS,
            "join": COLOUR_JOINS,
            "plane": PLANES,
            "engine": (AUTO, *ENGINE_NAMES),
            "suv": ("", *NORMALISATIONS),
        }
        for name, choices in known.items():
            found = getattr(self, name)
            if found not in choices:
                raise CohortError(
                    f"expected the setting {name} as one of {', '.join(filter(None, choices))}; found {found[:60]!r}."
                    f"{did_you_mean(found, choices)}"
                )
        for found in self.palette.values():
            if found not in PALETTES:
                raise CohortError(
                    f"expected palettes of {', '.join(PALETTES)}; found {found[:60]!r}.{did_you_mean(found, PALETTES)}"
                )
        for found in self.window.values():
            parse_window(found)
        parse_name(self.method)
        if self.batch_size < 1:
            raise CohortError(f"expected the setting batch_size as at least 1; found {self.batch_size}.")

    def with_dicom(self, dicom: bool) -> Settings:
        """The same, and DICOM series are written where that is asked for in either place."""
        return replace(self, dicom=self.dicom or dicom)

    def effective(self, modality: str, row: Mapping[str, str]) -> dict[str, Any]:
        """The settings that concern one fusion, by name; those that do not are left out, so that they change nothing.

        Parameters
        ----------
        modality
            The partner's.
        row
            What the fusion's row of the plan says otherwise, by the names of its columns; empty texts say nothing.
        """
        found = asdict(self)
        found["window"] = row.get("window") or self.window.get(modality, "")
        found["palette"] = row.get("palette") or self.palette.get(modality, "")
        for name in ("align", "plane", "method"):
            found[name] = row.get(name) or found[name]
        if modality != "PT":
            del found["suv"]
        if found["method"] != "gesenet":
            del found["engine"]
        del found["weights"]  # whose digest counts, whatever their file is called
        return found


def _said(kind: str) -> str:
    return {"str": "a text", "bool": "true or false", "int": "a whole number"}.get(kind, f"a {kind}")
