"""Studies as the page of a cohort shows them, of every kind."""

import io

from PIL import Image

from medfuse.report.cohort.page import Entry

COUNTS = {"done": 9, "refused": 1, "failed": 0, "killed": 1, "skipped": 1, "running": 0, "interrupted": 0, "waiting": 1}

NUMBERED = [f"n{number}" for number in range(1, 9)]

DIGESTS = {
    study: f"{number:x}".rjust(64, "0")
    for number, study in enumerate([*NUMBERED, "a-refused", "d-unconfirmed", "e-far"], start=1)
}


def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (264, 88), (40, 90, 160)).save(buffer, format="JPEG")
    return buffer.getvalue()


def entries():
    """Eight studies of usual errors, and one of each other kind."""
    rows = [
        Entry(
            study=study,
            result="done",
            modality="PT",
            tracer="FDG",
            digest=DIGESTS[study],
            row={
                "verdict": "aligned",
                "error_mm": 0.5 + number / 10,
                "partner_unit": "SUV",
                "partner_window_upper": 5.0 + number / 10,
                "partner_window_lower": 0.0,
            },
            picture=picture(),
            page=f"sub-{study}/pet/{study} report.html",
        )
        for number, study in enumerate(NUMBERED)
    ]
    far = {"verdict": "not aligned", "error_mm": 14.0, "partner_unit": "SUV", "partner_window_upper": 60.0}
    return [
        Entry(study="w", result="waiting", modality="CT"),
        *rows,
        Entry(
            study="a-refused",
            result="refused",
            message="not aligned: off by 1.2 mm; give --align FILE.",
            modality="CT",
            digest=DIGESTS["a-refused"],
            row={"verdict": "not aligned", "error_mm": 1.15},
        ),
        Entry(study="b-killed", result="killed", message="signal 9 (SIGKILL)", modality="PT", log="logs/b.log"),
        Entry(
            study="d-unconfirmed",
            result="skipped",
            modality="NM",
            digest=DIGESTS["d-unconfirmed"],
            row={"verdict": "unconfirmed", "error_mm": None},
        ),
        Entry(study="e-far", result="done", modality="PT", digest=DIGESTS["e-far"], row=far, picture=picture()),
    ]
