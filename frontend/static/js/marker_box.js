// The marker search: a combobox by the ARIA pattern (type to filter, arrows, Enter, Escape). Locked markers are listed, said to be locked,
// and cannot be chosen. Raises "marker" on its root with {channel, name}.
"use strict";

(function () {
  function start(root) {
    const input = root.querySelector("input");
    const list = root.querySelector("ul");
    const options = [...list.querySelectorAll("[role=option]")];
    let active = null;
    let chosen = options.find((one) => one.getAttribute("aria-selected") === "true") || null;

    const locked = (one) => one.getAttribute("aria-disabled") === "true";
    const visible = () => options.filter((one) => !one.hidden);

    function point(one) {
      if (active) active.removeAttribute("data-active");
      active = one;
      if (one) {
        one.setAttribute("data-active", "");
        one.scrollIntoView({ block: "nearest" });
        input.setAttribute("aria-activedescendant", one.id);
      } else {
        input.removeAttribute("aria-activedescendant");
      }
    }

    function open(filter) {
      const words = filter.toLowerCase();
      for (const one of options) one.hidden = !one.dataset.name.toLowerCase().includes(words);
      list.hidden = false;
      input.setAttribute("aria-expanded", "true");
      point(visible().find((one) => one === chosen) || visible().find((one) => !locked(one)) || null);
    }

    function close() {
      list.hidden = true;
      input.setAttribute("aria-expanded", "false");
      input.value = chosen ? chosen.dataset.name : "";
      point(null);
    }

    function choose(one) {
      if (!one || locked(one)) return;
      if (chosen) chosen.setAttribute("aria-selected", "false");
      chosen = one;
      one.setAttribute("aria-selected", "true");
      close();
      root.dispatchEvent(new CustomEvent("marker", { detail: { channel: Number(one.dataset.channel), name: one.dataset.name } }));
    }

    function step(by) {
      const shown = visible();
      if (!shown.length) return;
      const at = shown.indexOf(active);
      point(shown[(at + by + shown.length) % shown.length]);
    }

    input.addEventListener("focus", () => input.select());
    input.addEventListener("click", () => (list.hidden ? open("") : close()));
    input.addEventListener("input", () => open(input.value));
    input.addEventListener("blur", close);
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        if (list.hidden) open("");
        else step(event.key === "ArrowDown" ? 1 : -1);
      } else if (event.key === "Enter" && !list.hidden) choose(active);
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
    });
    // mousedown, not click: the list must not close by the input's blur before the choice counts.
    list.addEventListener("mousedown", (event) => {
      event.preventDefault();
      choose(event.target.closest("[role=option]"));
    });
  }

  document.querySelectorAll("[data-marker-box]").forEach(start);
})();
