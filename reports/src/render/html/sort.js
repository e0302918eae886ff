// Sorts tables by a column on demand. Without it every table stands in the order of the plan.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const planned = Array.from(body.rows);
  if (planned.length < 2) continue;
  const heads = Array.from(table.tHead.rows[0].cells);
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return NaN;
    if (column === 0) return cell.firstChild ? cell.firstChild.textContent : "";
    return cell.dataset.sort === undefined ? NaN : Number(cell.dataset.sort);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
      const order = next === undefined ? "ascending" : next;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const rows = planned.slice();
      if (order) {
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        rows.sort((a, b) => {
          const [x, y] = [value(a, column), value(b, column)];
          if (typeof x === "string") return sign * x.localeCompare(y);
          // What has no figure stays below, whichever way.
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return sign * (x - y);
        });
      }
      body.append(...rows);
    });
  });
}
