"use strict";
// Clicking a head sorts by its column, once more turns it round. Empty cells stay last either way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const numeric = head.classList.contains("number");
    const key = row => row.cells[column].dataset.order ?? (numeric ? undefined : row.cells[column].textContent);
    const compare = (a, b) => numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
    const rows = [...table.tBodies[0].rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return (down ? -1 : 1) * compare(a, b);
    });
    table.tBodies[0].append(...rows);
    heads.forEach(each => each.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }));
}
// Paper has no folds.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(each => { each.open = true; }));
