// Regions over the slide: a canvas above tiles and map, a legend by class, a panel for the one that was clicked.
// Outlines come as {sha, classes: [{role, word, name, colour, n}], regions: [{id, k, t, c}]} in px0.
"use strict";

window.tissueboard = window.tissueboard || {};

(function () {
  const MARGIN = 160; // pixels drawn beyond the view, so that moving shows no empty edge at once
  const HEAVY = 6000; // points in view, above which the drawing is moved as a picture, and drawn anew when the slide rests
  const REST_MS = 140;
  const [SOME, MANY] = [300, 2500]; // outlines in view, above which white edges, then fillings are left out
  const TINY = 3; // screen pixels, below which an outline is a dot
  const NEAR = 7; // screen pixels around a line or a point that count as a click on it

  // tolerance: px0 between two points that are drawn.
  function pathOf(type, coordinates, tolerance = 0) {
    const path = new Path2D();
    const ring = (points, close) => {
      let last = points[0];
      path.moveTo(last[0], last[1]);
      path.points = (path.points || 0) + 1;
      for (let i = 1; i < points.length; i++) {
        const p = points[i];
        if (i + 1 < points.length && Math.abs(p[0] - last[0]) + Math.abs(p[1] - last[1]) < tolerance) continue;
        path.lineTo(p[0], p[1]);
        path.points += 1;
        last = p;
      }
      if (close) path.closePath();
    };
    if (type === "Polygon") coordinates.forEach((r) => ring(r, true));
    else if (type === "MultiPolygon") coordinates.forEach((part) => part.forEach((r) => ring(r, true)));
    else if (type === "LineString" && coordinates.length) ring(coordinates, false);
    else if (type === "MultiLineString") coordinates.forEach((line) => ring(line, false));
    return path;
  }

  function pointsOf(type, coordinates) {
    return type === "Point" ? [coordinates] : type === "MultiPoint" ? coordinates : [];
  }

  function boundsOf(coordinates) {
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    const walk = (value) => {
      if (typeof value[0] !== "number") return value.forEach(walk);
      box[0] = Math.min(box[0], value[0]);
      box[1] = Math.min(box[1], value[1]);
      box[2] = Math.max(box[2], value[0]);
      box[3] = Math.max(box[3], value[1]);
    };
    walk(coordinates);
    return box;
  }

  class RegionLayer {
    constructor(viewer) {
      this.viewer = viewer;
      this.classes = [];
      this.regions = [];
      this.hidden = new Set();
      this.shown = true;
      this.selected = null;
      this.draft = null;
      this.weight = 0;
      // In a box of its own: the rule that greys the tissue under a map names the canvases of OpenSeadragon.
      this.box = document.createElement("div");
      this.box.className = "region-layer";
      [this.base, this.top] = [0, 1].map(() => document.createElement("canvas"));
      this.box.append(this.base, this.top);
      viewer.osd.canvas.append(this.box);
      for (const event of ["update-viewport", "resize", "animation-finish"]) viewer.osd.addHandler(event, () => this.frame());
    }

    set(data) {
      this.classes = data.classes;
      this.regions = data.regions.map((one) => ({ ...one, area: one.t.endsWith("Polygon"), box: boundsOf(one.c), points: pointsOf(one.t, one.c) }));
      this.later();
    }

    // Something else is to be seen: draw all at the next frame.
    later() {
      this.stale = true;
      this.frame();
    }

    frame() {
      if (this.waiting) return;
      this.waiting = requestAnimationFrame(() => {
        this.waiting = null;
        this.step();
      });
    }

    // px0 -> pixels of the viewer: {scale, x, y}
    affine() {
      const item = this.viewer.osd.world.getItemAt(0);
      if (!item) return null;
      const width = this.viewer.slide.width;
      const [a, b] = [0, width].map((x) => item.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, 0)));
      return { scale: (b.x - a.x) / width, x: a.x, y: a.y };
    }

    step() {
      this.at = this.affine();
      if (!this.at) return;
      if (this.stale || this.weight < HEAVY || !this.drawn) this.draw();
      else {
        const by = this.at.scale / this.drawn.scale;
        this.base.style.transform = `translate(${this.at.x - by * this.drawn.x}px, ${this.at.y - by * this.drawn.y}px) scale(${by})`;
        clearTimeout(this.resting);
        this.resting = setTimeout(() => this.later(), REST_MS);
      }
      const c = this.clear(this.top);
      const chosen = this.shown && this.regions.find((one) => one.id === this.selected && !this.hidden.has(one.k));
      if (chosen) this.emphasis(c, chosen);
      if (this.draft) this.sketch(c, this.draft);
    }

    // The canvas emptied, with px0 as its unit.
    clear(canvas) {
      const { clientWidth, clientHeight } = this.viewer.osd.canvas;
      const ratio = window.devicePixelRatio || 1;
      const size = [clientWidth, clientHeight].map((side) => Math.round((side + 2 * MARGIN) * ratio));
      if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
      const c = canvas.getContext("2d");
      c.setTransform(1, 0, 0, 1, 0, 0);
      c.clearRect(0, 0, canvas.width, canvas.height);
      const { scale, x, y } = this.at;
      c.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * (x + MARGIN), ratio * (y + MARGIN));
      c.lineJoin = "bevel";
      return c;
    }

    draw() {
      const c = this.clear(this.base);
      this.drawn = this.at;
      this.weight = 0;
      this.stale = false;
      this.base.style.transform = "";
      if (this.shown) {
        const visible = this.inView();
        // Coarser outlines from afar: points that fall on one screen pixel are one.
        const level = Math.floor(Math.log2(1.2 / this.at.scale));
        for (const one of visible) {
          if (one.level !== level) one.path = pathOf(one.t, one.c, 2 ** level);
          one.level = level;
          this.weight += one.path.points || one.points.length;
        }
        const kinds = this.classes.map((kind, k) => [kind, visible.filter((one) => one.k === k)]).filter(([, rows]) => rows.length);
        if (visible.length < MANY) for (const [kind, rows] of kinds) this.fill(c, kind, rows);
        if (visible.length < SOME) for (const [, rows] of kinds) for (const one of rows) this.stroke(c, one.path, "#fff", 4.5);
        for (const [kind, rows] of kinds) this.outline(c, kind, rows);
      }
    }

    inView() {
      const { clientWidth, clientHeight } = this.viewer.osd.canvas;
      const { scale, x, y } = this.at;
      const view = [(-MARGIN - x) / scale, (-MARGIN - y) / scale, (clientWidth + MARGIN - x) / scale, (clientHeight + MARGIN - y) / scale];
      return this.regions.filter((one) => !this.hidden.has(one.k) && overlap(one.box, view));
    }

    fill(c, kind, rows) {
      c.fillStyle = kind.role === "exclude" ? this.hatch(c, kind.colour) : kind.colour;
      c.globalAlpha = { exclude: 1, analyse: 0.06, annotation: 0.14 }[kind.role];
      for (const one of rows) if (one.area) c.fill(one.path, "evenodd");
      c.globalAlpha = 1;
    }

    outline(c, kind, rows) {
      const { scale } = this.at;
      c.setLineDash(kind.role === "exclude" ? [6 / scale, 4 / scale] : []);
      for (const one of rows) {
        const side = Math.max(one.box[2] - one.box[0], one.box[3] - one.box[1]);
        if (one.points.length) for (const point of one.points) this.pin(c, point, kind.colour, 5.5);
        else if (side * scale < TINY) {
          c.fillStyle = kind.colour;
          c.fillRect(one.box[0], one.box[1], TINY / scale, TINY / scale);
        } else this.stroke(c, one.path, kind.colour, kind.role === "analyse" ? 2.6 : 2);
      }
      c.setLineDash([]);
    }

    emphasis(c, one) {
      const colour = this.classes[one.k].colour;
      const path = pathOf(one.t, one.c);
      this.stroke(c, path, "#fff", 8);
      this.stroke(c, path, colour, 4);
      for (const point of one.points) this.pin(c, point, colour, 9);
    }

    sketch(c, draft) {
      const { scale } = this.at;
      const path = pathOf(draft.open ? "LineString" : draft.type, draft.coordinates);
      if (!draft.open) {
        c.fillStyle = "rgb(0 114 178 / 14%)";
        c.fill(path, "evenodd");
      }
      this.stroke(c, path, "#fff", 5);
      c.setLineDash([7 / scale, 4 / scale]);
      this.stroke(c, path, "#0072b2", 2.4);
      c.setLineDash([]);
      const corners = draft.type === "Point" ? [draft.coordinates] : draft.open ? draft.coordinates : [];
      for (const point of corners) this.pin(c, point, "#0072b2", draft.open ? 4 : 8);
    }

    stroke(c, path, colour, width) {
      c.lineWidth = width / this.at.scale;
      c.strokeStyle = colour;
      c.stroke(path);
    }

    pin(c, point, colour, radius) {
      c.beginPath();
      c.arc(point[0], point[1], radius / this.at.scale, 0, 2 * Math.PI);
      c.fillStyle = colour;
      c.fill();
      c.lineWidth = 2 / this.at.scale;
      c.strokeStyle = "#fff";
      c.stroke();
    }

    hatch(target, colour) {
      this.tiles = this.tiles || new Map();
      if (!this.tiles.has(colour)) {
        const tile = document.createElement("canvas");
        tile.width = tile.height = 10;
        const c = tile.getContext("2d");
        c.strokeStyle = colour;
        c.globalAlpha = 0.75;
        c.lineWidth = 1.6;
        c.beginPath();
        for (const shift of [-10, 0, 10]) {
          c.moveTo(shift, 10);
          c.lineTo(shift + 10, 0);
        }
        c.stroke();
        this.tiles.set(colour, target.createPattern(tile, "repeat"));
      }
      const pattern = this.tiles.get(colour);
      pattern.setTransform(new DOMMatrix([1 / this.at.scale, 0, 0, 1 / this.at.scale, 0, 0]));
      return pattern;
    }

    // The region under a place (px0): points and lines before areas, small areas before large ones.
    hit(x, y) {
      const near = NEAR / this.at.scale;
      const c = (this.probe = this.probe || document.createElement("canvas").getContext("2d"));
      c.lineWidth = 2 * near;
      const found = this.regions.filter((one) => {
        if (this.hidden.has(one.k) || !overlap(one.box, [x - near, y - near, x + near, y + near])) return false;
        if (one.points.length) return one.points.some((p) => Math.hypot(p[0] - x, p[1] - y) <= 1.5 * near);
        one.full = one.full || pathOf(one.t, one.c);
        return one.area ? c.isPointInPath(one.full, x, y, "evenodd") : c.isPointInStroke(one.full, x, y);
      });
      const size = (one) => (one.area ? (one.box[2] - one.box[0]) * (one.box[3] - one.box[1]) : 0);
      return found.sort((a, b) => size(a) - size(b))[0] || null;
    }
  }

  function overlap(a, b) {
    return a[0] <= b[2] && a[2] >= b[0] && a[1] <= b[3] && a[3] >= b[1];
  }

  // --- the block on the page

  function start(root, viewer) {
    const find = (selector) => root.querySelector(selector);
    const layer = new RegionLayer(viewer);
    const on = find("#regions-on");
    const panel = find("[data-region-panel]");
    const wanted = Number(new URLSearchParams(location.search).get("region"));

    async function load() {
      const answer = await fetch(root.dataset.url, { headers: { accept: "application/json" } }).catch(() => null);
      const data = answer && answer.ok && !answer.redirected ? await answer.json() : null;
      if (!data) return viewer.say("The regions could not be loaded. Reload the page.");
      layer.hidden.clear();
      layer.set(data);
      legend(data);
      const stale = find("[data-stale]");
      if (stale) stale.hidden = data.sha === root.dataset.madeWith;
      root.dataset.loaded = String(data.regions.length);
      return data;
    }

    function legend(data) {
      find("[data-region-count]").textContent = data.regions.length ? `(${data.regions.length})` : "(none)";
      find("[data-region-legend]").replaceChildren(
        ...data.classes.map((kind, k) => {
          const item = document.createElement("li");
          const button = document.createElement("button");
          const swatch = document.createElement("i");
          button.type = "button";
          button.setAttribute("aria-pressed", "true");
          swatch.className = kind.role;
          swatch.style.color = kind.colour;
          const text = document.createElement("span");
          text.textContent = `${kind.name || (kind.role === "annotation" ? "no class" : "region")}${kind.role === "annotation" ? "" : `, ${kind.word}`} `;
          const count = document.createElement("span");
          count.className = "num muted";
          count.textContent = kind.n;
          button.append(swatch, text, count);
          button.title = "Show or hide this class";
          button.addEventListener("click", () => {
            const shown = layer.hidden.has(k);
            layer.hidden[shown ? "delete" : "add"](k);
            button.setAttribute("aria-pressed", String(shown));
            layer.later();
          });
          item.append(button);
          return item;
        }),
      );
      const names = find("#region-classes");
      if (names) {
        const known = new Set(data.classes.map((kind) => kind.name).filter(Boolean));
        names.replaceChildren(...[...known].map((name) => Object.assign(document.createElement("option"), { value: name })));
      }
    }

    function select(id) {
      layer.selected = id;
      layer.later();
      if (id === null) panel.replaceChildren();
      else htmx.ajax("GET", `${root.dataset.one}${id}/`, { target: panel, swap: "innerHTML" });
    }

    function show(id) {
      const one = layer.regions.find((region) => region.id === id);
      if (!one) return;
      select(id);
      const side = Math.max(one.box[2] - one.box[0], one.box[3] - one.box[1], 200);
      const centre = [(one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2];
      viewer.lookAt([centre[0] - side / 4, centre[1] - side / 4, side / 2, side / 2]);
    }

    function turn() {
      layer.shown = on.checked;
      layer.later();
    }

    on.addEventListener("change", turn);
    viewer.osd.addHandler("canvas-key", (event) => {
      if (event.originalEvent.key !== "v") return;
      on.checked = !on.checked;
      turn();
    });
    viewer.osd.addHandler("canvas-click", (event) => {
      if (!event.quick || event.preventDefaultAction || layer.busy || !layer.shown || !layer.at) return;
      const at = viewer.osd.world.getItemAt(0).viewerElementToImageCoordinates(event.position);
      const one = layer.hit(at.x, at.y);
      if (one || layer.selected !== null) select(one ? one.id : null);
    });
    document.body.addEventListener("tissueboard-regions", () => load());
    tissueboard.regions = { layer, load, select, show, root };
    viewer.ready.then(load).then((data) => data && wanted && show(wanted), () => {});
    if (root.dataset.new) tissueboard.startDrawing(root, viewer, tissueboard.regions);
  }

  document.addEventListener("DOMContentLoaded", () => {
    const root = document.querySelector("[data-regions]");
    if (root && tissueboard.main) start(root, tissueboard.main);
  });
})();
