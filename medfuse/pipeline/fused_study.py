"""Hold a fused study, and write all that can be written of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from medfuse import dicom, nifti
from medfuse.intensity.suv import without_patient
from medfuse.methods.attribution import Attribution
from medfuse.nifti.pet_sidecar import sidecar_path
from medfuse.pipeline.report.study_views import StudyViews
from medfuse.provenance import DISCLAIMER
from medfuse.runtime.progress import Progress, step_of
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import like, plain


@dataclass(frozen=True, repr=False)
class FusedStudy(StudyViews):
    """A fused study: pictures, alignment and how it was made.

    Parameters
    ----------
    slices
        The fused slices.
    registration
        Maps MRI → partner world points, RAS+ mm.
    provenance
        The steps taken.
    identity
        Whose patient, study and frame of reference all DICOM series of this study take, unless told otherwise.
    """

    identity: dicom.Identity = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Once for all that is written: without DICOM sources, its UIDs are new.
        object.__setattr__(self, "identity", dicom.Identity.of(*self.sources))

    def deidentified(self, by: dicom.Deidentifier | None = None) -> FusedStudy:
        """The same study as if its sources had been de-identified: all that it writes is so, and consistent.

        Parameters
        ----------
        by
            Gives UIDs, dates and pseudonym; a fresh one by default.

        Raises
        ------
        ExportError
            If a source says that text is burned into its pixels.
        """
        by = by or dicom.Deidentifier()
        mri, partner = (by.source(source) for source in self.sources)
        return replace(
            self,
            slices=self.slices.of(mri, partner),
            provenance=replace(
                self.provenance,
                mri_source=mri.references if mri else (),
                partner_source=partner.references if partner else (),
                partner_suv=without_patient(self.provenance.partner_suv),
            ),
        )

    @default_settings()
    def write_dicom(
        self,
        folder: str | Path,
        *,
        options: dicom.DicomOptions = dicom.DicomOptions(),
        overwrite: bool = False,
        keep: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Write a DICOM series, one file a slice unless the options say otherwise; see `medfuse.dicom.write_series`.

        Slices that are not fused yet are fused meanwhile. They stay in `image`, or, without ``keep``, are dropped as
        they are written, and fused again where they are asked for again.

        Raises
        ------
        ExportError
            If the folder is taken, lies in an input, or cannot be written.
        DeviceError
            If slices are still to be fused, and not even one fits into memory.
        """
        dicom.write_series(
            self.slices.stream(keep=keep),
            folder,
            options=options.with_identity(self.identity),
            partner=self.sources[1],
            provenance=self.provenance,
            overwrite=overwrite,
            progress=progress,
        )

    @default_settings()
    def write_partner(
        self,
        folder: str | Path,
        *,
        options: dicom.DicomOptions = dicom.DicomOptions(),
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Write the registered partner as a DICOM series of measured values; see `medfuse.dicom.write_partner`."""
        dicom.write_partner(
            self.registered(),
            folder,
            mri=self.sources[0],
            provenance=self.provenance,
            options=options.with_identity(self.identity),
            overwrite=overwrite,
            progress=progress,
        )

    @default_settings()
    def write_alignment(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the registration as a DICOM object; see `medfuse.dicom.write_alignment`."""
        mri, partner = self.sources
        dicom.write_alignment(
            folder, mri=mri, partner=partner, registration=self.provenance.registration, overwrite=overwrite
        )

    @default_settings()
    def write_blending(self, folder: str | Path, partner: str | Path, *, overwrite: bool = False) -> None:
        """Write how to look at the MRI under what `write_partner` wrote; see `medfuse.dicom.write_blending`."""
        dicom.write_blending(
            folder, mri=self.sources[0], partner=partner, provenance=self.provenance, overwrite=overwrite
        )

    @default_settings()
    def write_nifti(self, path: str | Path, *, overwrite: bool = False, progress: Progress | None = None) -> None:
        """Write ``path`` (.nii or .nii.gz) and its JSON sidecar beside it; see `medfuse.nifti.write`.

        Raises
        ------
        ExportError
            If a file is taken, lies in an input, or cannot be written.
        """
        path = Path(path)
        self._require_outside_sources(path, sidecar_path(path))
        nifti.write(self.image, path, self.sidecar(), method=self.provenance.fused_by, overwrite=overwrite)
        step_of(progress, "write")(1.0)

    @default_settings()
    def write_partner_nifti(
        self, path: str | Path, *, overwrite: bool = False, progress: Progress | None = None
    ) -> None:
        """Write the registered partner, float32 in its own unit on the MRI's grid, and its JSON sidecar beside it."""
        path = Path(path)
        self._require_outside_sources(path, sidecar_path(path))
        partner = self.registered()
        sidecar = self.sidecar() | {
            "Description": f"The partner, aligned with the MRI: {self.provenance.alignment}.",
            "Units": partner.meta["unit"],
        }
        nifti.write_measured(partner, path, sidecar, overwrite=overwrite)
        step_of(progress, "measured")(1.0)

    @default_settings()
    def write_attribution(
        self,
        path: str | Path,
        attribution: Attribution | None = None,
        *,
        options: dicom.DicomOptions = dicom.DicomOptions(),
        overwrite: bool = False,
    ) -> None:
        """Write which source each voxel comes from, of `attribution`, or of what it gave before.

        A path that ends as NIfTI gets the parts of MRI, partner and neither as three volumes of one file, float32, with
        a JSON sidecar; any other becomes a folder with a DICOM series in colour, see `Attribution.coloured`.
        """
        found = attribution or self.attribution()
        if nifti.is_nifti(path):
            self._require_outside_sources(Path(path), sidecar_path(Path(path)))
            said = {"Description": f"Parts of the fused luma; they add up to it. {DISCLAIMER}"}
            sidecar = self.sidecar() | said | {"Volumes": ["mri", "partner", "neither"]}
            nifti.write_parts(like(found.parts(), self.slices.pair.mri), path, sidecar, overwrite=overwrite)
            return
        dicom.write_attribution(
            like(plain(found.coloured()), self.slices.pair.mri),
            folder=path,
            partner=self.sources[1],
            provenance=self.provenance,
            options=options.with_identity(self.identity),
            overwrite=overwrite,
        )

    def sidecar(self) -> dict[str, object]:
        """What the JSON file beside the NIfTI holds, in the words of BIDS derivatives and under ``Medfuse`` in full."""
        provenance = self.provenance
        name, version = provenance.software.split(" ")
        return {
            "Description": provenance.sentence(),
            "Sources": [*provenance.mri_source, *provenance.partner_source],
            "SpatialReference": list(provenance.mri_source),
            "GeneratedBy": [
                {"Name": name, "Version": version, "Description": f"Fused by {provenance.fused_by}. {DISCLAIMER}"}
            ],
            "Medfuse": provenance.to_dict(),
        }
