// A multiplex image: up to six channels in colours, each between two stored values, drawn by the server and added up.
"use strict";

(function () {
  const root = document.querySelector("[data-multiplex]");
  if (!root) return;
  const image = JSON.parse(root.dataset.multiplex);
  const find = (selector) => root.querySelector(selector);
  const TILE = 256;
  const SLOTS = 6;
  const ALWAYS = 4; // rows that are there even where they are empty
  const COLOURS = ["#4d6dff", "#00d000", "#ff4040", "#ffd700", "#ff40ff", "#00e5ff"];
  let levels = 1;
  while (Math.max(image.width, image.height) > TILE * 2 ** (levels - 1)) levels += 1;

  const text = (value) => String(Number(value.toPrecision(5)));
  // slots: {channel, colour, low, high, on, row}; channel null for an empty one.
  const slots = [];

  // OpenSeadragon counts levels from the smallest, the server from the largest.
  function source() {
    const query = slots
      .filter((slot) => slot.on && slot.channel !== null)
      .map((slot) => `c=${slot.channel}:${slot.colour.slice(1)}:${slot.low}:${slot.high}`)
      .join("&");
    return {
      width: image.width,
      height: image.height,
      tileSize: TILE,
      tileOverlap: 0,
      minLevel: 0,
      maxLevel: levels - 1,
      getTileUrl: (level, col, row) => `${image.tiles}${levels - 1 - level}/${col}_${row}.jpeg?${query}`,
    };
  }

  const outlines = find("[data-outlines]");
  // The outlines as they are drawn: loaded when they are first asked for.
  let cells = null;
  let asked = false;

  const template = find("[data-row]");
  for (let i = 0; i < SLOTS; i++) addSlot(i);

  function addSlot(i) {
    const first = image.shown[i];
    const row = template.content.firstElementChild.cloneNode(true);
    const slot = { channel: null, colour: first ? first.colour : COLOURS[i], low: 0, high: 1, on: Boolean(first), row };
    slots.push(slot);
    row.querySelector("legend").textContent = `Channel ${i + 1}`;
    find(".shown").append(row);
    const part = (selector) => row.querySelector(selector);
    part("[data-colour]").value = slot.colour;
    part("[data-on]").addEventListener("change", (event) => {
      slot.on = event.target.checked && slot.channel !== null;
      changed();
    });
    part("[data-colour]").addEventListener("input", (event) => {
      slot.colour = event.target.value;
      changed();
    });
    part("[data-name]").addEventListener("focus", (event) => event.target.select());
    part("[data-name]").addEventListener("change", (event) => choose(slot, event.target.value));
    part("[data-reset]").addEventListener("click", () => {
      setLimits(slot, image.channels[slot.channel].low, image.channels[slot.channel].high);
      changed();
    });
    for (const which of ["low", "high"]) {
      part(`[data-slide=${which}]`).addEventListener("input", (event) => {
        const { min, max } = image.channels[slot.channel];
        setLimit(slot, which, min + ((max - min) * event.target.value) / 1000);
      });
      part(`[data-value=${which}]`).addEventListener("change", (event) => {
        const value = Number(event.target.value.replace(",", ".").replace("−", "-"));
        setLimit(slot, which, event.target.value.trim() && Number.isFinite(value) ? value : slot[which]);
      });
    }
    if (first) take(slot, first.channel);
    else show(slot);
  }

  // By its name in full, or the first that contains what was typed; nothing else changes the channel.
  function choose(slot, text) {
    const wanted = text.trim().toLowerCase();
    const names = image.channels.map((channel) => channel.name.toLowerCase());
    const exact = names.indexOf(wanted);
    const index = exact >= 0 ? exact : wanted ? names.findIndex((name) => name.includes(wanted)) : -1;
    if (index >= 0) take(slot, index);
    else if (!wanted) Object.assign(slot, { channel: null, on: false });
    show(slot);
    changed();
  }

  function take(slot, index) {
    slot.channel = index;
    slot.on = true;
    setLimits(slot, image.channels[index].low, image.channels[index].high);
  }

  function setLimits(slot, low, high) {
    slot.low = low;
    slot.high = high;
    show(slot);
  }

  // Low stays below high: the other limit is pushed along by the smallest step.
  function setLimit(slot, which, value) {
    const { min, max } = image.channels[slot.channel];
    const step = image.whole ? 1 : (max - min || 1) / 1000;
    const rounded = image.whole ? Math.round(value) : Number(value.toPrecision(6));
    let { low, high } = slot;
    if (which === "low") {
      low = rounded;
      high = Math.max(high, low + step);
    } else {
      high = rounded;
      low = Math.min(low, high - step);
    }
    setLimits(slot, low, high);
    changed();
  }

  function show(slot) {
    const part = (selector) => slot.row.querySelector(selector);
    const channel = slot.channel === null ? null : image.channels[slot.channel];
    slot.row.toggleAttribute("data-off", !slot.on);
    // The fifth and sixth come when those before them are in use.
    slots.forEach((one, i) => (one.row.hidden = i >= ALWAYS && one.channel === null && slots.slice(0, i).some((before) => before.channel === null)));
    part("[data-on]").checked = slot.on;
    part("[data-on]").disabled = !channel;
    part("[data-on]").setAttribute("aria-label", channel ? `Draw ${channel.name}` : "No channel chosen");
    part("[data-name]").value = channel ? channel.name : "";
    part("[data-name]").placeholder = "choose a channel";
    for (const which of ["low", "high"]) {
      const slide = part(`[data-slide=${which}]`);
      slide.disabled = part(`[data-value=${which}]`).disabled = !channel;
      part(`[data-value=${which}]`).value = channel ? text(slot[which]) : "";
      slide.value = channel ? (1000 * (slot[which] - channel.min)) / (channel.max - channel.min || 1) : which === "low" ? 0 : 1000;
    }
    part("[data-reset]").hidden = !channel || (slot.low === channel.low && slot.high === channel.high);
  }

  const viewer = new tissueboard.SlideViewer(find("[data-osd]"), { dzi: source(), mpp: image.mpp, width: image.width, height: image.height }, {
    navigator: false,
    scale: find("[data-scale]"),
    message: find("[data-message]"),
    onKey: (key) => {
      if (key.toLowerCase() === "o" && outlines) {
        outlines.checked = !outlines.checked;
        showOutlines();
        return;
      }
      const slot = slots[Number(key) - 1];
      if (!slot || slot.channel === null) return;
      slot.on = !slot.on;
      show(slot);
      changed();
    },
  });
  const zooms = { in: () => viewer.osd.viewport.zoomBy(1.5), out: () => viewer.osd.viewport.zoomBy(1 / 1.5), home: () => viewer.osd.viewport.goHome() };
  root.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => zooms[button.dataset.zoom]()));
  mark();

  // The new picture is laid over the old one, which goes when every tile in view is there: no flicker while a slider moves.
  let waiting = null;
  function changed() {
    slots.forEach(show);
    mark();
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 150);
  }

  function redraw() {
    viewer.osd.addTiledImage({
      tileSource: source(),
      success: ({ item }) => {
        const old = [];
        for (let i = 0; i < viewer.osd.world.getItemCount(); i++) {
          const other = viewer.osd.world.getItemAt(i);
          if (other !== item && other !== cells) old.push(other);
        }
        if (cells) viewer.osd.world.setItemIndex(cells, viewer.osd.world.getItemCount() - 1);
        const clear = () => old.forEach((other) => viewer.osd.world.getIndexOfItem(other) >= 0 && viewer.osd.world.removeItem(other));
        if (item.getFullyLoaded()) clear();
        else item.addOnceHandler("fully-loaded-change", clear);
      },
      error: () => viewer.say("The picture could not be drawn. Reload the page; its link may have expired."),
    });
  }

  // The outlines of the cells lie over whatever is drawn.
  function showOutlines() {
    if (cells) cells.setOpacity(outlines.checked ? 1 : 0);
    else if (outlines.checked && !asked) addOutlines();
  }

  function addOutlines() {
    asked = true;
    const { width, height } = image;
    const tileSource = new OpenSeadragon.TileSource({ width, height, tileSize: TILE, tileOverlap: 0, minLevel: 0, maxLevel: levels - 1 });
    tileSource.getTileUrl = (level, col, row) => `${image.cells}${levels - 1 - level}/${col}_${row}.png`;
    tileSource.hasTransparency = () => true;
    viewer.osd.addTiledImage({
      tileSource,
      success: ({ item }) => {
        cells = item;
        showOutlines();
      },
      error: () => viewer.say("The outlines of the cells could not be drawn. Reload the page."),
    });
  }
  if (outlines) outlines.addEventListener("change", showOutlines);

  // The table says which channels are drawn, and in which colour.
  function mark() {
    for (const row of document.querySelectorAll("tr[data-channel]")) {
      const slot = slots.find((one) => one.on && one.channel === Number(row.dataset.channel));
      row.toggleAttribute("data-drawn", Boolean(slot));
      if (slot) row.style.setProperty("--drawn", slot.colour);
      const button = row.querySelector("[data-draw]");
      button.disabled = Boolean(slot);
      button.textContent = slot ? "drawn" : "Draw";
    }
  }

  // Into an empty slot, else one that is switched off, else the last.
  document.querySelectorAll("[data-draw]").forEach((button) =>
    button.addEventListener("click", () => {
      const slot = slots.find((one) => one.channel === null) || slots.find((one) => !one.on) || slots[SLOTS - 1];
      take(slot, Number(button.dataset.draw));
      changed();
    }),
  );

  const search = document.querySelector("#channel-search");
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    for (const row of document.querySelectorAll("tr[data-channel]")) row.hidden = !row.dataset.name.toLowerCase().includes(wanted);
  });
})();
