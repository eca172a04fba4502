// Pictures: grey images, maps over them, contours, crosses, matrices. Nothing here knows the page's controls.

// Where the strongest values lie that hold the share `mass` of all magnitudes: as `kept` in query_figure.py.
function strongest(values, mass) {
  const found = new Uint8Array(values.length).fill(1);
  let total = 0;
  for (const value of values) total += Math.abs(value);
  if (mass >= 1 || !total) return found;
  const order = Array.from(values.keys()).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]) || a - b);
  found.fill(0);
  let sum = 0;
  for (const at of order) {
    found[at] = 1;
    sum += Math.abs(values[at]);
    if (sum >= mass * total) break;
  }
  return found;
}

// Ends of the colour scale of each of several maps: as `ends_of` in query_figure.py.
function endsOf(shown, scale) {
  const own = (list) => {
    let low = 0, high = -Infinity, most = 0;
    for (const values of list) for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
      if (Math.abs(value) > most) most = Math.abs(value);
    }
    [low, high] = scale === "symmetric" ? [-most, most] : [low, Math.max(high, low)];
    return high > low ? [low, high] : [scale === "symmetric" ? -1 : low, low + 1];
  };
  if (scale === "own") return shown.map((values) => own([values]));
  const all = own(shown);
  return shown.map(() => all);
}

// A canvas of rows x columns pixels with `values` coloured by a table of 256 colours. `kept` hides; with an `opacity`
// weak values are more transparent: as `opacities` in query_figure.py.
function coloured(values, rows, columns, [low, high], table, kept = null, opacity = null) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const pixels = new ImageData(columns, rows), most = Math.max(Math.abs(low), Math.abs(high));
  for (let i = 0; i < values.length; i++) {
    const step = Math.max(0, Math.min(255, Math.round(((values[i] - low) / (high - low)) * 255)));
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = table ? table[3 * step + c] : step;
    const alpha = opacity === null ? 1 : (opacity * (1 + 6 * Math.sqrt(Math.min(1, Math.abs(values[i]) / most)))) / 7;
    pixels.data[4 * i + 3] = kept && !kept[i] ? 0 : Math.round(alpha * 255);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

function paint(canvas, layers) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  for (const layer of layers) context.drawImage(layer, 0, 0, canvas.width, canvas.height);
}

// Borders between classes, each in the colour of the class inside.
function contours(canvas, labels, rows, columns, colours) {
  const context = canvas.getContext("2d");
  const [x, y] = [canvas.width / columns, canvas.height / rows];
  const at = (r, c) => (r < 0 || c < 0 || r >= rows || c >= columns ? 0 : labels[r * columns + c]);
  context.lineWidth = Math.max(1.4, canvas.width / 240);
  const inset = context.lineWidth / 2;
  colours.forEach((colour, number) => {
    context.beginPath();
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
      if (at(r, c) !== number + 1) continue;
      for (const [dr, dc, a, b] of [[-1, 0, [0, 0], [1, 0]], [1, 0, [0, 1], [1, 1]], [0, -1, [0, 0], [0, 1]], [0, 1, [1, 0], [1, 1]]]) {
        if (at(r + dr, c + dc) === number + 1) continue;
        const [right, down] = [-dc * inset, -dr * inset]; // inside: neighbours do not hide each other's line
        context.moveTo((c + a[0]) * x + right, (r + a[1]) * y + down);
        context.lineTo((c + b[0]) * x + right, (r + b[1]) * y + down);
      }
    }
    context.strokeStyle = colour;
    context.stroke();
  });
}

// A cross on a pixel; with lines over the whole picture where `whole`.
function cross(canvas, [row, column], rows, columns, colour, whole = false) {
  const context = canvas.getContext("2d");
  const [x, y] = [((column + 0.5) * canvas.width) / columns, ((row + 0.5) * canvas.height) / rows];
  const arm = Math.max(6, canvas.width / 28);
  const lines = [[[x - arm, y], [x + arm, y]], [[x, y - arm], [x, y + arm]]];
  if (whole) lines.push([[0, y], [canvas.width, y]], [[x, 0], [x, canvas.height]]);
  lines.forEach((line, i) => {
    for (const [width, style] of i < 2 ? [[4, "#111"], [2, colour]] : [[1, colour]]) {
      context.globalAlpha = i < 2 ? 1 : 0.35;
      context.beginPath();
      context.moveTo(...line[0]);
      context.lineTo(...line[1]);
      [context.lineWidth, context.strokeStyle] = [width, style];
      context.stroke();
    }
  });
  context.globalAlpha = 1;
}

function letters(canvas, sides) {
  if (!sides) return;
  const context = canvas.getContext("2d"), [w, h] = [canvas.width, canvas.height], size = Math.max(11, w / 20);
  context.font = `${size}px sans-serif`;
  context.fillStyle = "#fff";
  context.strokeStyle = "#000";
  context.lineWidth = 3;
  context.textBaseline = "middle";
  const places = [[size * 0.3, h / 2, "left"], [w - size * 0.3, h / 2, "right"], [w / 2, size * 0.7, "center"], [w / 2, h - size * 0.6, "center"]];
  sides.forEach((letter, i) => {
    context.textAlign = places[i][2];
    context.strokeText(letter, places[i][0], places[i][1]);
    context.fillText(letter, places[i][0], places[i][1]);
  });
}
