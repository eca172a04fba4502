// The page on its own: reads its data, and says so where a browser cannot show it.

loaded(JSON.parse(document.getElementById("data").textContent)).then((data) => {
  window.view = new View(data);
  window.view.build(document.getElementById("view"));
  document.documentElement.dataset.ready = "yes";
}).catch((error) => {
  document.getElementById("view").textContent = `This page cannot be shown: ${error}`;
  throw error;
});
