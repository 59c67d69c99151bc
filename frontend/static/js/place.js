// Placing a measured image on a slide: pairs of landmarks by clicking in two viewers, and the server's picture of how they fit.
"use strict";

(function () {
  const root = document.querySelector("[data-place]");
  if (!root) return;
  const data = JSON.parse(root.dataset.place);
  const find = (selector) => root.querySelector(selector);
  const TILE = 256;
  const FEWEST = 3;

  // --- the picture to check by

  const pictures = { slide: find("[data-picture=slide]"), channel: find("[data-picture=channel]") };
  const chosen = find("[data-channel]");
  const colour = find("[data-colour]");
  const blend = find("[data-blend]");
  let placed = data.placed;
  chosen.value = String(data.channel);

  function limits(index) {
    const channel = data.image.channels[index];
    return `${channel.low}:${channel.high}`;
  }

  function showPicture() {
    find("[data-check]").hidden = !placed;
    if (!placed) return;
    const matrix = encodeURIComponent(placed.m);
    const index = Number(chosen.value);
    const slide = `${data.pictures.slide}?m=${matrix}`;
    if (pictures.slide.getAttribute("src") !== slide) pictures.slide.src = slide;
    pictures.channel.src = `${data.pictures.channel}?m=${matrix}&c=${index}:${colour.value.slice(1)}:${limits(index)}`;
    const { facts } = placed;
    const rows = [
      ["Residual", placed.residual_um === null ? "a given matrix has none" : `${placed.residual_um.toFixed(1)} µm`],
      ["Scale", `${facts.scale.toFixed(3)} (1 where both µm per pixel are right)`],
      ["Turned by", `${facts.rotation.toFixed(1)}°${facts.mirrored ? ", mirrored" : ""}`],
    ];
    find("[data-facts]").replaceChildren(...rows.map(([name, text]) => {
      const row = document.createElement("div");
      const [term, value] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      value.textContent = text;
      row.append(term, value);
      return row;
    }));
    find("[data-findings]").replaceChildren(...placed.findings.map((one) => {
      const note = document.createElement("p");
      note.className = "note warn";
      note.textContent = `${one.sentence} ${one.hint}`;
      return note;
    }));
  }

  for (const control of [chosen, colour]) control.addEventListener("change", showPicture);
  const mix = () => (pictures.channel.style.opacity = blend.value / 100);
  blend.addEventListener("input", mix);
  mix();
  showPicture();

  // --- the landmarks

  const form = find("[data-landmark-form]");
  if (!form) return;
  const said = find("[data-said]");
  const body = find("[data-pairs]");
  const SIDES = ["slide", "image"];
  // {slide: [x, y] or null, image: the same}
  const pairs = data.landmarks.map((pair) => ({ slide: pair.slide, image: pair.image }));

  function imageSource(channel) {
    const { tiles, width, height } = data.image;
    let levels = 1;
    while (Math.max(width, height) > TILE * 2 ** (levels - 1)) levels += 1;
    const query = `c=${channel}:ffffff:${limits(channel)}`;
    const getTileUrl = (level, col, row) => `${tiles}${levels - 1 - level}/${col}_${row}.jpeg?${query}`;
    return { width, height, tileSize: TILE, tileOverlap: 0, minLevel: 0, maxLevel: levels - 1, getTileUrl };
  }

  const seen = find("[data-landmark-channel]");
  seen.value = String(data.channel);
  const message = { message: said };
  const viewers = {
    slide: new tissueboard.SlideViewer(find("[data-osd=slide]"), data.slide, message),
    image: new tissueboard.SlideViewer(find("[data-osd=image]"), { ...data.image, dzi: imageSource(data.channel) }, message),
  };
  seen.addEventListener("change", () => {
    viewers.image.osd.addTiledImage({ tileSource: imageSource(Number(seen.value)), index: 0, replace: true });
  });

  for (const side of SIDES) {
    viewers[side].osd.addHandler("canvas-click", (event) => {
      if (!event.quick) return;
      const item = viewers[side].osd.world.getItemAt(0);
      const point = item.viewportToImageCoordinates(viewers[side].osd.viewport.pointFromPixel(event.position));
      const { width, height } = data[side];
      if (point.x < 0 || point.y < 0 || point.x > width || point.y > height) return;
      const place = [Number(point.x.toFixed(1)), Number(point.y.toFixed(1))];
      const open = pairs.find((pair) => pair[side] === null);
      if (open) open[side] = place;
      else pairs.push({ slide: null, image: null, [side]: place });
      changed();
    });
  }

  find("[data-add]").addEventListener("click", () => {
    pairs.push({ slide: null, image: null });
    draw();
    body.lastElementChild.querySelector("input").focus();
  });

  const whole = () => pairs.filter((pair) => pair.slide && pair.image);

  function marks() {
    for (const side of SIDES) {
      const viewer = viewers[side];
      viewer.ready.then(() => {
        for (const old of viewer.landmarks || []) viewer.osd.removeOverlay(old);
        viewer.landmarks = [];
        pairs.forEach((pair, i) => {
          if (!pair[side]) return;
          const element = document.createElement("div");
          element.className = "landmark";
          element.textContent = i + 1;
          const location = viewer.osd.world.getItemAt(0).imageToViewportCoordinates(...pair[side]);
          viewer.osd.addOverlay({ element, location });
          viewer.landmarks.push(element);
        });
      });
    }
  }

  function cell(label, ...children) {
    const found = document.createElement("td");
    found.dataset.label = label;
    found.append(...children);
    return found;
  }

  function numbers(pair, side, name) {
    return [0, 1].map((axis) => {
      const input = document.createElement("input");
      input.type = "text";
      input.inputMode = "decimal";
      input.value = pair[side] && pair[side][axis] !== null ? pair[side][axis] : "";
      input.setAttribute("aria-label", `${name}, ${"xy"[axis]}`);
      input.addEventListener("change", () => {
        const both = [...input.parentElement.querySelectorAll("input")].map((one) => one.value.trim().replace(",", "."));
        const values = both.map(Number);
        pair[side] = both.every((text) => text !== "") && values.every(Number.isFinite) ? values : null;
        if (both.every((text) => text !== "")) changed();
      });
      return input;
    });
  }

  function draw(off = []) {
    let n = 0;
    body.replaceChildren(...pairs.map((pair, i) => {
      const row = document.createElement("tr");
      const complete = pair.slide && pair.image;
      row.toggleAttribute("data-open", !complete);
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = i + 1;
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "small-button";
      remove.textContent = "Remove";
      remove.setAttribute("aria-label", `Remove pair ${i + 1}`);
      remove.addEventListener("click", () => {
        pairs.splice(i, 1);
        changed();
      });
      const away = complete ? off[n++] : undefined;
      const far = cell("Off, µm", away === undefined ? "–" : away.toFixed(1));
      far.className = "num";
      row.append(
        head,
        cell("On the slide, x, y px", ...numbers(pair, "slide", `Pair ${i + 1} on the slide`)),
        cell("On the image, x, y px", ...numbers(pair, "image", `Pair ${i + 1} on the image`)),
        far,
        cell("", remove),
      );
      return row;
    }));
    form.elements.landmarks.value = JSON.stringify(whole());
  }

  function tell(text, tone = "info") {
    said.hidden = false;
    said.className = `note ${tone}`;
    said.textContent = text;
  }

  let asked = 0;
  async function changed() {
    draw();
    marks();
    find("[data-save]").disabled = true;
    const left = FEWEST - whole().length;
    if (left > 0) return tell(`${left} more pair${left > 1 ? "s are" : " is"} needed.`);
    const mine = ++asked;
    const fields = new FormData(form);
    fields.set("action", "preview");
    const answer = await fetch(location.pathname, { method: "POST", body: fields }).catch(() => null);
    const found = answer ? await answer.json().catch(() => null) : null;
    if (mine !== asked) return;
    if (!found || !answer.ok) return tell(found && found.sentence ? `${found.sentence} ${found.hint}` : "The server did not answer. Try again.", "bad");
    placed = found;
    draw(found.off_um);
    find("[data-save]").disabled = false;
    const exact = whole().length === FEWEST ? " Three pairs always fit: a fourth shows whether they are right." : "";
    tell(`The landmarks miss each other by ${found.residual_um.toFixed(1)} µm (root mean square).${exact}`, found.findings.length ? "warn" : "ok");
    showPicture();
  }

  if (pairs.length) {
    draw(data.placed ? data.placed.off_um : []);
    marks();
    tell(`${pairs.length} pairs are kept. Click on both pictures to add one.`);
  }
})();
