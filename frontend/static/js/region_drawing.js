// Drawing a region: a rectangle by dragging, a polygon by clicking, what is in view, or a note at a point; then one form keeps it.
// By keyboard: move and zoom with the keys of the viewer, then "What I see now". While drawing, Enter ends a polygon, Backspace takes its
// last corner back, Esc drops it.
"use strict";

window.tissueboard = window.tissueboard || {};

tissueboard.startDrawing = function (root, viewer, regions) {
  const { layer } = regions;
  const stage = viewer.osd.element;
  const find = (selector) => root.querySelector(selector);
  const bar = find("[data-drawing]");
  const form = find("[data-region-form]");
  const field = (name) => form.elements[name];
  const refused = find("[data-region-refused]");
  // On the slide itself, or it would be out of sight on a phone.
  stage.parentElement.append(bar);
  const HINTS = {
    rectangle: "Drag a rectangle.",
    polygon: "Click the corners; a double click ends.",
    point: "Click the place that the note is about.",
  };
  const [DOUBLE_MS, NEAR] = [450, 8];
  let tool = null;
  let points = [];
  let last = null;

  function start(name) {
    stop();
    if (name === "view") return finish(rectangle(...inView()));
    regions.select(null);
    tool = name;
    layer.busy = viewer.drawing = true;
    stage.classList.add("drawing");
    viewer.share();
    find(`[data-draw="${name}"]`).setAttribute("aria-pressed", "true");
    bar.hidden = false;
    bar.querySelector("[data-drawing-hint]").textContent = HINTS[name];
    for (const end of ["finish", "undo"]) bar.querySelector(`[data-draw-end=${end}]`).hidden = name !== "polygon";
    viewer.osd.canvas.focus({ preventScroll: true });
    stage.scrollIntoView({ block: "nearest" });
  }

  // Back to looking; what was drawn so far is dropped.
  function stop() {
    tool = null;
    points = [];
    layer.busy = viewer.drawing = false;
    layer.draft = null;
    bar.hidden = true;
    form.hidden = true;
    refused.hidden = true;
    stage.classList.remove("drawing");
    viewer.share();
    root.querySelectorAll("[data-draw]").forEach((button) => button.setAttribute("aria-pressed", "false"));
    layer.later();
  }

  function finish(geometry) {
    stop();
    if (!geometry) return;
    layer.draft = { type: geometry.type, coordinates: geometry.coordinates };
    layer.busy = true;
    form.reset();
    field("geometry").value = JSON.stringify(geometry);
    const area = geometry.type === "Polygon";
    find("[data-role-choice]").hidden = !area;
    find("[data-draft-area]").textContent = area ? areaText(geometry.coordinates[0]) : "";
    find("#region-note").required = !area;
    form.hidden = false;
    (area ? field("role")[0] : find("#region-note")).focus({ preventScroll: true });
    form.scrollIntoView({ block: "nearest" });
    layer.later();
  }

  function areaText(ring) {
    let twice = 0;
    for (let i = 0; i + 1 < ring.length; i++) twice += ring[i][0] * ring[i + 1][1] - ring[i + 1][0] * ring[i][1];
    const mm2 = (Math.abs(twice) / 2) * (viewer.slide.mpp / 1000) ** 2;
    return `${mm2.toPrecision(3)} mm²`;
  }

  const inSlide = (x, y) => [Math.min(Math.max(x, 0), viewer.slide.width), Math.min(Math.max(y, 0), viewer.slide.height)].map((v) => Math.round(v * 10) / 10);

  function px0(position) {
    const at = viewer.osd.world.getItemAt(0).viewerElementToImageCoordinates(position);
    return inSlide(at.x, at.y);
  }

  function inView() {
    const size = viewer.osd.viewport.getContainerSize();
    return [px0(new OpenSeadragon.Point(0, 0)), px0(size)];
  }

  function rectangle(a, b) {
    const [x0, x1] = [Math.min(a[0], b[0]), Math.max(a[0], b[0])];
    const [y0, y1] = [Math.min(a[1], b[1]), Math.max(a[1], b[1])];
    if (x1 - x0 < 1 || y1 - y0 < 1) return null;
    return { type: "Polygon", coordinates: [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]] };
  }

  function sketch(last) {
    layer.draft = { type: "LineString", coordinates: last ? [...points, last] : points, open: true };
    layer.later();
  }

  function polygon() {
    const corners = points.filter((p, i) => !i || Math.hypot(p[0] - points[i - 1][0], p[1] - points[i - 1][1]) > 3 / layer.at.scale);
    if (corners.length < 3) {
      bar.querySelector("[data-drawing-hint]").textContent = "A polygon takes three corners or more. Click the next one.";
      return;
    }
    finish({ type: "Polygon", coordinates: [[...corners, corners[0]]] });
  }

  // --- the pointer

  viewer.osd.addHandler("canvas-press", (event) => {
    if (tool === "rectangle") points = [px0(event.position)];
  });
  viewer.osd.addHandler("canvas-drag", (event) => {
    if (tool !== "rectangle" || !points.length) return;
    event.preventDefaultAction = true;
    const shape = rectangle(points[0], px0(event.position));
    layer.draft = shape && { type: shape.type, coordinates: shape.coordinates };
    layer.later();
  });
  viewer.osd.addHandler("canvas-drag-end", (event) => {
    if (tool !== "rectangle" || !points.length) return;
    event.preventDefaultAction = true;
    const shape = rectangle(points[0], px0(event.position));
    if (shape) finish(shape);
  });
  viewer.osd.addHandler("canvas-click", (event) => {
    if (!tool) return;
    event.preventDefaultAction = true;
    if (!event.quick) return;
    if (tool === "point") return finish({ type: "Point", coordinates: px0(event.position) });
    if (tool === "polygon") corner(event.position);
  });
  // A second click at once at the same place ends the polygon. (OpenSeadragon misses it right after another corner.)
  function corner(position) {
    const now = performance.now();
    const again = last && now - last.time < DOUBLE_MS && last.position.distanceTo(position) < NEAR;
    last = { time: now, position };
    if (again) return polygon();
    points.push(px0(position));
    sketch();
  }
  viewer.osd.addHandler("canvas-double-click", (event) => {
    if (tool || (last && performance.now() - last.time < DOUBLE_MS)) event.preventDefaultAction = true;
  });
  stage.addEventListener("pointermove", (event) => {
    if (tool !== "polygon" || !points.length || event.pointerType === "touch") return;
    const box = stage.getBoundingClientRect();
    sketch(px0(new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top)));
  });

  // --- keys and buttons

  function key(event) {
    if (!tool && form.hidden) return;
    if (event.key === "Escape") stop();
    else if (tool === "polygon" && event.key === "Enter") polygon();
    else if (tool === "polygon" && event.key === "Backspace") undo();
    else return;
    event.preventDefault();
  }

  function undo() {
    points.pop();
    sketch();
  }

  viewer.osd.addHandler("canvas-key", (event) => key(event.originalEvent));
  for (const place of [root, bar]) {
    place.addEventListener("keydown", (event) => {
      if (event.key === "Escape") key(event);
    });
  }
  root.querySelectorAll("[data-draw]").forEach((button) => button.addEventListener("click", () => (tool === button.dataset.draw ? stop() : start(button.dataset.draw))));
  const ends = { finish: polygon, undo, cancel: stop };
  bar.querySelectorAll("[data-draw-end]").forEach((button) => button.addEventListener("click", () => ends[button.dataset.drawEnd]()));
  find("[data-region-drop]").addEventListener("click", stop);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      const answer = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { accept: "application/json" } });
      const told = (answer.headers.get("content-type") || "").includes("json") ? await answer.json() : {};
      if (!told.id) throw new Error(told.sentence ? `${told.sentence} ${told.hint}` : "The region could not be kept. Sign in again in another window, then keep it.");
      stop();
      if (told.said.length) viewer.say(told.said.join(" "));
      await regions.load();
      regions.select(told.id);
    } catch (reason) {
      refused.textContent = reason instanceof TypeError ? "The server does not answer. The region is still here: try again." : reason.message;
      refused.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
};
