// A click on a column's head sorts its table: by the number a cell begins with, else by its text; a second click turns it.
document.querySelectorAll("table").forEach((table) => {
  const body = table.tBodies[0];
  if (!table.tHead || !body || body.rows.length < 3 || body.querySelector("[rowspan], [colspan]")) return;
  [...table.tHead.rows[table.tHead.rows.length - 1].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.tHead.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const text = (row) => row.cells[column]?.textContent.trim() ?? "";
      const order = (a, b) => {
        const [x, y] = [parseFloat(text(a)), parseFloat(text(b))];
        if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // what is no number comes last, either way
        const way = isNaN(x) ? text(a).localeCompare(text(b)) : x - y;
        return up ? way : -way;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
});
