// Regions over the slide: one canvas above tiles and map, a legend by class, a panel for the one that was clicked.
// Outlines come as {sha, classes: [{role, word, name, colour, n}], regions: [{id, k, t, c}]} in px0.
"use strict";

window.tissueboard = window.tissueboard || {};

(function () {
  const CHUNKS = 8; // per side: what lies outside the view is not drawn
  const MANY = 3000; // regions of one class, above which the white edge is left out
  const NEAR = 7; // screen pixels around a line or a point that count as a click on it

  function pathOf(type, coordinates) {
    const path = new Path2D();
    const ring = (points, close) => {
      points.forEach((p, i) => (i ? path.lineTo(p[0], p[1]) : path.moveTo(p[0], p[1])));
      if (close) path.closePath();
    };
    if (type === "Polygon") coordinates.forEach((r) => ring(r, true));
    else if (type === "MultiPolygon") coordinates.forEach((part) => part.forEach((r) => ring(r, true)));
    else if (type === "LineString") ring(coordinates, false);
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
      this.chunks = [];
      this.hidden = new Set();
      this.shown = true;
      this.selected = null;
      this.draft = null;
      // In a box of its own: the rule that greys the tissue under a map names the canvases of OpenSeadragon.
      const box = document.createElement("div");
      box.className = "region-layer";
      this.canvas = document.createElement("canvas");
      box.append(this.canvas);
      viewer.osd.canvas.append(box);
      this.context = this.canvas.getContext("2d");
      for (const event of ["update-viewport", "resize", "animation-finish"]) viewer.osd.addHandler(event, () => this.later());
    }

    set(data) {
      this.classes = data.classes;
      this.regions = data.regions.map((one) => ({
        ...one,
        area: one.t.endsWith("Polygon"),
        box: boundsOf(one.c),
        path: pathOf(one.t, one.c),
        points: pointsOf(one.t, one.c),
      }));
      const chunks = new Map();
      for (const one of this.regions) {
        const at = [0, 1].map((i) => Math.floor(((one.box[i] + one.box[i + 2]) / 2 / [this.viewer.slide.width, this.viewer.slide.height][i]) * CHUNKS));
        const key = `${one.k}/${one.area}/${at}`;
        if (!chunks.has(key)) chunks.set(key, { k: one.k, area: one.area, path: new Path2D(), points: [], box: [...one.box] });
        const chunk = chunks.get(key);
        chunk.path.addPath(one.path);
        chunk.points.push(...one.points);
        chunk.box = [0, 1].map((i) => Math.min(chunk.box[i], one.box[i])).concat([2, 3].map((i) => Math.max(chunk.box[i], one.box[i])));
      }
      this.chunks = [...chunks.values()];
      this.later();
    }

    later() {
      if (this.waiting) return;
      this.waiting = requestAnimationFrame(() => {
        this.waiting = null;
        this.draw();
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

    draw() {
      const at = this.affine();
      const { clientWidth: width, clientHeight: height } = this.viewer.osd.canvas;
      const ratio = window.devicePixelRatio || 1;
      if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(height * ratio);
      }
      const c = this.context;
      c.setTransform(1, 0, 0, 1, 0, 0);
      c.clearRect(0, 0, this.canvas.width, this.canvas.height);
      if (!at) return;
      this.at = at;
      c.setTransform(ratio * at.scale, 0, 0, ratio * at.scale, ratio * at.x, ratio * at.y);
      c.lineJoin = "round";
      const view = [-at.x / at.scale, -at.y / at.scale, (width - at.x) / at.scale, (height - at.y) / at.scale];
      if (this.shown) {
        for (const chunk of this.chunks) {
          if (this.hidden.has(chunk.k) || !overlap(chunk.box, view)) continue;
          const kind = this.classes[chunk.k];
          this.outline(chunk, kind.colour, kind.role, at.scale, kind.n < MANY);
        }
        const chosen = this.regions.find((one) => one.id === this.selected);
        if (chosen && !this.hidden.has(chosen.k)) this.emphasis(chosen, at.scale);
      }
      if (this.draft) this.sketch(this.draft, at.scale);
    }

    outline(chunk, colour, role, scale, cased) {
      const c = this.context;
      if (chunk.area && role === "exclude") {
        c.fillStyle = this.hatch(colour, scale);
        c.fill(chunk.path, "evenodd");
      } else if (chunk.area) {
        c.globalAlpha = role === "analyse" ? 0.06 : 0.14;
        c.fillStyle = colour;
        c.fill(chunk.path, "evenodd");
        c.globalAlpha = 1;
      }
      if (cased) this.stroke(chunk.path, "#fff", 4.5, scale);
      c.setLineDash(role === "exclude" ? [6 / scale, 4 / scale] : []);
      this.stroke(chunk.path, colour, role === "analyse" ? 2.6 : 2, scale);
      c.setLineDash([]);
      for (const point of chunk.points) this.pin(point, colour, scale, 5.5);
    }

    emphasis(one, scale) {
      this.stroke(one.path, "#fff", 8, scale);
      this.stroke(one.path, this.classes[one.k].colour, 4, scale);
      for (const point of one.points) this.pin(point, this.classes[one.k].colour, scale, 9);
    }

    sketch(draft, scale) {
      const c = this.context;
      const path = pathOf(draft.open ? "LineString" : draft.type, draft.coordinates);
      if (!draft.open) {
        c.fillStyle = "rgb(0 114 178 / 14%)";
        c.fill(path, "evenodd");
      }
      this.stroke(path, "#fff", 5, scale);
      c.setLineDash([7 / scale, 4 / scale]);
      this.stroke(path, "#0072b2", 2.4, scale);
      c.setLineDash([]);
      const corners = draft.type === "Point" ? [draft.coordinates] : draft.open ? draft.coordinates : [];
      for (const point of corners) this.pin(point, "#0072b2", scale, draft.open ? 4 : 8);
    }

    stroke(path, colour, width, scale) {
      this.context.lineWidth = width / scale;
      this.context.strokeStyle = colour;
      this.context.stroke(path);
    }

    pin(point, colour, scale, radius) {
      const c = this.context;
      c.beginPath();
      c.arc(point[0], point[1], radius / scale, 0, 2 * Math.PI);
      c.fillStyle = colour;
      c.fill();
      c.lineWidth = 2 / scale;
      c.strokeStyle = "#fff";
      c.stroke();
    }

    hatch(colour, scale) {
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
        this.tiles.set(colour, this.context.createPattern(tile, "repeat"));
      }
      const pattern = this.tiles.get(colour);
      pattern.setTransform(new DOMMatrix([1 / scale, 0, 0, 1 / scale, 0, 0]));
      return pattern;
    }

    // The region under a place (px0): points and lines before areas, small areas before large ones.
    hit(x, y) {
      const near = NEAR / this.at.scale;
      const c = this.context;
      c.setTransform(1, 0, 0, 1, 0, 0);
      c.lineWidth = 2 * near;
      const found = this.regions.filter((one) => {
        if (this.hidden.has(one.k) || !overlap(one.box, [x - near, y - near, x + near, y + near])) return false;
        if (one.points.length) return one.points.some((p) => Math.hypot(p[0] - x, p[1] - y) <= 1.5 * near);
        return one.area ? c.isPointInPath(one.path, x, y, "evenodd") : c.isPointInStroke(one.path, x, y);
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
      const answer = await fetch(root.dataset.url, { headers: { accept: "application/json" } });
      if (!answer.ok) return viewer.say("The regions could not be loaded. Reload the page.");
      const data = await answer.json();
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
