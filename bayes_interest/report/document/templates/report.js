// Tables sort by a click on a heading, or Enter and Space on it: up, then down.
(function () {
  "use strict";
  function key(row, column, numeric) {
    var text = row.cells[column].getAttribute("data-sort");
    if (text === "") { return null; }
    return numeric ? parseFloat(text) : text.toLocaleLowerCase();
  }
  function compare(a, b) { return a < b ? -1 : a > b ? 1 : 0; }
  function sort(table, column) {
    var heads = table.tHead.rows[0].cells, head = heads[column], body = table.tBodies[0];
    var down = head.getAttribute("aria-sort") === "ascending";
    var numeric = head.classList.contains("num");
    var rows = Array.prototype.map.call(body.rows, function (row, at) {
      return { row: row, key: key(row, column, numeric), at: at };
    });
    rows.sort(function (a, b) {
      if (a.key === null || b.key === null) { return (a.key === null) - (b.key === null); }
      return (down ? -1 : 1) * compare(a.key, b.key) || a.at - b.at;
    });
    rows.forEach(function (one) { body.appendChild(one.row); });
    Array.prototype.forEach.call(heads, function (other) { other.setAttribute("aria-sort", "none"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }
  document.querySelectorAll("table.sortable").forEach(function (table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
      head.querySelector("button").addEventListener("click", function () { sort(table, column); });
    });
  });
  var contents = document.querySelector("nav details");
  if (window.matchMedia("(max-width: 75.99rem)").matches) { contents.removeAttribute("open"); }
})();
