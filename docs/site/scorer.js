// How the site's search ranks what it found: as Sphinx does, and the changelog, which names everything
// once, behind all other pages.
var Scorer = {
  score: ([page, , , , score]) => (page === "project/changelog" ? score - 1000 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
