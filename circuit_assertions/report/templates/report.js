(() => {
"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Tables are sorted by the buttons in their heads. An assertion is a group of two rows.
for (const table of all("table.sortable")) {
  const heads = all(":scope > thead th", table), grouped = table.id === "table";
  const body = grouped ? table : table.tBodies[0];
  const valueOf = (one, column) => {
    const cell = (grouped ? one.rows[0] : one).cells[column], number = cell.dataset.v;
    return number === undefined ? cell.textContent.trim() : Number(number);
  };
  const compare = (one, other) => {
    const oneNumber = typeof one === "number", otherNumber = typeof other === "number";
    if (oneNumber && otherNumber) return one - other;
    if (oneNumber !== otherNumber) return oneNumber ? -1 : 1;
    return one.localeCompare(other, "en", { numeric: true });
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...(grouped ? table.tBodies : body.rows)].map((one) => [valueOf(one, column), one]);
      keyed.sort((one, other) => {
        const order = compare(one[0], other[0]);
        // What has no number stays last in both directions.
        return typeof one[0] === typeof other[0] && down ? -order : order;
      });
      body.append(...keyed.map(([, one]) => one));
    });
  });
}

// Search and filters of the assertions.
const table = document.getElementById("table"), search = document.getElementById("search");
if (table && search) {
  const rows = [...table.tBodies].map((row) => [row, row.textContent.toLowerCase().replace(/\s+/g, " ")]);
  const filters = all("button.filter"), shown = document.getElementById("shown"), none = document.getElementById("none");
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = filters.filter((one) => one.getAttribute("aria-pressed") === "true").map((one) => one.dataset.verdict);
    let count = 0;
    for (const [row, text] of rows) {
      const fits = words.every((word) => text.includes(word)) && (!chosen.length || chosen.includes(row.dataset.verdict));
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${rows.length}`;
    none.hidden = count > 0;
  };
  search.addEventListener("input", update);
  for (const button of filters) button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    update();
  });
  for (const link of all("a.count")) link.addEventListener("click", () => {
    for (const one of filters) one.setAttribute("aria-pressed", String(one.dataset.verdict === link.dataset.verdict));
    update();
  });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
    }
    if (event.key === "Escape" && event.target === search) {
      search.value = "";
      update();
    }
  });
}

// Head maps: pointing at a head, or moving with the arrow keys, shows what was read of it.
const tip = document.getElementById("tip");
let told = null; // how the tip is placed again, while the keyboard is on a head
const hide = () => {
  tip.hidden = true;
  told = null;
  for (const cell of all("td.at")) cell.classList.remove("at");
};
for (const group of all(".maps")) {
  const data = JSON.parse(group.querySelector('script[type="application/json"]').textContent);
  const maps = all("table.map", group), wide = maps[0].tBodies[0].rows[0].cells.length - 1;
  const cellAt = (map, layer, head) => map.querySelector(`tr[data-layer="${layer}"]`).cells[head + 1];
  const placeOf = (cell) => [Number(cell.parentNode.dataset.layer), cell.cellIndex - 1];
  const tell = (cell) => {
    const [layer, head] = placeOf(cell), [roles, ...figures] = data.heads[layer * wide + head];
    const title = document.createElement("h5"), list = document.createElement("dl");
    title.textContent = `L${layer}H${head}`;
    const lines = [["role", roles.map((role) => data.roles[role]).join(", ") || "none"]];
    data.called.forEach((called, place) => lines.push([called, `${figures[place] ?? "not read"} ${data.unit}`]));
    for (const [label, text] of lines) {
      const term = document.createElement("dt"), said = document.createElement("dd");
      term.textContent = label;
      said.textContent = text;
      list.append(term, said);
    }
    hide();
    for (const map of maps) cellAt(map, layer, head).classList.add("at");
    tip.replaceChildren(title, list);
    tip.hidden = false;
    const place = () => {
      const box = cell.getBoundingClientRect(), own = tip.getBoundingClientRect();
      const left = Math.max(8, Math.min(box.left, innerWidth - own.width - 8));
      const below = box.bottom + 8, above = box.top - own.height - 8;
      tip.style.left = `${left}px`;
      tip.style.top = `${below + own.height > innerHeight && above > 0 ? above : below}px`;
    };
    place();
    told = document.activeElement === cell ? place : null;
    cell.setAttribute("aria-label", `${title.textContent}: ${lines.map((line) => line.join(" ")).join(", ")}`);
  };
  for (const map of maps) {
    const body = map.tBodies[0];
    const first = body.querySelector("td.r") ?? body.querySelector("td");
    first.tabIndex = 0;
    body.addEventListener("pointerover", (event) => {
      const cell = event.target.closest("td");
      if (cell) tell(cell);
    });
    map.addEventListener("pointerleave", hide);
    body.addEventListener("focusin", (event) => tell(event.target.closest("td")));
    body.addEventListener("focusout", hide);
    body.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td"), [layer, head] = placeOf(cell);
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
      let next = moves[event.key] && [layer + moves[event.key][0], head + moves[event.key][1]];
      if (event.key === "Home") next = [layer, 0];
      if (event.key === "End") next = [layer, wide - 1];
      if (event.key === "Escape") hide();
      if (!next) return;
      event.preventDefault();
      const [above, beside] = next;
      if (above < 0 || above >= body.rows.length || beside < 0 || beside >= wide) return;
      const target = cellAt(map, above, beside);
      cell.tabIndex = -1;
      target.tabIndex = 0;
      target.focus();
    });
  }
}
addEventListener("scroll", () => (told ? told() : hide()), { passive: true, capture: true });

// What is folded away on the screen is printed.
let folded = [];
addEventListener("beforeprint", () => {
  folded = all("details.print-open:not([open]), .attention details:not([open])");
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of folded) one.open = false;
});
})();
