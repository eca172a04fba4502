// Arrays of the page: base64 of zlib streams, quantised by xmod_lab/view/embed.py.

async function bytesOf(text) {
  const raw = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// A quantised array: `at(block)` gives the values of one block (a row, a picture) as Float32Array.
async function arrayOf(packed) {
  const [whole, ends] = await Promise.all([bytesOf(packed.data), bytesOf(packed.ends)]);
  const steps = packed.bits === 8 ? new Uint8Array(whole) : new Uint16Array(whole);
  const limits = new Float32Array(ends);
  const most = packed.bits === 8 ? 255 : 65535;
  const blocks = limits.length / 2;
  const size = steps.length / blocks;
  const at = (block) => {
    const low = limits[2 * block], width = limits[2 * block + 1] - low;
    const found = new Float32Array(size);
    for (let i = 0; i < size; i++) found[i] = low + (steps[block * size + i] / most) * width;
    return found;
  };
  return { shape: packed.shape, at };
}

// A map: `row(slice, query)` of positions and matrices, `picture(slice, index)` of stacks and masks.
async function layerOf(packed) {
  const values = await arrayOf(packed);
  const [, first, second] = packed.shape;
  const layer = { ...packed, data: null, count: packed.kind === "mask" ? 1 : first };
  if (packed.keys) {
    const places = await bytesOf(packed.keys);
    const keys = second > 65536 ? new Uint32Array(places) : new Uint16Array(places);
    layer.row = (slice, query) => {
      const block = slice * first + query, found = new Float32Array(second), kept = values.at(block);
      for (let i = 0; i < packed.strongest; i++) found[keys[block * packed.strongest + i]] = kept[i];
      return found;
    };
  } else {
    layer.row = (slice, query) => values.at(slice * first + query);
  }
  // a cell as text, with no digit below the step of its row
  layer.said = (slice, query, key) => {
    const row = layer.row(slice, query), step = (Math.max(...row) - Math.min(...row)) / 255;
    return row[key].toFixed(Math.min(6, Math.max(0, Math.ceil(-Math.log10(step || 1)))));
  };
  layer.picture = (slice, index) => values.at(packed.kind === "mask" ? slice : slice * first + index);
  if (packed.kind === "positions") [layer.rows, layer.columns] = packed.grid;
  else if (packed.kind === "matrix") [layer.rows, layer.columns] = [first, second];
  else [layer.rows, layer.columns] = packed.shape.slice(-2);
  return layer;
}

async function loaded(given) {
  const images = await Promise.all(given.images.map(async (one) => ({ ...one, values: await arrayOf(one) })));
  const labels = await Promise.all(given.images.map(async (one) =>
    one.labels ? new Uint8Array(await bytesOf(one.labels)) : null));
  const models = await Promise.all(given.models.map(async (model) => ({
    name: model.name,
    maps: await Promise.all(model.maps.map(async (by) =>
      by && Promise.all(by.map(async (one) => one && layerOf(one))))),
  })));
  const shuffled = {};
  for (const [count, text] of Object.entries(given.permutations)) shuffled[count] = new Uint32Array(await bytesOf(text));
  const colours = {};
  for (const [name, text] of Object.entries(given.colours)) colours[name] = new Uint8Array(await bytesOf(text));
  return { ...given, images, labels, models, shuffled, colours };
}
