// One slide in OpenSeadragon with at most one map over it, a scale bar and numbered boxes.
// Everything it needs comes in a plain object (from a data- attribute): {dzi, mpp, width, height, map}.
"use strict";

window.tissueboard = window.tissueboard || {};

(function () {
  const NICE = [1, 2, 5];

  // OpenSeadragon would write a <style> element, which the page's security policy refuses; the rule is in viewer.css.
  function keepStyleOut() {
    if (!document.querySelector("style[data-openseadragon-mobile-css]")) {
      // Found by its name, but in no namespace that browsers style by.
      const mark = document.createElementNS("urn:tissueboard:none", "style");
      mark.setAttribute("data-openseadragon-mobile-css", "true");
      document.head.append(mark);
    }
  }

  function niceLength(largest) {
    const power = 10 ** Math.floor(Math.log10(largest));
    const factor = NICE.filter((f) => f * power <= largest).pop() || 1;
    return factor * power;
  }

  function lengthText(um) {
    return um >= 1000 ? `${um / 1000} mm` : `${um} µm`;
  }

  class SlideViewer {
    // host: the element to fill. slide: the plain object. options: {navigator, scale (element), message (element)}
    constructor(host, slide, options = {}) {
      keepStyleOut();
      this.slide = slide;
      this.options = options;
      this.opacity = 0.6;
      this.shown = true;
      this.hatched = true;
      // Under a map the tissue is drawn in grey, so that hue comes from the map alone and reads like the colour bar.
      this.grey = true;
      OpenSeadragon.setString("GestureHints.Scroll", "Click the slide, then the wheel zooms");
      this.osd = OpenSeadragon({
        element: host,
        tileSources: slide.dzi,
        drawer: "canvas",
        showNavigationControl: false,
        showNavigator: Boolean(options.navigator),
        navigatorPosition: "BOTTOM_RIGHT",
        navigatorSizeRatio: 0.16,
        navigatorAutoFade: false,
        cooperativeGestures: true,
        gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
        maxZoomPixelRatio: 4,
        visibilityRatio: 0.4,
        minZoomImageRatio: 0.7,
        animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.5,
      });
      this.ready = new Promise((resolve, reject) => {
        this.osd.addOnceHandler("open", resolve);
        this.osd.addOnceHandler("open-failed", (event) => reject(new Error(event.message)));
      });
      this.ready.then(() => this.drawScale(), () =>
        this.sayWhy(slide.dzi, "The slide could not be opened. Reload the page; its link may have expired."));
      for (const event of ["update-viewport", "resize"]) {
        this.osd.addHandler(event, () => this.drawScale());
      }
      this.osd.addHandler("canvas-key", (event) => this.key(event));
      // The wheel belongs to the page until somebody takes hold of the slide.
      this.osd.canvas.addEventListener("focus", () => this.share());
      this.osd.canvas.addEventListener("blur", () => this.share(true));
      this.osd.addHandler("tile-load-failed", (event) =>
        this.sayWhy(event.tile.getUrl(), "Some parts of the slide could not be loaded. Reload the page."));
    }

    // Why nothing came from this address, in the server's words where it has some; asked once.
    async sayWhy(address, otherwise) {
      if (this.toldWhy) return;
      this.toldWhy = true;
      this.say(otherwise);
      const answer = await fetch(address, { headers: { accept: "application/json" } }).catch(() => null);
      const body = answer && !answer.ok && answer.status !== 404 ? await answer.json().catch(() => null) : null;
      if (body && body.sentence) this.say(`${body.sentence} ${body.hint}`);
    }

    // Whether wheel and finger move the page rather than the slide; never while something is drawn on it.
    share(left = false) {
      this.osd.setCooperativeGestures(!this.drawing && (left || matchMedia("(pointer: coarse)").matches));
    }

    say(text) {
      if (this.options.message) {
        this.options.message.textContent = text;
        this.options.message.hidden = false;
      }
    }

    // Draws the same slide with or without the scanner's colour profile. The view, the map and the boxes stay.
    async colourProfile(on) {
      await this.ready;
      const old = this.osd.world.getItemAt(0).source;
      const tileSource = new OpenSeadragon.DziTileSource({
        width: old.dimensions.x,
        height: old.dimensions.y,
        tileSize: old.getTileWidth(old.maxLevel),
        tileOverlap: old.tileOverlap,
        minLevel: old.minLevel,
        maxLevel: old.maxLevel,
        tilesUrl: old.tilesUrl,
        fileFormat: old.fileFormat,
        queryParams: on ? "?icc=1" : "",
      });
      this.osd.preserveViewport = true;
      this.osd.addTiledImage({ tileSource, index: 0, replace: true });
    }

    // Rectangle in px0 -> rectangle of the viewport.
    place(x, y, width, height) {
      return this.osd.world.getItemAt(0).imageToViewportRectangle(x, y, width, height);
    }

    picture(url, name) {
      const image = document.createElement("img");
      image.className = "map-picture";
      image.alt = "";
      image.dataset.layer = name;
      image.addEventListener("error", () => this.say("The map of this marker could not be loaded."));
      image.addEventListener("load", () => image.setAttribute("data-loaded", "true"));
      image.src = url;
      return image;
    }

    // Draws channel of a map ({png, origin, step, rows, cols, range}) in place of the one before.
    async overlay(map, channel) {
      await this.ready;
      this.clearMap();
      if (!map) return;
      const where = this.place(map.origin[0], map.origin[1], map.cols * map.step, map.rows * map.step);
      this.map = this.picture(map.png.replace("{channel}", channel), "map");
      this.osd.addOverlay({ element: this.map, location: where });
      if (map.range) {
        this.hatch = this.picture(map.range, "hatch");
        this.osd.addOverlay({ element: this.hatch, location: where });
      }
      this.apply();
    }

    clearMap() {
      for (const layer of [this.map, this.hatch]) {
        if (layer) this.osd.removeOverlay(layer);
      }
      this.map = this.hatch = null;
    }

    apply() {
      this.osd.element.classList.toggle("greyed", Boolean(this.map) && this.shown && this.grey && this.opacity > 0);
      if (this.map) {
        this.map.style.opacity = this.opacity;
        this.map.style.visibility = this.shown ? "visible" : "hidden";
      }
      if (this.hatch) this.hatch.style.visibility = this.shown && this.hatched ? "visible" : "hidden";
    }

    // boxes: [{n, colour, box: [x, y, width, height] in px0}]
    async boxes(boxes) {
      await this.ready;
      for (const old of this.drawn || []) this.osd.removeOverlay(old);
      // One niche may be matched twice: its second frame stands inside the first, its second number beside it.
      const nested = new Map();
      this.drawn = boxes.map((one) => {
        const depth = nested.get(String(one.box)) || 0;
        nested.set(String(one.box), depth + 1);
        const element = document.createElement("div");
        element.className = "niche-box";
        element.style.color = one.colour;
        const frame = document.createElement("i");
        frame.style.inset = `${5 * depth}px`;
        const label = document.createElement("span");
        label.style.left = `${20 * depth}px`;
        const number = document.createElement("b");
        number.textContent = one.n;
        label.append(number);
        element.append(frame, label);
        this.osd.addOverlay({ element, location: this.place(...one.box) });
        return element;
      });
    }

    async lookAt(box) {
      await this.ready;
      const around = 3 * Math.max(box[2], box[3]);
      const x = box[0] + box[2] / 2 - around / 2;
      const y = box[1] + box[3] / 2 - around / 2;
      this.osd.viewport.fitBounds(this.place(x, y, around, around));
    }

    drawScale() {
      const bar = this.options.scale;
      const item = this.osd.world.getItemAt(0);
      if (!bar || !item || !this.slide.mpp) return;
      const screenPerPx0 = item.viewportToImageZoom(this.osd.viewport.getZoom(true));
      const um = niceLength((120 / screenPerPx0) * this.slide.mpp);
      bar.querySelector("span").textContent = lengthText(um);
      bar.querySelector("i").style.width = `${(um / this.slide.mpp) * screenPerPx0}px`;
    }

    // Position of a pointer event in px0.
    px0(event) {
      const box = this.osd.element.getBoundingClientRect();
      const point = new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top);
      return this.osd.world.getItemAt(0).viewerElementToImageCoordinates(point);
    }

    key(event) {
      const key = event.originalEvent.key;
      if (key.startsWith("Arrow") || key === "0" || key === "Tab") return;
      const zoom = { "+": 1.3, "=": 1.3, "-": 1 / 1.3, _: 1 / 1.3 }[key];
      // By the sign, not by the place on the keyboard: keyboards differ in where plus is.
      if (zoom) this.osd.viewport.zoomBy(zoom);
      // Turning and mirroring a slide by a slip of the finger would confuse more than help.
      event.preventDefaultAction = true;
      if (this.options.onKey) this.options.onKey(key);
    }

    destroy() {
      this.osd.destroy();
    }
  }

  window.tissueboard.SlideViewer = SlideViewer;
})();
