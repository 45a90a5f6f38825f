"""Name the files of a study's results, as BIDS derivatives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from medfuse.cohort.running.request import Request
from medfuse.volume.modality import PARTNERS, TRAITS

RUN = re.compile(r"_run-([0-9]+)(?=_)")

MRI_SUFFIX = re.compile(r"_(T1w|T2w|PDw|FLAIR|T2starw|inplaneT1|inplaneT2|UNIT1|T1map|T2map|MTw)\.nii(\.gz)?$")
"""How BIDS ends the name of an anatomical image."""


@dataclass(frozen=True)
class Places:
    """Where the results of one study go.

    Parameters
    ----------
    folder
        Holds all of them; made if missing.
    stem
        What their names begin with: the labels of BIDS, without those that tell one result from another.
    suffix
        What the partner's images are called: pet, ct, spect.
    space
        The MRI's space, in which they lie.
    """

    folder: Path
    stem: str
    suffix: str
    space: str

    @classmethod
    def of(cls, request: Request) -> Places:
        """The places of a request's results; its modality must be known."""
        suffix = TRAITS[request.modality].label.lower() if request.modality in PARTNERS else "fusion"
        folder = request.folder / f"sub-{request.subject}"
        labels = [f"sub-{request.subject}"]
        if request.session:
            folder /= f"ses-{request.session}"
            labels.append(f"ses-{request.session}")
        if request.tracer:
            labels.append(f"trc-{request.tracer}")
        plain = "_".join(labels)
        run = RUN.search(f"{request.name}_")
        if request.name.startswith(plain) and run:
            labels.append(f"run-{run[1]}")
        elif request.name not in (f"{plain}_{suffix}", f"{plain}_fusion"):
            # A name of the user's own: the label that BIDS has for what tells reconstructions apart.
            labels.append(f"rec-{re.sub('[^A-Za-z0-9]', '', request.name)}")
        found = MRI_SUFFIX.search(request.mri[0]) if len(request.mri) == 1 else None
        return cls(folder / suffix, "_".join(labels), suffix, found[1] if found else "T1w")

    def image(self, description: str) -> str:
        """The name of an image: ``fused`` or ``registered``."""
        return f"{self.stem}_space-{self.space}_desc-{description}_{self.suffix}.nii.gz"

    def transform(self, suffix: str) -> str:
        """The name of the map from the MRI to the partner."""
        return f"{self.stem}_from-{self.space}_to-{self.suffix}_mode-image_xfm{suffix}"

    def dicom(self, description: str) -> str:
        """The name of a folder that holds a DICOM series."""
        return f"{self.stem}_space-{self.space}_desc-{description}_dicom"

    @property
    def thumbnail(self) -> str:
        """The name of a small picture."""
        return f"{self.stem}_space-{self.space}_desc-fused_thumbnail.jpg"

    @property
    def report(self) -> str:
        """The name of the study's page."""
        return f"{self.stem}_space-{self.space}_desc-fused_report.html"

    @property
    def record(self) -> str:
        """The name of the file that says what the results were made of, and whether they are whole."""
        return f".{self.stem}_{self.suffix}.json"
