// What Material's marks lack for a screen reader and the keyboard.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search")
// Tables that are wider than the page scroll: the keyboard reaches them, too.
document$.subscribe(() => {
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap")) {
    wide.tabIndex = 0
    wide.setAttribute("role", "group")
    wide.setAttribute("aria-label", "table")
  }
  document.querySelectorAll(".md-code__nav").forEach((nav, i) => nav.setAttribute("aria-label", `code ${i + 1}`))
})
