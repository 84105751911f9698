// Sorts and filters tables, shows and hides arms, tells values, copies commands. Without it the page stands as it is.
"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // The number of a cell, its words, or null where nothing was measured.
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return null;
    if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    const text = cell.textContent.trim();
    if (text === "–" || text === "") return null;
    const number = Number(text.replace("−", "-").replace(/[,%]/g, ""));
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const sort = (table, column, sign) => {
    for (const body of table.tBodies) {
      const rows = Array.from(body.rows).filter((row) => !row.querySelector(".group"));
      const keyed = rows.map((row) => [value(row, column), row]);
      keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
      body.append(...keyed.map(([, row]) => row));
    }
  };
  const sortable = (table) => {
    const heads = Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells);
    heads.forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", direction);
        sort(table, column, direction === "ascending" ? 1 : -1);
      });
    });
  };
  const filterable = (table) => {
    const rows = Array.from(table.tBodies).flatMap((body) => Array.from(body.rows));
    const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const input = make("input", { type: "search", autocomplete: "off" });
    const count = make("output");
    const filter = () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !wanted.every((word) => words.get(row).includes(word));
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} ${table.dataset.filter}`;
    };
    input.addEventListener("input", filter);
    const label = make("label", {}, "Filter rows ", input);
    table.parentElement.before(make("p", { className: "tools" }, label, count, " Click a heading to sort."));
    filter();
  };
  for (const table of all("table:not(.plain, .squares)")) {
    if (table.tHead && table.rows.length > 3) sortable(table);
    if (table.dataset.filter) filterable(table);
  }

  for (const box of all(".legend input")) {
    box.hidden = false;
    box.addEventListener("change", () => {
      for (const drawn of all(`svg .${box.dataset.mark}`)) drawn.style.display = box.checked ? "" : "none";
    });
  }

  // A figure is one stop of the tab key; arrows walk through its points.
  const tip = make("div", { className: "tip", hidden: true, role: "status" });
  document.body.append(tip);
  const centre = (point) => {
    const box = point.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  const tell = (figure, point) => {
    for (const other of all(".told")) other.classList.remove("told");
    tip.hidden = !point;
    if (!point) return;
    point.classList.add("told");
    tip.textContent = point.dataset.text;
    const [x, y] = centre(point);
    tip.style.left = `${Math.max(4, Math.min(x + 10, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${y > 60 ? y - tip.offsetHeight - 10 : y + 12}px`;
  };
  for (const figure of all("figure svg")) {
    const points = all("use", figure).filter((use) => use.querySelector("title"));
    if (!points.length) continue;
    for (const point of points) {
      point.dataset.text = point.querySelector("title").textContent;
      point.querySelector("title").remove(); // else the browser shows it a second time
    }
    const shown = () => points.filter((point) => point.getClientRects().length);
    let at = -1;
    figure.setAttribute("tabindex", "0");
    figure.addEventListener("pointermove", (event) => {
      const near = shown().map((point) => {
        const [x, y] = centre(point);
        return [Math.hypot(x - event.clientX, y - event.clientY), point];
      }).sort(([a], [b]) => a - b)[0];
      tell(figure, near && near[0] < 24 ? near[1] : null);
    });
    figure.addEventListener("pointerleave", () => tell(figure, null));
    figure.addEventListener("blur", () => tell(figure, null));
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") tell(figure, null);
      if (!step) return;
      event.preventDefault();
      const there = shown();
      at = (at + step + there.length) % there.length;
      tell(figure, there[at]);
    });
  }

  const copies = (code, text) => {
    const button = make("button", { type: "button", className: "copy", textContent: "copy" });
    button.setAttribute("aria-label", `Copy ${text}`);
    button.addEventListener("click", async () => {
      const selection = getSelection();
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "copied";
      } catch {
        selection.selectAllChildren(code); // a page from a file may not write to the clipboard
        button.textContent = "selected";
      }
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    code.after(button);
  };
  for (const code of all("code.command")) copies(code, code.textContent);
  for (const code of all("code[data-show]")) code.title = `distill-prune show ${code.dataset.show}`;
  for (const details of all("details")) {
    details.addEventListener("toggle", () => {
      for (const code of all("code[data-show]:not(.ready)", details)) {
        code.classList.add("ready");
        copies(code, `distill-prune show ${code.dataset.show}`);
      }
    });
  }
  for (const code of all("#ticket-table code[data-show]")) copies(code, `distill-prune show ${code.dataset.show}`);

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
})();
