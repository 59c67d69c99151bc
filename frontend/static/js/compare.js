// Block 7: her tissue and up to three neighbours' side by side, with the matched niches as numbered boxes in the same colours on all.
"use strict";

(function () {
  const MOST = 3;
  const TILE = 256;

  // A slide is opened by its address; an image of measured channels by a description of its tiles, levels counted from the smallest.
  function sourceOf(tissue) {
    if (!tissue.multiplex) return tissue.dzi;
    let levels = 1;
    while (Math.max(tissue.width, tissue.height) > TILE * 2 ** (levels - 1)) levels += 1;
    const query = tissue.multiplex.shown.map((one) => `c=${one.channel}:${one.colour.slice(1)}:${one.low}:${one.high}`).join("&");
    return {
      width: tissue.width,
      height: tissue.height,
      tileSize: TILE,
      tileOverlap: 0,
      minLevel: 0,
      maxLevel: levels - 1,
      getTileUrl: (level, col, row) => `${tissue.multiplex.tiles}${levels - 1 - level}/${col}_${row}.jpeg?${query}`,
    };
  }

  const viewerOf = (host, tissue) => new tissueboard.SlideViewer(host, { ...tissue, dzi: sourceOf(tissue) });
  const centreOf = (box) => ({ x: box[0] + box[2] / 2, y: box[1] + box[3] / 2 });

  // Where two tissues are laid on each other: at a matched niche, or at the middle of all of them, by how much tissue they stand for.
  function anchors(boxes, chosen) {
    const used = chosen ? boxes.filter((one) => one.n === chosen) : boxes;
    const total = used.reduce((sum, one) => sum + one.mass, 0);
    const middle = (key) =>
      used.reduce((sum, one) => ({ x: sum.x + (one.mass / total) * centreOf(one[key]).x, y: sum.y + (one.mass / total) * centreOf(one[key]).y }), { x: 0, y: 0 });
    return used.length ? { query: middle("query"), hit: middle("hit") } : null;
  }

  function start(panel) {
    if (panel.dataset.started) return;
    panel.dataset.started = "yes";
    const body = panel.closest(".similar");
    const own = JSON.parse(panel.dataset.own);
    const find = (selector) => panel.querySelector(selector);
    const same = find("[data-same-overlay]");
    const lock = find("[data-lock]");
    const said = find("[data-said]");
    const left = viewerOf(find("[data-left]"), own);
    const buttons = [...body.querySelectorAll("[data-neighbour]")];
    // What is beside hers, by the neighbour's button: {button, tissue, viewer, element}. pinned: buttons, first pinned first.
    let sides = [];
    let pinned = [];
    let shown = null;
    let chosen = null;
    let following = false;

    function say(text) {
      said.textContent = text;
      said.hidden = !text;
    }

    // One channel means the same on all only under one version of the map.
    function overlays() {
      if (!same) return;
      const marker = tissueboard.marker;
      const wanted = same.checked && marker && own.map && own.map.prediction === marker.prediction;
      left.overlay(wanted ? own.map : null, wanted ? marker.channel : 0);
      sides.forEach((side) => side.viewer.overlay(wanted ? side.tissue.map : null, wanted ? marker.channel : 0));
    }

    function open(button) {
      const element = find("template[data-side]").content.firstElementChild.cloneNode(true);
      const tissue = JSON.parse(button.dataset.neighbour);
      element.querySelector("[data-name]").textContent = tissue.code;
      find(".compare-tools").before(element);
      const side = { button, tissue, element, viewer: viewerOf(element.querySelector("[data-right]"), tissue) };
      side.viewer.boxes(tissue.boxes.map((one) => ({ ...one, box: one.hit })));
      side.viewer.osd.addHandler("update-viewport", () => follow(side));
      return side;
    }

    // Opens and closes viewers until those beside hers are the pinned ones and the one that is looked at.
    function arrange() {
      const wanted = [...new Set([...pinned, ...(shown && pinned.length < MOST ? [shown] : [])])];
      sides.filter((side) => !wanted.includes(side.button)).forEach((side) => {
        side.viewer.destroy();
        side.element.remove();
      });
      sides = wanted.map((button) => sides.find((side) => side.button === button) || open(button));
      for (const side of sides) side.element.querySelector("[data-pinned]").hidden = !pinned.includes(side.button);
      for (const button of buttons) {
        button.setAttribute("aria-pressed", String(button === shown));
        pinOf(button).setAttribute("aria-pressed", String(pinned.includes(button)));
        pinOf(button).textContent = pinned.includes(button) ? "Pinned" : "Pin";
      }
      panel.dataset.sides = 1 + sides.length;
      const looked = sides.find((side) => side.button === shown) || sides[0];
      left.boxes(looked.tissue.boxes.map((one) => ({ ...one, box: one.query })));
      find("[data-matches]").replaceChildren(...looked.tissue.boxes.map(matchOf));
      panel.dataset.shown = looked.tissue.code;
      overlays();
      align();
    }

    // A viewer that opened, or has another width now, shows the same place as hers again.
    async function align() {
      const now = sides;
      await Promise.all([left, ...now.map((side) => side.viewer)].map((viewer) => viewer.ready)).catch(() => {});
      if (now !== sides || !lock.checked || !panel.isConnected) return;
      requestAnimationFrame(() => {
        leader = left;
        follow(null);
      });
    }

    const pinOf = (button) => button.parentElement.querySelector("[data-pin]");

    function show(button) {
      if (pinned.length === MOST && !pinned.includes(button)) {
        say(`${MOST} cases are pinned. Take the pin from one of them to look at another.`);
        return;
      }
      say("");
      shown = button;
      chosen = null;
      left.osd.viewport.goHome();
      arrange();
    }

    function pin(button) {
      const has = pinned.includes(button);
      if (!has && pinned.length === MOST) {
        say(`${MOST} cases are pinned. Take the pin from one of them first.`);
        return;
      }
      say("");
      pinned = has ? pinned.filter((one) => one !== button) : [...pinned, button];
      if (!has || !sides.some((side) => side.button === shown)) shown = button;
      arrange();
    }

    function matchOf(one) {
      const group = document.createElement("span");
      group.className = "match";
      const button = document.createElement("button");
      const mark = document.createElement("i");
      button.type = "button";
      button.style.color = one.colour;
      const text = document.createElement("span");
      text.style.color = "var(--ink)";
      text.textContent = `${one.n}: ${(100 * one.mass).toFixed(0)}% of the tissue`;
      button.append(mark, text);
      button.setAttribute("aria-label", `Look at matched niche ${one.n} on both`);
      button.addEventListener("click", () => {
        chosen = one.n;
        left.lookAt(one.query);
        const looked = sides.find((side) => side.button === shown) || sides[0];
        looked.viewer.lookAt(one.hit);
      });
      const like = document.createElement("a");
      like.className = "small";
      like.href = one.like;
      like.textContent = "similar";
      like.setAttribute("aria-label", `Niches of other patients like niche ${one.n}`);
      like.addEventListener("click", (event) => {
        event.preventDefault();
        htmx.ajax("GET", one.like, { target: body.querySelector("#like-niche"), swap: "outerHTML" });
      });
      group.append(button, like);
      return group;
    }

    // Locked: the same um from the matched niche, at the same um per screen pixel. from, to: {viewer, tissue, at (px0)}.
    function lay(from, to) {
      const source = from.viewer.osd.world.getItemAt(0);
      const target = to.viewer.osd.world.getItemAt(0);
      if (!source || !target || !from.tissue.mpp || !to.tissue.mpp) return;
      const centre = source.viewportToImageCoordinates(from.viewer.osd.viewport.getCenter(true));
      const scale = from.tissue.mpp / to.tissue.mpp;
      const point = new OpenSeadragon.Point(to.at.x + (centre.x - from.at.x) * scale, to.at.y + (centre.y - from.at.y) * scale);
      const zoom = source.viewportToImageZoom(from.viewer.osd.viewport.getZoom(true)) / scale;
      to.viewer.osd.viewport.zoomTo(target.imageToViewportZoom(zoom), null, true);
      to.viewer.osd.viewport.panTo(target.imageToViewportCoordinates(point), true);
    }

    // moved: the side that a person moves, null for hers. All others follow it.
    function follow(moved) {
      if (!lock.checked || following || !sides.length || (moved ? moved.viewer : left) !== leader) return;
      following = true;
      const places = sides.map((side) => ({ side, at: anchors(side.tissue.boxes, side.button === shown ? chosen : null) })).filter((one) => one.at);
      const mine = places.find((one) => one.side === moved);
      if (moved && mine) lay({ viewer: moved.viewer, tissue: moved.tissue, at: mine.at.hit }, { viewer: left, tissue: own, at: mine.at.query });
      for (const { side, at } of places) {
        if (side !== moved) lay({ viewer: left, tissue: own, at: at.query }, { viewer: side.viewer, tissue: side.tissue, at: at.hit });
      }
      following = false;
    }

    // Only what a person moves leads; what follows, or flies to a niche by a button, does not.
    let leader = null;
    const lead = (event) => {
      const host = event.target.closest(".osd");
      const side = sides.find((one) => one.element.contains(host));
      leader = host && host.matches("[data-left]") ? left : side ? side.viewer : null;
    };
    for (const kind of ["pointerdown", "wheel", "keydown", "dblclick"]) panel.addEventListener(kind, lead, { capture: true, passive: true });
    left.osd.addHandler("update-viewport", () => follow(null));
    lock.addEventListener("change", () => {
      if (!lock.checked) return;
      leader = left;
      follow(null);
    });

    buttons.forEach((button) => {
      button.addEventListener("click", () => show(button));
      pinOf(button).addEventListener("click", () => pin(button));
    });
    if (same) {
      same.addEventListener("change", overlays);
      same.disabled = !own.map || !tissueboard.marker;
    }
    const marked = () => {
      if (!panel.isConnected) document.removeEventListener("tissueboard:marker", marked);
      else if (same && same.checked) overlays();
    };
    document.addEventListener("tissueboard:marker", marked);
    tissueboard.compare = { left, sides: () => sides };
    if (buttons.length) show(buttons[0]);
  }

  const startAll = () => document.querySelectorAll("[data-compare]").forEach(start);
  startAll();
  document.addEventListener("htmx:afterSettle", startAll);
})();
