// Block 7: her slide and one neighbour's side by side, with the matched niches as numbered boxes in the same colours on both.
"use strict";

(function () {
  function start(panel) {
    if (panel.dataset.started) return;
    panel.dataset.started = "yes";
    const body = panel.closest(".similar");
    const own = JSON.parse(panel.dataset.own);
    const find = (selector) => panel.querySelector(selector);
    const same = find("[data-same-overlay]");
    const left = new tissueboard.SlideViewer(find("[data-left]"), own);
    let right = null;
    let shown = null;

    // One channel means the same on both only under one version of the map.
    function overlays() {
      const marker = tissueboard.marker;
      const wanted = same.checked && marker && own.map && own.map.prediction === marker.prediction;
      left.overlay(wanted ? own.map : null, wanted ? marker.channel : 0);
      if (right) right.overlay(wanted ? shown.map : null, wanted ? marker.channel : 0);
    }

    function show(button) {
      shown = JSON.parse(button.dataset.neighbour);
      body.querySelectorAll("[data-neighbour]").forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
      find("[data-right-name]").textContent = shown.code;
      if (right) right.destroy();
      find("[data-right]").replaceChildren();
      right = new tissueboard.SlideViewer(find("[data-right]"), shown);
      left.osd.viewport.goHome();
      left.boxes(shown.boxes.map((one) => ({ ...one, box: one.query })));
      right.boxes(shown.boxes.map((one) => ({ ...one, box: one.hit })));
      find("[data-matches]").replaceChildren(...shown.boxes.map(matchButton));
      panel.dataset.shown = shown.code;
      overlays();
    }

    function matchButton(one) {
      const button = document.createElement("button");
      const mark = document.createElement("i");
      button.type = "button";
      button.style.color = one.colour;
      const text = document.createElement("span");
      text.style.color = "var(--ink)";
      text.textContent = `${one.n}: ${(100 * one.mass).toFixed(0)}% of the tissue`;
      button.append(mark, text);
      button.setAttribute("aria-label", `Look at matched niche ${one.n} on both slides`);
      button.addEventListener("click", () => {
        left.lookAt(one.query);
        right.lookAt(one.hit);
      });
      return button;
    }

    body.querySelectorAll("[data-neighbour]").forEach((button) => button.addEventListener("click", () => show(button)));
    same.addEventListener("change", overlays);
    const follow = () => {
      if (!panel.isConnected) document.removeEventListener("tissueboard:marker", follow);
      else if (same.checked) overlays();
    };
    document.addEventListener("tissueboard:marker", follow);
    same.disabled = !own.map || !tissueboard.marker;
    const first = body.querySelector("[data-neighbour]");
    if (first) show(first);
  }

  const startAll = () => document.querySelectorAll("[data-compare]").forEach(start);
  startAll();
  document.addEventListener("htmx:afterSettle", startAll);
})();
