// What a hand can set, what is said below the pictures, and the keyboard.

const HELP = "Move over a picture to preview, click to hold a query, Esc to let it go, shift-click for a second one (x removes it). " +
  "Arrows move the query, or the cell of a matrix, Page Up and Page Down the slice, [ and ] the map, , and . one of a stack, s the scale, c the colours, " +
  "- and + the opacity, l the contours, d light or dark.";

Object.assign(View.prototype, {
  build(root) {
    this.root = root;
    const { data } = this;
    const choose = (name, label, options) => {
      const found = element("select", { "aria-label": label, onchange: () => this.set({ [name]: found.value }) },
        ...options.map((one) => element("option", { value: one, text: one })));
      this.controls[name] = found;
      return element("label", {}, label, found);
    };
    const slide = (name, label, low, high, step) => {
      const found = element("input", { type: "range", min: low, max: high, step, "aria-label": label,
        oninput: () => this.set({ [name]: +found.value }) });
      this.controls[name] = found;
      this.readouts[name] = element("output");
      return element("label", {}, label, found, this.readouts[name]);
    };
    [this.controls, this.readouts, this.windowed] = [{}, {}, []];
    const outline = element("input", { type: "checkbox", "aria-label": "contours", onchange: () => this.set({ contours: outline.checked }) });
    this.outline = outline;
    const bar = element("div", { class: "bar" },
      ...this.mapChoice(),
      this.depth > 1 ? slide("slice", "slice", 0, this.depth - 1, 1) : null,
      choose("scale", "scale", data.scales),
      choose("colours", "colours", Object.keys(data.colours)),
      slide("opacity", "opacity", 0, 1, 0.05),
      slide("mass", "strongest share", 0.05, 1, 0.05),
      data.labels.some(Boolean) ? element("label", {}, outline, "contours") : null,
      element("button", { text: "save PNG", onclick: () => this.save() }),
      element("button", { text: "light / dark", onclick: () => this.turn() }));
    root.append(
      data.title ? element("h1", { text: data.title }) : element("span"),
      bar,
      element("div", { class: "pictures" }),
      element("div", { class: "scale" }, element("span", { class: "low" }), element("canvas", { width: 256, height: 1, "aria-label": "colour scale" }),
        element("span", { class: "high" }), element("span", { class: "printed" })),
      element("div", { class: "strip" }),
      element("p", { class: "said", "aria-live": "polite" }),
      element("div", { class: "windows" }, ...data.images.map((one, image) => this.windowOf(one, image))),
      element("p", { class: "legend" }, ...data.classes.map((one) => {
        const mark = element("i");
        mark.style.background = one.colour;
        return element("span", {}, mark, one.name);
      })),
      element("details", {}, element("summary", { text: "keys" }), element("p", { text: HELP })),
      data.note ? element("p", { class: "note", text: data.note }) : element("span"));
    root.tabIndex = 0;
    root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes x for "cut this cell"
    root.onkeydown = (event) => this.key(event); // of the latest view alone: widgets show one after the other
    this.draw();
  },

  // One choice a part of the maps' names where all have the same number of parts ("level/head"), else one of all.
  mapChoice() {
    const parts = this.data.maps.map((name) => name.split("/"));
    const deep = parts.every((one) => one.length === parts[0].length) ? parts[0].length : 1;
    const names = deep === 1 ? this.data.maps.map((name) => [name]) : parts;
    this.parts = Array.from({ length: deep }, (_, level) => {
      const options = [...new Set(names.map((one) => one[level]))];
      const found = element("select", { "aria-label": deep === 1 ? "map" : `map, part ${level + 1}`, onchange: () => {
        const wanted = this.parts.map((one) => one.value);
        const fits = (one) => wanted.reduce((sum, part, i) => sum + (part === one[i]) * (i === level ? 100 : 1), 0);
        this.set({ map: [...names].sort((a, b) => fits(b) - fits(a))[0].join("/") });
      } }, ...options.map((one) => element("option", { value: one, text: one })));
      return found;
    });
    this.split = (name) => (deep === 1 ? [name] : name.split("/"));
    return [element("label", {}, "map", ...this.parts)];
  },

  // Window and level of an image: presets, and both numbers.
  windowOf(one, image) {
    const set = (window) => {
      const { [one.name]: before, ...others } = this.state.windows;
      this.set({ windows: window ? { ...others, [one.name]: window } : others });
    };
    const apply = () => {
      const [level, width] = fields.map((field) => +field.value);
      if (width > 0) set([level - width / 2, level + width / 2]);
      else this.sync();
    };
    const fields = ["level", "width"].map((name) => element("input", { type: "number", step: "any", "aria-label": `${name} of ${one.name}`, onchange: apply }));
    const chosen = () => set(presets.selectedIndex ? [...one.presets[presets.selectedIndex][1]] : null);
    const presets = element("select", { "aria-label": `window of ${one.name}`, onchange: chosen },
      ...one.presets.map(([name]) => element("option", { text: name })), element("option", { text: "as set", hidden: "" }));
    this.windowed[image] = () => {
      const [low, high] = this.window(image), at = one.presets.findIndex(([, ends]) => ends[0] === low && ends[1] === high);
      presets.selectedIndex = at < 0 ? one.presets.length : at;
      fields[0].value = +((low + high) / 2).toPrecision(4);
      fields[1].value = +(high - low).toPrecision(4);
    };
    return element("label", {}, element("b", { text: one.name }), presets, "level", fields[0], "width", fields[1], one.unit);
  },

  sync() {
    for (const [name, control] of Object.entries(this.controls)) control.value = this.state[name];
    for (const name of ["opacity", "mass"]) this.readouts[name].textContent = `${Math.round(100 * this.state[name])} %`;
    if (this.readouts.slice) this.readouts.slice.textContent = `${this.state.slice} of ${this.depth - 1}`;
    this.split(this.state.map).forEach((part, i) => { this.parts[i].value = part; });
    this.outline.checked = this.state.contours;
    for (const show of this.windowed) show();
  },

  scaleBar(ends, table) {
    const bar = this.root.querySelector(".scale"), own = this.state.scale === "own";
    const steps = Float32Array.from({ length: 256 }, (_, i) => i);
    paint(bar.querySelector("canvas"), [coloured(steps, 1, 256, [0, 255], table)]);
    const [low, high] = own ? ["0 or least", "largest of each"] : ends[0].map((value) => value.toPrecision(3));
    bar.querySelector(".low").textContent = low;
    bar.querySelector(".high").textContent = high;
    const first = this.layers.find(Boolean), kept = first.strongest ? `, ${first.strongest} strongest keys of each query` : "";
    bar.querySelector(".printed").textContent = `${first.unit || this.state.map}, ${this.state.scale} scale${kept}`;
    this.printed = `${low} to ${high} ${bar.querySelector(".printed").textContent}`;
  },

  // Of a stack all its maps in small; of a matrix the two maps behind the cell under the pointer.
  strip() {
    const strip = this.root.querySelector(".strip"), { slice, map, colours } = this.state;
    if (this.kind === "stack") {
      const image = this.layers[this.over] ? this.over : this.layers.findIndex(Boolean), layer = this.layers[image];
      const key = [map, slice, image, colours].join();
      if (this.stripped !== key) {
        this.stripped = key;
        const pictures = Array.from({ length: layer.count }, (_, k) => layer.picture(slice, k));
        const ends = endsOf(pictures, "symmetric")[0], [low] = endsOf(pictures, "shared")[0];
        strip.replaceChildren(element("span", { text: `${layer.count} maps of ${this.data.images[image].name}` }), ...pictures.map((values, k) => {
          const name = layer.names[k] || `${k + 1}`;
          const found = element("button", { class: "thumb", title: name, "aria-label": `map ${name}`, onclick: () => this.set({ index: k }) });
          found.append(coloured(values, layer.rows, layer.columns, low < 0 ? ends : [0, ends[1]], this.data.colours[colours]), element("span", { text: name }));
          return found;
        }));
      }
      strip.querySelectorAll(".thumb").forEach((one, k) => one.classList.toggle("chosen", k === Math.min(this.state.index, layer.count - 1)));
      return;
    }
    this.stripped = null;
    const behind = this.data.behind[map];
    const model = this.cell && this.data.models.find((one) => one.name === this.shownRows()[this.cell.row].name);
    const there = model && behind && behind.every((name) => (model.maps[this.data.maps.indexOf(name)] || [])[this.cell.image]);
    if (this.kind !== "matrix" || !there) return strip.replaceChildren();
    const { image, at } = this.cell, { maps } = model;
    strip.replaceChildren(...behind.map((name, side) => {
      const layer = maps[this.data.maps.indexOf(name)][image], title = layer.names[at[side]] || `${at[side] + 1}`;
      const values = layer.picture(slice, Math.min(at[side], layer.count - 1));
      const made = coloured(values, layer.rows, layer.columns, endsOf([values], layer.signed ? "symmetric" : "own")[0], this.data.colours[colours]);
      made.className = "behind";
      return element("figure", {}, made, element("figcaption", { text: `${side ? "column" : "row"}: ${name}, ${title}` }));
    }));
  },

  // In words: where the query is, and the values there.
  say() {
    const { slice } = this.state, parts = [];
    if (this.kind === "matrix") {
      if (this.cell) {
        const shown = this.shownRows()[this.cell.row], layer = shown.layers[this.cell.image], [r, c] = this.cell.at;
        const name = (i) => layer.names[i] || `${i + 1}`;
        parts.push(`${shown.name}, ${this.data.images[this.cell.image].name}: row ${name(r)}, column ${name(c)}: ${layer.said(slice, r, c)}`);
      } else parts.push("move over a cell, or press an arrow key");
    } else {
      const [row, column] = this.kind === "positions" ? this.query : this.preview || this.state.query;
      const at = [slice, row, column, 1];
      const through = (matrix) => matrix.slice(0, 3).map((line) => line.reduce((sum, value, i) => sum + value * at[i], 0));
      parts.push(`pixel (${this.depth > 1 ? `slice ${slice}, ` : ""}row ${row}, column ${column})`);
      if (this.data.place.voxel) parts.push(`voxel (${through(this.data.place.voxel).map(Math.round).join(", ")})`);
      if (this.data.place.mm) parts.push(`R A S (${through(this.data.place.mm).map((value) => value.toFixed(1)).join(", ")}) mm`);
      const labels = this.data.labels.find(Boolean);
      if (labels) {
        const label = labels[(slice * this.rows + row) * this.columns + column];
        parts.push(label ? this.data.classes[label - 1].name : "background");
      }
      this.data.images.forEach((one, image) => {
        const grey = one.values.at(slice)[row * this.columns + column];
        const layer = this.layers[image];
        let text = `${one.name} ${grey.toPrecision(3)}${one.unit ? ` ${one.unit}` : ""}`;
        if (layer) {
          text += `, map ${this.values(layer, this.query)[this.cellOf(layer, [row, column])].toPrecision(3)}`;
        }
        parts.push(text);
      });
      if (this.locked) parts.push("held (Esc lets go)");
    }
    this.root.querySelector(".said").textContent = parts.join(" · ");
  },

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (["INPUT", "SELECT"].includes(event.target.tagName) && event.key !== "Escape") return;
    const { state, data } = this, layer = this.layers.find(Boolean);
    const next = (list, value, by) => list[(list.indexOf(value) + by + list.length) % list.length];
    const clip = (value, high) => Math.max(0, Math.min(high, value));
    const stacked = this.kind === "stack" ? layer.count - 1 : 0;
    const step = this.kind === "positions" ? [this.rows / layer.rows, this.columns / layer.columns].map((edge) => Math.max(1, Math.round(edge))) : [1, 1];
    const move = (down, right) => () => {
      if (this.kind === "matrix") { // from cell to cell
        const { image, row, at } = this.cell || { image: this.layers.indexOf(layer), row: 0, at: [-down, -right] };
        const { rows, columns } = this.shownRows()[row].layers[image];
        this.cell = { image, row, at: [clip(at[0] + down, rows - 1), clip(at[1] + right, columns - 1)] };
        this.draw();
        return;
      }
      this.locked = true;
      this.set({ query: [clip(state.query[0] + down * step[0], this.rows - 1), clip(state.query[1] + right * step[1], this.columns - 1)] });
    };
    const found = {
      ArrowUp: move(-1, 0), ArrowDown: move(1, 0), ArrowLeft: move(0, -1), ArrowRight: move(0, 1),
      PageUp: () => this.set({ slice: clip(state.slice + 1, this.depth - 1) }),
      PageDown: () => this.set({ slice: clip(state.slice - 1, this.depth - 1) }),
      "[": () => this.set({ map: next(data.maps, state.map, -1) }), "]": () => this.set({ map: next(data.maps, state.map, 1) }),
      ",": () => this.set({ index: clip(state.index - 1, stacked) }), ".": () => this.set({ index: clip(state.index + 1, stacked) }),
      s: () => this.set({ scale: next(data.scales, state.scale, 1) }),
      c: () => this.set({ colours: next(Object.keys(data.colours), state.colours, 1) }),
      "-": () => this.set({ opacity: Math.max(0, state.opacity - 0.1) }), "+": () => this.set({ opacity: Math.min(1, state.opacity + 0.1) }),
      l: () => this.set({ contours: !state.contours }), d: () => this.turn(),
      x: () => this.set({ other: null }), Escape: () => { this.locked = false; this.draw(); },
    }[event.key];
    if (!found) return;
    event.preventDefault();
    event.stopPropagation();
    found();
  },

  turn() {
    const asked = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    this.root.dataset.theme = (this.root.dataset.theme || asked) === "dark" ? "light" : "dark";
  },

  // All pictures in one PNG, names and what is said below them.
  save() {
    const edge = this.pictures[0][0], [w, h] = [edge.width + 8, edge.height + 8], images = this.data.images;
    const canvas = element("canvas", { width: w * this.pictures.length + 120, height: h * images.length + 70 });
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#111";
    context.font = "14px sans-serif";
    images.forEach((one, i) => context.fillText(one.name, 4, 24 + i * h + h / 2, 112));
    this.pictures.forEach((column, r) => {
      context.fillText(this.titles[r], 120 + r * w, 16, w);
      column.forEach((one, i) => one.isConnected && context.drawImage(one, 120 + r * w, 24 + i * h));
    });
    context.fillText(`${this.state.map} · ${this.printed}`, 4, canvas.height - 26, canvas.width - 8);
    context.fillText(this.root.querySelector(".said").textContent, 4, canvas.height - 8, canvas.width - 8);
    element("a", { href: canvas.toDataURL("image/png"), download: "query.png" }).click();
  },
});
