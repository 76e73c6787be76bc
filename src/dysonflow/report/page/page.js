"use strict";

// Tables sort by the buttons in their heads and show the rows that pass their filters; figures are
// searched by their captions. Without this script all of the page is shown, in its first order.
(() => {
  const texts = new Intl.Collator("en", { numeric: true });

  function element(tag, text = "") {
    const made = document.createElement(tag);
    made.textContent = text;
    return made;
  }

  function labelled(text, field) {
    const label = element("label", text);
    label.append(field);
    return label;
  }

  function searchField(text) {
    const field = element("input");
    field.type = "search";
    return [field, labelled(text, field)];
  }

  function holds(text, words) {
    return words.every((word) => text.includes(word));
  }

  function wordsOf(field) {
    return field.value.toLowerCase().split(/\s+/).filter(Boolean);
  }

  function compare(one, other, place, isNumber) {
    const [first, second] = [one.cells[place], other.cells[place]];
    if (!isNumber) return texts.compare(first.textContent, second.textContent);
    return Number(first.dataset.value) - Number(second.dataset.value);
  }

  function isEmpty(row, place, isNumber) {
    const cell = row.cells[place];
    return isNumber ? cell.dataset.value === undefined : cell.textContent.trim() === "";
  }

  function sort(table, place, isNumber, isUp) {
    const rows = [...table.tBodies[0].rows];
    const empty = rows.filter((row) => isEmpty(row, place, isNumber));
    const full = rows.filter((row) => !isEmpty(row, place, isNumber));
    full.sort((one, other) => (isUp ? 1 : -1) * compare(one, other, place, isNumber));
    table.tBodies[0].append(...full, ...empty);
  }

  function prepare(table) {
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...table.tBodies[0].rows];
    heads.forEach((head, place) => {
      const button = element("button", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const isUp = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((one) => one.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
        sort(table, place, "number" in head.dataset, isUp);
      });
    });
    if (rows.length < 4) return;

    const content = rows.map((row) => row.textContent.toLowerCase());
    const [field, search] = searchField("Rows with the words");
    const shown = element("output");
    const controls = element("div");
    controls.className = "controls";
    controls.append(search);
    const choices = [];
    heads.forEach((head, place) => {
      if (!("choice" in head.dataset)) return;
      const choice = (row) => row.cells[place].dataset.choice ?? row.cells[place].textContent;
      const found = [...new Set(rows.map(choice))];
      if (found.length < 2 || found.length > 40) return;
      const select = element("select");
      select.append(new Option("all", "all"));
      found.sort(texts.compare).forEach((text, number) => {
        select.append(new Option(text || "(none)", String(number)));
      });
      choices.push((row) => {
        return select.value === "all" || choice(row) === found[Number(select.value)];
      });
      select.addEventListener("change", update);
      controls.append(labelled(head.textContent, select));
    });
    controls.append(shown);
    table.closest(".scroll").before(controls);
    field.addEventListener("input", update);

    function update() {
      const words = wordsOf(field);
      let count = 0;
      rows.forEach((row, number) => {
        row.hidden = !(holds(content[number], words) && choices.every((passes) => passes(row)));
        count += row.hidden ? 0 : 1;
      });
      shown.textContent = `${count} of ${rows.length} rows`;
    }
    update();
  }

  function prepareFigures(all) {
    const figures = [...all.querySelectorAll("figure")];
    const groups = [...all.querySelectorAll(".group")];
    const content = figures.map((figure) => {
      const study = figure.closest(".group").querySelector("h4").textContent;
      return `${study} ${figure.textContent}`.toLowerCase();
    });
    const [field, search] = searchField("Figures with the words");
    const shown = element("output");
    const controls = element("div");
    controls.className = "controls";
    controls.append(search, shown);
    all.prepend(controls);
    field.addEventListener("input", update);

    function update() {
      const words = wordsOf(field);
      figures.forEach((figure, number) => {
        figure.hidden = !holds(content[number], words);
      });
      groups.forEach((group) => {
        group.hidden = !group.querySelector("figure:not([hidden])");
      });
      const count = figures.filter((figure) => !figure.hidden).length;
      shown.textContent = `${count} of ${figures.length} figures`;
    }
    update();
  }

  document.querySelectorAll("table.sortable").forEach(prepare);
  document.querySelectorAll(".figures").forEach(prepareFigures);
})();
