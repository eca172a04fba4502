// The view: a state, what it shows, and the elements that it shows it in.

const EDGE = 240; // pixels of a picture's longer side, before the screen's own scale

function element(tag, attributes = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") found.className = value;
    else if (name === "text") found.textContent = value; // never as markup: names come from data
    else if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else found.setAttribute(name, value);
  }
  found.append(...children.filter((child) => child !== null));
  return found;
}

class View {
  constructor(data) {
    this.data = data;
    this.state = { ...data.state };
    this.locked = false;
    this.preview = null; // the pixel under the pointer
    this.cell = null; // of a matrix
    [this.depth, this.rows, this.columns] = data.shape;
    this.wait = 0;
    this.greys = []; // of each image, its last picture
    this.changed = () => {}; // who wants to know what a hand has set
  }

  get number() { return this.data.maps.indexOf(this.state.map); }
  get layers() { return this.data.models[0].maps[this.number]; }
  get kind() { return this.layers.find(Boolean).kind; }
  get query() { return this.locked || !this.preview || this.kind !== "positions" ? this.state.query : this.preview; }

  cellOf(layer, [row, column]) {
    const r = Math.floor((row * layer.rows) / this.rows), c = Math.floor((column * layer.columns) / this.columns);
    return r * layer.columns + c;
  }

  // What is shown of one layer: values of rows x columns of the layer.
  values(layer, query, shuffled = false) {
    const { slice, index } = this.state;
    if (layer.kind === "positions") {
      const at = this.cellOf(layer, query);
      return layer.row(slice, shuffled ? this.data.shuffled[layer.count][at] : at);
    }
    if (layer.kind === "matrix") {
      const found = new Float32Array(layer.rows * layer.columns);
      for (let r = 0; r < layer.rows; r++) found.set(layer.row(slice, r), r * layer.columns);
      return found;
    }
    return layer.picture(slice, Math.min(index, layer.count - 1));
  }

  // Rows of the view: a model each, and the second query's.
  shownRows() {
    const found = [];
    this.data.models.forEach((model, i) => {
      const by = model.maps[this.number];
      if (!by) return;
      found.push({ name: model.name, layers: by, query: this.query, colour: 0 });
      if (i === 0 && this.state.other && this.kind === "positions")
        found.push({ name: `${model.name}, 2nd`, layers: by, query: this.state.other, colour: 1 });
    });
    if (this.kind === "positions")
      found.push({ name: this.data.shuffledName, layers: this.layers, query: this.query, colour: 0, shuffled: true });
    return found;
  }

  set(values) {
    if ("map" in values && values.map !== this.state.map) this.state.index = 0;
    if ("map" in values || "slice" in values) this.cell = null;
    Object.assign(this.state, values);
    this.draw();
    this.changed();
  }

  // What somebody else has set.
  take(given) {
    const state = { ...this.state, ...given };
    if (JSON.stringify(state) === JSON.stringify(this.state) || !this.data.maps.includes(state.map)) return;
    if (state.map !== this.state.map || state.slice !== this.state.slice) this.cell = null;
    this.state = state;
    this.draw();
  }

  // Redraw once a frame, however often something changes.
  soon() {
    if (!this.wait) this.wait = requestAnimationFrame(() => { this.wait = 0; this.draw(); });
  }

  canvas(row, column) {
    const found = element("canvas", { role: "img" });
    const scale = (EDGE / Math.max(this.rows, this.columns)) * Math.min(window.devicePixelRatio || 1, 2);
    [found.width, found.height] = [Math.round(this.columns * scale), Math.round(this.rows * scale)];
    found.dataset.row = row;
    found.dataset.image = column;
    return found;
  }

  // Values drawn black and white.
  window(image) {
    const one = this.data.images[image];
    return this.state.windows[one.name] || one.window;
  }

  grey(image) {
    const ends = this.window(image), key = [this.state.slice, ...ends].join();
    if (!this.greys[image] || this.greys[image].key !== key) {
      const values = this.data.images[image].values.at(this.state.slice);
      this.greys[image] = { key, picture: coloured(values, this.rows, this.columns, ends, null) };
    }
    return this.greys[image].picture;
  }

  draw() {
    const rows = this.shownRows();
    this.lay(rows);
    const { colours, opacity, mass, scale, slice } = this.state, table = this.data.colours[colours];
    const flat = rows.flatMap((row) => row.layers.map((layer) => layer && this.values(layer, row.query, row.shuffled)));
    const ends = endsOf(flat.filter(Boolean), scale);
    const plane = this.rows * this.columns;
    const classes = this.data.classes.map((one) => one.colour);
    this.data.images.forEach((one, image) => {
      const canvas = this.pictures[0][image];
      paint(canvas, [this.grey(image)]);
      const labels = this.data.labels[image];
      if (labels && this.state.contours) contours(canvas, labels.subarray(slice * plane, (slice + 1) * plane), this.rows, this.columns, classes);
      letters(canvas, this.data.sides);
      if (this.kind !== "matrix") {
        cross(canvas, this.query, this.rows, this.columns, this.data.crosses[0], true);
        if (this.state.other && this.kind === "positions") cross(canvas, this.state.other, this.rows, this.columns, this.data.crosses[1]);
      }
    });
    this.latest = [];
    let next = 0;
    rows.forEach((row, r) => row.layers.forEach((layer, image) => {
      const canvas = this.pictures[r + 1][image];
      if (!layer) return;
      const values = flat[r * row.layers.length + image], own = ends[next++];
      this.latest.push({ row: r, image, values, ends: own, name: row.name });
      if (layer.kind === "matrix") {
        paint(canvas, [coloured(values, layer.rows, layer.columns, own, table)]);
      } else {
        const kept = strongest(values, mass);
        paint(canvas, [this.grey(image), coloured(values, layer.rows, layer.columns, own, table, kept, opacity)]);
        if (layer.kind === "positions") cross(canvas, row.query, this.rows, this.columns, this.data.crosses[row.colour]);
      }
      canvas.title = `${own[0].toPrecision(3)} to ${own[1].toPrecision(3)} ${layer.unit}`;
    }));
    this.scaleBar(ends, table);
    this.strip();
    this.say();
    this.sync();
  }

  // A row of pictures an image, a column a model; made anew only when their number changes.
  lay(rows) {
    const shape = `${this.kind}:${rows.map((row) => row.name + row.layers.map(Boolean)).join()}`;
    if (shape === this.laid) return;
    this.laid = shape;
    this.titles = ["image", ...rows.map((row) => row.name)];
    this.pictures = this.titles.map((title, r) => this.data.images.map((one, image) => {
      const canvas = this.canvas(r, image);
      canvas.setAttribute("aria-label", `${title}, ${one.name}`);
      this.listen(canvas, r);
      return canvas;
    }));
    const table = element("div", { class: "pictures" }, element("span"),
      ...this.titles.map((text) => element("span", { class: "name", text })));
    table.style.gridTemplateColumns = `auto repeat(${this.titles.length}, minmax(80px, ${EDGE}px))`;
    this.data.images.forEach((one, image) => {
      table.append(element("span", { class: "side", text: one.name }));
      this.pictures.forEach((column, r) => table.append(r === 0 || rows[r - 1].layers[image] ? column[image] : element("span")));
    });
    this.root.querySelector(".pictures").replaceWith(table);
  }

  pixel(event, rows = this.rows, columns = this.columns) {
    const box = event.target.getBoundingClientRect();
    const at = (place, start, length, count) => Math.max(0, Math.min(count - 1, Math.floor(((place - start) / length) * count)));
    return [at(event.clientY, box.top, box.height, rows), at(event.clientX, box.left, box.width, columns)];
  }

  listen(canvas, row) {
    const matrix = () => this.kind === "matrix" && row > 0;
    canvas.addEventListener("pointermove", (event) => {
      const layer = row > 0 ? this.shownRows()[row - 1].layers[canvas.dataset.image] : null;
      if (matrix()) this.cell = { image: +canvas.dataset.image, row: row - 1, at: this.pixel(event, layer.rows, layer.columns) };
      else [this.preview, this.over] = [this.pixel(event), +canvas.dataset.image];
      this.soon();
    });
    canvas.addEventListener("pointerleave", () => { this.preview = null; this.soon(); });
    canvas.addEventListener("click", (event) => {
      if (matrix()) return;
      const at = this.pixel(event);
      if (event.shiftKey) this.set({ other: at });
      else {
        this.locked = this.kind === "positions";
        this.set({ query: at });
      }
    });
  }
}
