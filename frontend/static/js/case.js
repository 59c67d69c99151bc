// Block 5 of the case page: the slide, its overlay, the colour bar and the value under the pointer.
"use strict";

(function () {
  const root = document.querySelector("[data-viewer]");
  if (root) startViewer(root);
  followRail();

  function startViewer(root) {
    const slide = JSON.parse(root.dataset.slide);
    const map = root.dataset.map ? JSON.parse(root.dataset.map) : null;
    // What the risk comes from, as a layer of its own.
    const explained = root.dataset.explained ? JSON.parse(root.dataset.explained) : null;
    const find = (selector) => root.querySelector(selector);
    const viewer = new tissueboard.SlideViewer(find("[data-osd]"), slide, {
      navigator: true,
      scale: find("[data-scale]"),
      message: find("[data-message]"),
      onKey: (key) => onKey(key),
    });
    tissueboard.main = viewer;
    const profile = find("[data-profile]");
    if (profile) profile.addEventListener("change", () => viewer.colourProfile(profile.checked));
    const zooms = { in: () => viewer.osd.viewport.zoomBy(1.5), out: () => viewer.osd.viewport.zoomBy(1 / 1.5), home: () => viewer.osd.viewport.goHome() };
    root.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => zooms[button.dataset.zoom]()));
    if (!map) return;

    const opacity = find("#opacity");
    const on = find("#overlay-on");
    const range = find("#range-on");
    const grey = find("#grey-on");
    const readOut = find("[data-read-out]");
    const number = (value) => value.toFixed(2).replace("-", "−");
    const signed = (value) => `${value > 0 ? "+" : ""}${value.toPrecision(2)}`.replace("-", "−");
    const pitch = find("#pitch");
    const shown = find("#shown");
    let layer = map.layers[0];
    let values = null;
    let asked = 0;

    function show(channel) {
      const marker = map.markers[channel];
      if (!marker || marker.locked) return;
      if (layer === explained) chooseShown("proteins");
      // Other tissues are compared at the pitch that all of them have.
      tissueboard.marker = { channel, name: marker.name, prediction: map.layers[0].prediction };
      root.dataset.marker = marker.name;
      find("[data-bar-name]").textContent = marker.name;
      find("[data-bar-low]").textContent = number(marker.low);
      find("[data-bar-high]").textContent = number(marker.high);
      viewer.overlay(layer, channel);
      loadValues(channel);
      document.dispatchEvent(new CustomEvent("tissueboard:marker"));
    }

    function showContribution() {
      find("[data-bar-name]").textContent = explained.name;
      find("[data-bar-low]").textContent = signed(explained.low);
      find("[data-bar-high]").textContent = signed(explained.high);
      viewer.overlay(explained, 0);
      loadValues(0);
    }

    // One overlay at a time: a virtual protein, or the contributions to the risk.
    function chooseShown(what) {
      const risk = what === "risk";
      if (shown) shown.value = what;
      root.dataset.shown = what;
      layer = risk ? explained : map.layers[pitch ? pitch.value : 0];
      root.querySelectorAll("[data-bar]").forEach((bar) => bar.toggleAttribute("hidden", (bar.dataset.bar === "risk") !== risk));
      if (risk) showContribution();
    }

    async function loadValues(channel) {
      const mine = ++asked;
      values = null;
      delete root.dataset.values;
      readOut.textContent = "Point at the tissue to read a value.";
      try {
        const answer = await fetch(layer.values.replace("{channel}", channel), { headers: { accept: "application/json" } });
        const body = await answer.json();
        if (mine !== asked) return;
        if (answer.ok) {
          values = body;
          values.far = new Set(body.far);
          root.dataset.values = values.name;
        } else readOut.textContent = body.sentence;
      } catch {
        if (mine === asked) readOut.textContent = "The values under the pointer could not be loaded.";
      }
    }

    function read(event) {
      if (!values || !viewer.osd.world.getItemCount()) return;
      const at = viewer.px0(event);
      const col = Math.floor((at.x - layer.origin[0]) / layer.step);
      const row = Math.floor((at.y - layer.origin[1]) / layer.step);
      const inside = row >= 0 && col >= 0 && row < values.rows && col < values.cols;
      const value = inside ? values.values[row * values.cols + col] : null;
      const far = inside && values.far.has(row * values.cols + col);
      if (value === null) readOut.textContent = "No tissue here.";
      else if (layer === explained) readOut.textContent = `${values.name} ${signed(value)}`;
      else readOut.textContent = `${values.name} ${number(value)}${interval(value, far)}`;
    }

    // What may be said of a value beside the value: its interval, or why it has none.
    function interval(value, far) {
      const { percent, patients, why, half } = layer.interval;
      const width = half[tissueboard.marker.channel];
      if (!far && !why && width !== null) {
        const lower = Math.max(0, value - width);
        return ` (${number(lower)} to ${number(value + width)}, ${percent}% interval, n = ${patients} patients)`;
      }
      return ` (${values.unit}); no interval: ${far ? "outside the model’s range" : why || "not calibrated for this marker"}`;
    }

    function choosePitch() {
      chooseShown("proteins");
      document.querySelector("[data-pitch]").textContent = layer.pitch;
      if (tissueboard.marker) show(tissueboard.marker.channel);
    }

    function setOpacity(percent) {
      opacity.value = Math.min(100, Math.max(0, percent));
      find("output").textContent = `${opacity.value}%`;
      viewer.opacity = opacity.value / 100;
      viewer.apply();
    }

    function apply() {
      viewer.shown = on.checked;
      viewer.hatched = range.checked;
      viewer.grey = grey.checked;
      viewer.apply();
    }

    function onKey(key) {
      if (key === "o") on.checked = !on.checked;
      else if (key === "g") grey.checked = !grey.checked;
      else if (key === "h" && !range.disabled) range.checked = !range.checked;
      else if (key === "[") setOpacity(Number(opacity.value) - 10);
      else if (key === "]") setOpacity(Number(opacity.value) + 10);
      apply();
    }

    opacity.addEventListener("input", () => setOpacity(Number(opacity.value)));
    on.addEventListener("change", apply);
    range.addEventListener("change", apply);
    grey.addEventListener("change", apply);
    if (pitch) pitch.addEventListener("change", choosePitch);
    if (shown)
      shown.addEventListener("change", () => {
        chooseShown(shown.value);
        if (shown.value === "proteins" && tissueboard.marker) show(tissueboard.marker.channel);
      });
    apply();
    find("[data-osd]").addEventListener("pointermove", read);
    find("[data-marker-box]").addEventListener("marker", (event) => show(event.detail.channel));
    const first = find('[role=option][aria-selected="true"]');
    if (first) show(Number(first.dataset.channel));
  }

  // The rail says which block is being read.
  function followRail() {
    const links = new Map([...document.querySelectorAll(".rail a")].map((link) => [link.hash.slice(1), link]));
    if (!links.size) return;
    const seen = new Set();
    const observer = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.id);
        let found = false;
        for (const [id, link] of links) {
          if (!found && seen.has(id)) {
            link.setAttribute("aria-current", "true");
            found = true;
          } else link.removeAttribute("aria-current");
        }
      },
      { rootMargin: "-10% 0px -60% 0px" },
    );
    for (const id of links.keys()) {
      const block = document.getElementById(id);
      if (block) observer.observe(block);
    }
  }
})();
