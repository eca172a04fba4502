// The same view as a widget: `data` comes from the kernel, `state` goes both ways.

export default {
  async render({ model, el }) {
    const root = document.createElement("div");
    root.className = "query-view";
    el.append(root);
    let view = null, latest = 0;
    const show = async () => {
      const mine = ++latest, data = await loaded(JSON.parse(model.get("data")));
      if (mine !== latest) return; // a later one overtook it
      const before = view;
      view = new View(data);
      const state = model.get("state");
      if (data.maps.includes(state.map)) view.state = { ...view.state, ...state }; // what was set since it was sent
      if (before) view.locked = before.locked;
      view.changed = () => {
        model.set("state", { ...view.state });
        model.save_changes();
      };
      root.replaceChildren();
      view.build(root);
      root.dataset.shown = mine;
      root.view = view; // for tests
    };
    model.on("change:data", show);
    model.on("change:state", () => view && view.take(model.get("state")));
    await show();
  },
};
