// How the site's search ranks what it found: as Sphinx does, but a page or section whose title has all
// the words first, lists of other libraries' models and the pages for developers after the others, and
// the changelog, which names everything once, last.
var Scorer = {
  score: ([page, title, , , score]) => {
    if (page === "project/changelog") return score - 1000;
    if (/^(zoo|develop|release)/.test(page)) score -= 20;
    const asked = new URLSearchParams(location.search).get("q") ?? "";
    const words = asked.toLowerCase().match(/[\w.]+/g) ?? [];
    return words.length && words.every((word) => title.toLowerCase().includes(word)) ? score + 30 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
