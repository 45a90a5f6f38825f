"""Do the steps of the how-to guide, then open the study in OHIF, and tell what the viewer holds and shows.

Arguments: a folder with the two series in MRI and PET and OHIF in package/dist; the steps as a script; and a folder for
what was seen.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pydicom
from playwright.sync_api import Error, Page, sync_playwright

VIEWER = "http://localhost:3000"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
]
LIMIT_MS = 120_000

SHOW = """
async (series) => {
  const { displaySetService, viewportGridService } = window.services;
  const until = async (found) => {
    for (;;) { const one = found(); if (one) return one; await new Promise((go) => setTimeout(go, 200)); }
  };
  const sets = await Promise.all(series.map((uid) => until(() => displaySetService.getDisplaySetsForSeries(uid)[0])));
  await window.commandsManager.run('setViewportGridLayout', { numRows: 1, numCols: sets.length });
  const panes = await until(() => {
    const all = [...viewportGridService.getState().viewports.values()];
    return all.length === sets.length && all.sort((a, b) => a.x - b.x);
  });
  viewportGridService.setDisplaySetsForViewports(panes.map((pane, n) => ({
    viewportId: pane.viewportId, displaySetInstanceUIDs: [sets[n].displaySetInstanceUID],
  })));
  const viewport = (n) => window.cornerstone.getEnabledElementByViewportId(panes[n].viewportId)?.viewport;
  for (const n of sets.keys()) {
    await until(() => viewport(n)?.getImageIds?.().length === sets[n].instances.length && viewport(n).csImage);
    await viewport(n).setImageIdIndex(Math.floor(sets[n].instances.length / 2));
    viewport(n).render();
  }
  window.services.cineService.setIsCineEnabled(false); // its player stands before the picture
  window.shown = sets.map((_, n) => viewport(n));
}
"""

REPEAT = """
async () => {
  for (const viewport of window.shown) {
    await viewport.setImageIdIndex(Math.floor(viewport.getImageIds().length / 2));
    viewport.resetCamera();
    viewport.render();
  }
}
"""

HELD = """
async (n) => {
  const { metaData, imageLoader } = window.cornerstone;
  const text = (numbers) => {
    const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
    let out = '';
    for (const byte of bytes) out += String.fromCharCode(byte);
    return btoa(out);
  };
  const all = [];
  for (const id of window.shown[n].getImageIds()) {
    const image = await imageLoader.loadAndCacheImage(id);
    const plane = metaData.get('imagePlaneModule', id);
    const pixels = image.getPixelData();
    all.push({
      uid: metaData.get('sopCommonModule', id).sopInstanceUID, world: plane.frameOfReferenceUID,
      position: [...plane.imagePositionPatient], rows: [...plane.rowCosines], columns: [...plane.columnCosines],
      spacing: [plane.rowPixelSpacing, plane.columnPixelSpacing], kind: pixels.constructor.name, pixels: text(pixels),
    });
  }
  return all;
}
"""

ON_SCREEN = """
(n) => {
  const viewport = window.shown[n];
  const box = viewport.canvas.getBoundingClientRect();
  const { origin, direction, spacing, dimensions } = viewport.getImageData();
  const at = (i, j) => {
    const world = [0, 1, 2].map((a) => origin[a] + i * spacing[0] * direction[a] + j * spacing[1] * direction[3 + a]);
    const [x, y] = viewport.worldToCanvas(world);
    return [box.x + x, box.y + y];
  };
  const [columns, rows] = dimensions;
  return {
    uid: window.cornerstone.metaData.get('sopCommonModule', viewport.getCurrentImageId()).sopInstanceUID,
    corners: [at(0, 0), at(columns - 1, 0), at(0, rows - 1)],
  };
}
"""


def at_rest(page: Page) -> bytes:
    """The screen once three looks at it were alike: a busy machine draws late."""
    looks: list[bytes] = []
    while len(looks) < 3 or len(set(looks[-3:])) > 1:
        assert len(looks) < 60, "the screen does not come to rest"
        # On a busy machine a picture comes before its pane has its size, and would stay as small as that: the viewer
        # keeps the zoom over a change of size. And it goes back to the first slice where it loads late.
        page.evaluate("() => window.cornerstone.getRenderingEngines().forEach((engine) => engine.resize(true, false))")
        page.evaluate(REPEAT)
        page.wait_for_timeout(1500)
        looks.append(page.screenshot())
    return looks[-1]


def look(page: Page, study: str, series: list[str], seen: Path) -> None:
    page.goto(f"{VIEWER}/viewer?StudyInstanceUIDs={study}", timeout=LIMIT_MS)
    page.wait_for_function("window.services?.displaySetService?.getActiveDisplaySets().length >= 2", timeout=LIMIT_MS)
    for left in reversed(range(5)):
        try:
            page.evaluate(SHOW, series)
            break
        except Error:  # on a busy machine the viewer stumbles over panes that it is still making
            if not left:
                raise
            page.wait_for_timeout(2000)
    held = [page.evaluate(HELD, n) for n in range(len(series))]
    (seen / "ohif.png").write_bytes(at_rest(page))
    shown = [page.evaluate(ON_SCREEN, n) for n in range(len(series))]
    (seen / "viewer.json").write_text(json.dumps({"held": held, "shown": shown}))


def first_of(folder: Path) -> pydicom.Dataset:
    return pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)


def main(folder: Path, steps: Path, seen: Path) -> None:
    # What the steps leave running is in the group of their shell, and is ended with it.
    shell = subprocess.Popen(["bash", "-e", steps], cwd=folder, stdout=sys.stderr, start_new_session=True)
    try:
        assert shell.wait(900) == 0, [path.read_text()[-2000:] for path in folder.glob("*.log")]
        series = [first_of(folder / name) for name in ("MRI", "RESULTS/dicom")]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_context(viewport={"width": 1280, "height": 720}, service_workers="block").new_page()
            page.set_default_timeout(LIMIT_MS)
            page.on("console", lambda message: print(message.type, message.text[:300], file=sys.stderr))
            page.on("pageerror", lambda error: print("error", str(error)[:300], file=sys.stderr))
            page.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
            page.goto(VIEWER, timeout=LIMIT_MS)
            page.get_by_text(str(series[0].PatientID)).first.wait_for()  # the list has the study
            look(page, str(series[0].StudyInstanceUID), [str(one.SeriesInstanceUID) for one in series], seen)
            browser.close()
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
    print(json.dumps({"seen": len(series)}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
