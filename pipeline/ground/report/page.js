"use strict";
(() => {
  const root = document.documentElement;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const kept = (key, value) => {
    try {
      if (value === undefined) return JSON.parse(sessionStorage.getItem(key));
      sessionStorage.setItem(key, JSON.stringify(value));
    } catch { /* a page opened from a file may have no storage */ }
    return null;
  };

  // ---- draw ----
  const charts = {};
  async function draw() {
    for (const [name, item] of Object.entries(read("charts"))) {
      const views = await Bokeh.embed.embed_item(item, `chart-${name}`);
      charts[name] = { name, view: views.roots[0] };
    }
    if (matchMedia("(pointer: fine)").matches) {
      for (const plot of plots()) for (const tool of plot.model.toolbar.tools) if (tool.name === "zoom") tool.active = true;
    }
    choose_axis(kept("axis"));
    restore_zoom();
    root.dataset.drawn = "yes";
  }

  function* below(view) {
    yield view;
    for (const child of view.child_views ?? []) yield* below(child);
  }
  function* plots() {
    for (const { view } of Object.values(charts)) {
      for (const part of below(view)) if (part.repaint && part.model.toolbar) yield part;
    }
  }
  const named = (name) => Bokeh.documents.map((made) => made.get_model_by_name(name)).find((model) => model != null);

  const entries = (data) => (data instanceof Map ? data : Object.entries(data));

  // ---- loss against steps, time or energy ----
  function choose_axis(key) {
    const input = document.querySelector(`#axis input[value="${key}"]`) ?? document.querySelector("#axis input");
    const plot = named("learning");
    if (!input || !plot) return;
    input.checked = true;
    for (const { data_source: source } of plot.renderers) {
      const columns = Object.fromEntries(entries(source.data));
      source.data = { ...columns, x: columns[input.value] };
    }
    plot.below[0].axis_label = input.dataset.label;
    kept("axis", input.value);
  }
  document.getElementById("axis")?.addEventListener("change", (event) => choose_axis(event.target.value));

  // ---- which stretch of the mission is shown ----
  let whole = null;
  function show(start, end) {
    const range = named("mission");
    const width = Math.min(end - start, whole.end - whole.start);
    start = Math.min(Math.max(start, whole.start), whole.end - width);
    range.start = start;
    range.end = start + width;
  }
  function restore_zoom() {
    const range = named("mission");
    if (!range) return;
    whole = { start: range.start, end: range.end };
    const unit = document.getElementById("chart-mission").dataset.unit;
    const tell = () => {
      const { start, end } = range, at_end = end >= whole.end;
      document.getElementById("shown").textContent = `${unit} ${start.toFixed(2)} to ${end.toFixed(2)}`;
      // Who looks at the end of a live run goes on with it.
      kept("zoom", at_end ? { last: start <= whole.start ? null : end - start } : { start, end });
    };
    range.change.connect(tell);
    const zoom = kept("zoom") ?? { last: Number(document.getElementById("zoom").dataset.first) };
    if (zoom.end) show(zoom.start, zoom.end);
    else if (zoom.last) show(whole.end - zoom.last, whole.end);
    tell();
  }
  document.getElementById("zoom")?.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const range = named("mission");
    if (!button || !range) return;
    const { start, end } = range, width = end - start, middle = (start + end) / 2;
    const to = {
      all: () => show(whole.start, whole.end),
      last: () => show(whole.end - Number(button.dataset.span), whole.end),
      in: () => show(middle - width / 4, middle + width / 4),
      out: () => show(middle - width, middle + width),
      earlier: () => show(start - width / 2, end - width / 2),
      later: () => show(start + width / 2, end + width / 2),
    };
    to[button.dataset.zoom]();
  });

  // ---- light, dark and paper ----
  const repaint = () => { for (const plot of plots()) plot.request_repaint(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  addEventListener("beforeprint", () => {
    root.dataset.print = "yes"; // black on white, whatever the screen shows
    for (const plot of plots()) { plot.invalidate_painters(); plot.repaint(); }
    for (const { name, view } of Object.values(charts)) {
      const place = document.getElementById(`chart-${name}`), image = new Image();
      image.src = view.export("auto").canvas.toDataURL(); // a canvas would be cut off at the edge of the paper
      image.alt = place.getAttribute("aria-label");
      for (const child of place.children) child.style.display = "none";
      place.append(image);
    }
    for (const part of document.querySelectorAll("details")) { part.dataset.was = part.open; part.open = true; }
  });
  addEventListener("afterprint", () => {
    delete root.dataset.print;
    for (const image of document.querySelectorAll(".chart img")) image.remove();
    for (const { name } of Object.values(charts)) {
      for (const child of document.getElementById(`chart-${name}`).children) child.style.display = "";
    }
    for (const part of document.querySelectorAll("details")) part.open = part.dataset.was === "true";
    repaint();
  });

  // ---- follow a live run ----
  const state = document.body.dataset.live;
  async function follow() {
    const said = document.getElementById("live");
    for (;;) {
      await new Promise((done) => setTimeout(done, 2000));
      try {
        const now = await (await fetch("state", { cache: "no-store" })).text();
        if (now !== state) return location.reload();
        said.textContent = "Live: this page follows the ledger.";
      } catch {
        said.textContent = "No longer live: train.py report --follow has ended.";
      }
    }
  }

  draw().then(() => { if (state) follow(); });
})();
