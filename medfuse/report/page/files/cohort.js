/* Sort, filter and rate the studies of a cohort. Ratings stay in this browser, each bound to a study's result by its
   digest; they are saved as, and loaded from, a table that `medfuse cohort status` reads. */
"use strict";
(() => {
  const WORDS = ["accept", "doubtful", "reject"];
  const COLUMNS = ["study", "rating", "comment", "digest"];
  const PREFIX = `medfuse-rating:${JSON.parse(document.getElementById("cohort").textContent).id}:`;
  const MOST_BYTES = 2 ** 26;
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const byStudy = new Map(rows.map((row) => [row.dataset.study, row]));
  const told = document.getElementById("told");

  const tell = (text, isFault = false) => {
    told.textContent = text;
    told.className = isFault ? "fault" : "";
  };

  // ---- what is kept in the browser: one entry a study, so that two windows do not undo each other

  const memory = new Map();
  const keyOf = (row) => `${PREFIX}${row.dataset.study}:${row.dataset.digest}`;

  const kept = (row) => {
    let text = memory.get(keyOf(row)) ?? null;
    try {
      text = localStorage.getItem(keyOf(row)) ?? text;
    } catch { /* the browser keeps nothing: what was rated in this window counts */ }
    try {
      const found = JSON.parse(text ?? "{}");
      return {
        rating: WORDS.includes(found.rating) ? found.rating : "",
        comment: typeof found.comment === "string" ? found.comment : "",
      };
    } catch {
      return { rating: "", comment: "" };
    }
  };

  const keep = (row, said) => {
    const key = keyOf(row);
    const text = JSON.stringify(said);
    memory.set(key, text);
    try {
      if (said.rating || said.comment) localStorage.setItem(key, text);
      else localStorage.removeItem(key);
    } catch {
      tell("This browser keeps no ratings for pages from a disk, or has no space left: save ratings.tsv before you leave.", true);
    }
    if (!said.rating && !said.comment) memory.delete(key);
  };

  // ---- rating

  const showRating = (row) => {
    const said = kept(row);
    row.dataset.rating = said.rating || "unrated";
    for (const button of row.querySelectorAll("button[data-rate]")) {
      button.setAttribute("aria-pressed", String(button.dataset.rate === said.rating));
    }
    const comment = row.querySelector("textarea");
    if (comment && comment !== document.activeElement) comment.value = said.comment;
  };

  const rateable = (row) => /^[0-9a-f]{64}$/.test(row.dataset.digest);

  const addControls = (row) => {
    const cell = row.querySelector("td.rating");
    cell.hidden = false;
    if (!rateable(row)) {
      cell.textContent = "nothing to rate";
      cell.classList.add("soft");
      row.dataset.rating = "unrated";
      return;
    }
    const group = document.createElement("div");
    group.className = "rate";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", `Rating of ${row.dataset.study}`);
    for (const word of WORDS) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.rate = word;
      button.textContent = word;
      button.addEventListener("click", () => {
        const said = kept(row);
        keep(row, { ...said, rating: said.rating === word ? "" : word });
        showRating(row);
        count();
      });
      group.append(button);
    }
    const comment = document.createElement("textarea");
    comment.rows = 1;
    comment.maxLength = 2000;
    comment.placeholder = "Comment";
    comment.setAttribute("aria-label", `Comment on ${row.dataset.study}`);
    comment.addEventListener("input", () => keep(row, { ...kept(row), comment: comment.value }));
    cell.append(group, comment);
    showRating(row);
  };

  const count = () => {
    const found = Object.fromEntries([...WORDS, "unrated"].map((word) => [word, 0]));
    for (const row of rows) found[row.dataset.rating] += 1;
    document.getElementById("rated").textContent = Object.entries(found)
      .map(([word, number]) => `${number} ${word}`)
      .join(", ");
  };

  // ---- filters

  const filters = [...document.querySelectorAll("select[data-filter]")];
  const search = document.getElementById("search");

  const filter = () => {
    const text = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = filters.every(({ value, dataset }) => {
        const own = row.dataset[dataset.filter];
        return !value || (dataset.filter === "flags" ? own.split(",").includes(value) : own === value);
      });
      row.hidden = !(fits && row.dataset.study.toLowerCase().includes(text));
      shown += row.hidden ? 0 : 1;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} studies shown.`;
  };

  const showAll = () => {
    for (const select of filters) select.value = "";
    search.value = "";
    filter();
  };

  // ---- order: what has no value comes last, and equal rows stay as they are

  const sort = (head) => {
    const { sort: name } = head.dataset;
    const isNumber = "number" in head.dataset;
    const first = "downwards" in head.dataset ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? second : first;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    rows.sort((one, other) => {
      const [a, b] = [one.dataset[name] ?? "", other.dataset[name] ?? ""];
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (isNumber ? a - b : a.localeCompare(b, "en", { numeric: true }));
    });
    body.append(...rows);
  };

  // ---- tables: tabs between cells; quotes as RFC 4180 has them, which spreadsheets write

  const FORMULA = /^[=+\-@\t\r']/;
  const harmless = (text) => (FORMULA.test(text) ? `'${text}` : text);
  const withoutMark = (text) => (text[0] === "'" && FORMULA.test(text.slice(1)) ? text.slice(1) : text);
  const oneLine = (text) => text.replace(/[\p{C}\p{Z}]+/gu, " ").trim();
  const quoted = (text) => (text.includes('"') ? `"${text.replaceAll('"', '""')}"` : text);

  const save = () => {
    const lines = [COLUMNS.join("\t")];
    for (const row of [...rows].sort((a, b) => a.dataset.study.localeCompare(b.dataset.study, "en"))) {
      if (!rateable(row)) continue;
      const { rating, comment } = kept(row);
      if (!rating && !comment) continue;
      lines.push([row.dataset.study, rating, quoted(harmless(oneLine(comment))), row.dataset.digest].join("\t"));
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/tab-separated-values" }));
    link.download = "ratings.tsv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    tell(`Saved ${lines.length - 1} of ${rows.length} studies as ratings.tsv.`);
  };

  const records = (text, separator) => {
    const found = [];
    let cells = [];
    let cell = "";
    let isQuoted = false;
    let line = 1;
    let begun = 1;
    for (let place = 0; place <= text.length; place += 1) {
      const sign = place < text.length ? text[place] : "\n";
      if (isQuoted) {
        if (place === text.length) return { found, open: begun };
        if (sign === '"' && text[place + 1] === '"') { cell += '"'; place += 1; }
        else if (sign === '"') isQuoted = false;
        else cell += sign;
        if (sign === "\n") line += 1;
      } else if (sign === '"' && cell === "") isQuoted = true;
      else if (sign === separator) { cells.push(cell); cell = ""; }
      else if (sign === "\n") {
        cells.push(cell.replace(/\r$/, ""));
        if (cells.some((one) => one.trim())) found.push({ line: begun, cells });
        [cells, cell] = [[], ""];
        line += 1;
        begun = line;
      } else cell += sign;
    }
    return { found, open: 0 };
  };

  const decoded = (buffer) => {
    const [a, b] = new Uint8Array(buffer.slice(0, 2));
    const name = a === 0xff && b === 0xfe ? "utf-16le" : a === 0xfe && b === 0xff ? "utf-16be" : "utf-8";
    return new TextDecoder(name).decode(buffer).replaceAll("\r\n", "\n").replace(/\r/g, "\n");
  };

  const take = (buffer, name) => {
    const text = decoded(buffer);
    const head = text.split("\n").find((one) => one.trim()) ?? "";
    const separator = ["\t", ",", ";"].reduce((best, one) => (head.split(one).length > head.split(best).length ? one : best));
    const { found, open } = records(text, separator);
    const header = (found.shift()?.cells ?? []).map((one) => one.trim().toLowerCase());
    const missing = ["study", "rating", "digest"].find((one) => header.filter((other) => other === one).length !== 1);
    if (missing) {
      tell(`Expected one column ${missing} among ${COLUMNS.join(", ")} in the first line of ${name}, found none or several; nothing was loaded.`, true);
      return;
    }
    const faults = open ? [`Line ${open}: a quote is never closed; the lines from there were not read.`] : [];
    const said = new Map();
    let outdated = 0;
    for (const { line, cells } of found) {
      if (cells.length !== header.length) {
        faults.push(`Line ${line}: expected ${header.length} cells as in the first line, found ${cells.length}.`);
        continue;
      }
      const of = (column) => withoutMark((cells[header.indexOf(column)] ?? "").trim());
      const row = byStudy.get(of("study"));
      const asked = of("rating").toLowerCase();
      const rating = { accepted: "accept", rejected: "reject" }[asked] ?? asked;
      if (!row) faults.push(`Line ${line}: expected a study of this cohort, found a name that it has not.`);
      else if (rating && !WORDS.includes(rating)) faults.push(`Line ${line}: expected ${WORDS.join(", ")}, found another word.`);
      else if (!rateable(row) || of("digest").toLowerCase() !== row.dataset.digest) outdated += 1;
      else {
        const comment = header.includes("comment") ? oneLine(of("comment")).slice(0, 2000) : "";
        const former = said.get(row);
        if (former && (former.rating !== rating || former.comment !== comment)) {
          faults.push(`Line ${line}: expected one rating of each study, found another of the study in line ${former.line}; the first one counts.`);
        } else said.set(row, { rating, comment, line });
      }
    }
    let replaced = 0;
    for (const [row, { rating, comment }] of said) {
      const former = kept(row);
      replaced += (former.rating || former.comment) && (former.rating !== rating || former.comment !== comment) ? 1 : 0;
      keep(row, { rating, comment });
      showRating(row);
    }
    count();
    filter();
    const parts = [`Loaded the ratings of ${said.size} studies.`];
    if (replaced) parts.push(`${replaced} of them replace what was here.`);
    if (outdated) parts.push(`${outdated} are of former results, and do not count.`);
    tell([parts.join(" "), ...faults.slice(0, 20), ...(faults.length > 20 ? [`And ${faults.length - 20} more.`] : [])].join("\n"), faults.length > 0);
  };

  const load = async (input) => {
    const [file] = input.files;
    if (!file) return;
    try {
      if (file.size > MOST_BYTES) tell("Expected a file of ratings, found one of more than 64 MiB; nothing was loaded.", true);
      else take(await file.arrayBuffer(), "the file");
    } catch {
      tell("The file cannot be read; nothing was loaded.", true);
    }
    input.value = "";
  };

  // ---- begin

  for (const row of rows) addControls(row);
  for (const head of table.tHead.rows[0].cells) {
    head.hidden = false;
    if (!head.dataset.sort) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head));
    head.replaceChildren(button);
  }
  for (const select of filters) select.addEventListener("change", filter);
  search.addEventListener("input", filter);
  document.getElementById("show-all").addEventListener("click", showAll);
  document.getElementById("save").addEventListener("click", save);
  document.getElementById("load").addEventListener("change", (event) => load(event.target));
  // A link to a study that a filter hides shows it.
  const reveal = () => {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!row?.hidden) return;
    showAll();
    row.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  addEventListener("storage", (event) => {
    if (event.key !== null && !event.key.startsWith(PREFIX)) return;
    for (const row of rows) if (rateable(row)) showRating(row);
    count();
  });
  document.getElementById("controls").hidden = false;
  count();
  filter();
})();
