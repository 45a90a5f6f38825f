"use strict";
(() => {
  const { volumes, start } = JSON.parse(document.getElementById("viewer-volumes").textContent);
  const panes = [];
  let told = false;

  const offersWebGL = () => {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl2"));
    } catch {
      return false;
    }
  };

  const colourmap = ({ colours }) => {
    const channel = (offset) => Array.from({ length: 256 }, (_, i) => colours[3 * i + offset]);
    const each = Array.from({ length: 256 }, (_, i) => i);
    return { R: channel(0), G: channel(1), B: channel(2), A: each.map(() => 255), I: each };
  };

  // What a voxel holds, in words: the stored number times its step, or three of a colour.
  const valueAt = (pane, mm) => {
    const image = pane.nv.volumes[0];
    const [x, y, z] = image.mm2vox(mm);
    const [, columns, rows, slices] = image.dimsRAS;
    if (!(x >= 0 && y >= 0 && z >= 0 && x < columns && y < rows && z < slices)) return "outside";
    if (pane.about.step === undefined) return image.getValues ? image.getValues(x, y, z).slice(0, 3).join(", ") : "";
    return image.getValue(x, y, z).toFixed(pane.about.decimals);
  };

  const write = (row, mm) => {
    const line = document.getElementById(row);
    line.querySelector(".mm").textContent = Array.from(mm).slice(0, 3).map((each) => (each + 0).toFixed(1)).join(", ");
    for (const pane of panes) line.querySelector(`.${pane.about.name}`).textContent = valueAt(pane, mm);
  };

  // One crosshair for all panes.
  const moveTo = (mm, from) => {
    if (told) return;
    told = true;
    for (const pane of panes) {
      if (pane === from) continue;
      pane.nv.scene.crosshairPos = pane.nv.mm2frac(mm, 0, true);
      pane.nv.drawScene();
    }
    write("at-crosshair", mm);
    told = false;
  };

  const KEYS = {
    ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1],
  };

  const follow = (pane, canvas) => {
    canvas.addEventListener("keydown", (event) => {
      const by = KEYS[event.key];
      if (!by || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      // In radiological view, the patient's right is on the left of the screen.
      pane.nv.moveCrosshairInVox(-by[0], by[1], by[2]);
    }, true);
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const ratio = canvas.width / box.width;
      const frac = pane.nv.canvasPos2frac([(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio]);
      if (frac[0] >= 0) write("at-pointer", pane.nv.frac2mm(frac, 0, true));
    });
  };

  const open = async (about) => {
    const canvas = document.getElementById(`canvas-${about.name}`);
    const nv = new niivue.Niivue({
      logLevel: "error", dragAndDropEnabled: false, isResizeCanvas: true, sliceType: 3, multiplanarShowRender: 0,
      multiplanarLayout: 1, showAllOrientationMarkers: true, multiplanarPadPixels: 4, isRadiologicalConvention: true, sagittalNoseLeft: true,
      isNearestInterpolation: true, isForceMouseClickToVoxelCenters: true, scrollRequiresFocus: true, isColorbar: false,
      crosshairColor: [1, 0.75, 0, 1], crosshairWidthUnit: "mm", crosshairWidth: 1, fontColor: [1, 1, 1, 1],
      backColor: [0, 0, 0, 1], dragMode: 3, clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "", loadingText: "",
    });
    const pane = { about, nv };
    // On paper there is no canvas to draw on: its size is nought, of which WebGL complains.
    const draw = nv.drawScene.bind(nv);
    nv.drawScene = () => (canvas.clientWidth && canvas.clientHeight ? draw() : undefined);
    // Only slices are drawn. Programs for meshes are not compiled, the gradients by which a rendering is lit are filled by a
    // copy, and it is not asked for each slice of a texture whether it can be drawn into, as RGBA8 always can: without a
    // graphics card each of these takes longer than all the rest.
    nv.meshShaders = [];
    await nv.attachToCanvas(canvas, false);
    nv.blurShader = nv.sobelFirstOrderShader = nv.passThroughShader;
    nv.gl.checkFramebufferStatus = () => nv.gl.FRAMEBUFFER_COMPLETE;
    const given = { base64: about.nifti, name: `${about.name}.nii.gz`, colormap: "gray" };
    if (about.step !== undefined) {
      nv.addColormap(`medfuse-${about.name}`, colourmap(about));
      Object.assign(given, { colormap: `medfuse-${about.name}`, cal_min: about.lower, cal_max: about.upper });
    }
    nv.addVolume(await niivue.NVImage.loadFromBase64(given));
    about.nifti = null;
    nv.scene.crosshairPos = nv.mm2frac(start, 0, true);
    nv.onLocationChange = (place) => moveTo(place.mm, pane);
    follow(pane, canvas);
    return pane;
  };

  const begin = async () => {
    if (!offersWebGL()) {
      document.getElementById("viewer-absent").hidden = false;
      return;
    }
    document.getElementById("viewer").hidden = false;
    for (const about of volumes) {
      panes.push(await open(about));
      await new Promise((resolve) => setTimeout(resolve)); // what the reader does meanwhile comes first
    }
    // The nearest voxel's middle, so that what is read off is what lies there.
    const first = panes[0].nv;
    first.scene.crosshairPos = first.vox2frac(first.frac2vox(first.scene.crosshairPos));
    first.createOnLocationChange();
    first.drawScene();
    document.getElementById("viewer").dataset.ready = "true";
    window.medfuseViewer = { panes, moveTo };
  };

  if (document.readyState === "complete") begin();
  else window.addEventListener("load", begin);
})();
