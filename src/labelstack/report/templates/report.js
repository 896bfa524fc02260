"use strict";
// Sorting: each heading with a column number becomes a button. Missing values stay last in both directions.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.querySelectorAll("th[data-column]")];
  for (const heading of headings) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, headings, heading));
  }
}

function sort(table, headings, heading) {
  const column = Number(heading.dataset.column);
  const numeric = heading.classList.contains("n");
  const before = heading.getAttribute("aria-sort");
  const direction = before ? (before === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const key = (row) => {
    const cell = row.cells[column];
    return numeric ? parseFloat(cell.dataset.value) : cell.textContent.trim();
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (!numeric) return sign * x.localeCompare(y);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
  for (const other of headings) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
}

// Filtering the label table by the text of its label and group cells.
const filter = document.getElementById("filter");
const rows = [...document.getElementById("label-table").tBodies[0].rows];
const count = document.getElementById("filter-count");
function show() {
  const wanted = filter.value.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const text = [...row.querySelectorAll("th, td.kind")].map((cell) => cell.textContent).join(" ").toLowerCase();
    row.hidden = !text.includes(wanted);
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${rows.length} labels`;
}
filter.addEventListener("input", show);
filter.closest(".filter").hidden = false;
show();
